"""Fuse many pairs into one folder: each case done once, each failure told, nothing half written."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clinicalfmamba_nets.engine.failures import find_input_error
from clinicalfmamba_nets.engine.preview import write_preview
from clinicalfmamba_nets.engine.report import CaseResult, RunReport, read_outputs
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import case_name, check_file, image_extension, printable, read_image

if TYPE_CHECKING:
    from clinicalfmamba_nets.engine.fuse import FusionPipeline

PUBLISHED = "_published"
SECOND_NAMES = {"ct_mri": "CT", "spect_mri": "SPECT", "pet_mri": "PET"}
Case = Mapping[str, str]


class Tell(Protocol):
    """What is called after each case."""

    def __call__(
        self, number: int, total: int, result: CaseResult, seconds: float, notes: Sequence[str], output: Path
    ) -> None: ...


def choose_task(image2: str | os.PathLike) -> tuple[str, str]:
    """Choose a task by the second image: grey means CT; color means SPECT, or PET where its name or folder says so.

    Args:
        image2: path of the second image; empty where one file holds both images.

    Returns:
        The task, and a sentence that tells the user about the choice.

    Raises:
        FusionInputError: the image cannot be read.
    """
    path = os.fsdecode(image2)
    if not path or not read_image(path)[1]["color"]:
        return "ct_mri", "the second image is grey: taken as ct_mri; --task names another"
    words = re.split(r"[^a-z]+", "/".join(Path(path).parts[-2:]).lower())
    if "pet" in words:
        return "pet_mri", "the second image is in color and named PET: taken as pet_mri; --task names another"
    return "spect_mri", "the second image is in color: taken as spect_mri; for a PET add --task pet_mri"


class CaseFuser:
    """Fuses the cases of one run; networks are opened when the first case needs them.

    Args:
        output_dir: folder of the results.
        task: the task of all cases, None to choose it case by case.
        device: where the networks run, None for the bundle's own choice.
        overwrite: fuse again what is there.
    """

    def __init__(
        self, output_dir: str | os.PathLike, task: str | None = None, device: str | None = None, overwrite: bool = False
    ) -> None:
        self.output_dir, self.task, self.device, self.overwrite = Path(output_dir), task, device, overwrite
        self.earlier = read_outputs(output_dir)
        self.pipelines: dict[str, FusionPipeline] = {}
        self.weights: dict[str, str] = {}

    def __call__(self, case: Case) -> tuple[CaseResult, dict[str, Any]]:
        """Fuse one case; a fault of its images becomes the status "failed", a fault of the set-up is raised."""
        result = CaseResult(case["case"], case["image"], case.get("image2", ""), error=case.get("error"))
        names = output_names(case)
        details: dict[str, Any] = {"notes": []}
        if result.error:
            return result, details
        try:
            self._check_outputs(case, names)
            if self._is_done(case, names):
                result.status, (result.fused, result.preview) = "skipped", names
                details["task"] = self.earlier.get(case["case"], {}).get("task")
                return result, details
            for source in sources(case):
                check_file(source, "an image file")
            task = self._choose(case, details)
        except FusionInputError as error:
            result.error = str(error)
            return result, details
        pipeline = self._pipeline(task)
        try:
            details["notes"] += self._fuse(case, task, pipeline, names)
            result.status, (result.fused, result.preview) = "done", names
        except Exception as error:
            for name in names:
                (self.output_dir / name).unlink(missing_ok=True)
            known = find_input_error(error)
            result.error = str(known) if known else f"{case['case']}: {type(error).__name__}: {error}"
        return result, details

    def _choose(self, case: Case, details: dict[str, Any]) -> str:
        details["task"] = self.task
        if self.task is None:
            details["task"], note = choose_task(case.get("image2", ""))
            details["notes"].append(note)
        return details["task"]

    def _pipeline(self, task: str) -> FusionPipeline:
        if task not in self.pipelines:
            from clinicalfmamba_nets.engine.fuse import FusionPipeline

            self.pipelines[task] = FusionPipeline(task, self.device, self.output_dir)
            self.weights[task] = f"{self.pipelines[task].weights} sha256 {self.pipelines[task].weights_digest()}"
        return self.pipelines[task]

    def _fuse(self, case: Case, task: str, pipeline: FusionPipeline, names: tuple[str, str]) -> list[str]:
        """Fuse and draw one case; return what the loader had to tell about it."""
        from clinicalfmamba_nets.engine.fuse import channels_last

        sample = pipeline(case)
        fused, preview = (self.output_dir / name for name in names)
        if not fused.is_file():
            raise input_error(
                f"bundle of task {task!r}", f"it to write {fused.name}", "no such file", "use its own configs"
            )
        panels = [sample["image"][0].numpy(), sample["image"][1].numpy(), channels_last(sample["pred"])]
        if sample["image"].meta.get("color"):
            panels[1] = read_image(case["image2"])[0]
        if image_extension(case["image"]) != ".png":  # first axis left to right, second one bottom to top
            panels = [np.rot90(panel) for panel in panels]
        labels = ("MRI", SECOND_NAMES.get(task.removesuffix(PUBLISHED), "image B"), "fused")
        title = f"{printable(case['case'])} - research use only, not for diagnosis"
        write_preview(panels[0], panels[1], panels[2], preview, labels, title)
        return list(filter(None, sample["image"].meta.get("notes", "").split("; ")))

    def _is_done(self, case: Case, names: tuple[str, str]) -> bool:
        if self.overwrite or not all((self.output_dir / name).is_file() for name in names):
            return False
        earlier = self.earlier.get(case["case"])
        if earlier and any(earlier.get(key) != case.get(key, "") for key in ("image", "image2")):
            found = f"it made from {printable(str(earlier.get('image')))} and {printable(str(earlier.get('image2')))}"
            raise input_error(
                self.output_dir / names[0], "the result of these images", found, "add --overwrite or change -o"
            )
        if earlier and self.task is not None and earlier.get("task") not in (None, self.task):
            found = f"that of {earlier['task']}"
            raise input_error(
                self.output_dir / names[0], f"a result of {self.task}", found, "add --overwrite or change -o"
            )
        return True

    def _check_outputs(self, case: Case, names: tuple[str, str]) -> None:
        """Refuse to write over an input."""
        for target in (self.output_dir / name for name in names):
            if target.exists() and any(os.path.exists(path) and target.samefile(path) for path in sources(case)):
                raise input_error(
                    target, "a place beside the inputs", "one of the inputs", "choose another folder by -o"
                )


def sources(case: Case) -> list[str]:
    """Return the files of a case: two, or one that holds both images."""
    return [case[key] for key in ("image", "image2") if case.get(key)]


def output_names(case: Case) -> tuple[str, str]:
    """Return the names of a case's fused image and preview inside the output folder."""
    name, extension = case_name(case["case"]), image_extension(case["image"]) or ".png"
    return f"{name}_fused{extension}", f"{name}_preview.png"


def fuse_cases(
    cases: Sequence[Case],
    output_dir: str | os.PathLike,
    task: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
    tell: Tell | None = None,
) -> RunReport:
    """Fuse pairs one after another; what fails is reported and the rest goes on.

    Args:
        cases: entries of a data list: `case` (unlike all others), `image`, `image2` (paths).
        output_dir: folder for `<case>_fused.<ext>`, `<case>_preview.png` and `run.json`; made when it is missing.
        task: task of all cases; None to choose by the second image.
        device: where the network runs; None for the bundle's own choice.
        overwrite: fuse again what the folder already holds; otherwise such cases are skipped.
        tell: called after each case.

    Returns:
        The report, as it was written to `run.json`.

    Raises:
        FusionInputError: names that are not unlike, an output folder that cannot be made, missing weights.
    """
    check_names(cases)
    output = make_folder(output_dir)
    fuser = CaseFuser(output, task, device, overwrite)
    settings = {"task": task, "device": device, "overwrite": overwrite, "cases": len(cases), "weights": fuser.weights}
    report = RunReport(output, settings)
    try:
        for number, case in enumerate(cases, 1):
            start = time.monotonic()
            result, details = fuser(case)
            seconds = round(time.monotonic() - start, 3)
            report.add(result, **details, seconds=seconds)
            if tell is not None:
                tell(number, len(cases), result, seconds, details["notes"], output)
    finally:
        if report.outputs:
            report.write()
    return report


def make_folder(path: str | os.PathLike) -> Path:
    """Make the output folder.

    Raises:
        FusionInputError: something else has its name, or it cannot be written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = error.strerror or "an error"
        raise input_error(printable(folder), "a folder for the results", found, "name another one by -o") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise input_error(printable(folder), "a folder to write to", "no permission", "name another one by -o")
    return folder


def check_names(cases: Sequence[Case]) -> None:
    """Refuse an empty list, and cases whose results would replace each other.

    Raises:
        FusionInputError: naming the case.
    """
    if not cases:
        raise input_error("the list of pairs", "at least one pair", "none", "name the images to fuse")
    seen: set[str] = set()
    for case in cases:
        name = case["case"]
        if not name or name != os.path.basename(name) or name in (".", "..") or "\0" in name:
            raise input_error(f"case {printable(name)!r}", "a plain file name", "a path", "rename the case")
        if name in seen:
            raise input_error(
                f"case {printable(name)!r}", "a name of its own for each pair", "it twice", "name the cases"
            )
        seen.add(name)


def collect_cases(inputs: Sequence[str], datalist: str | None = None) -> list[dict[str, str]]:
    """Turn arguments into cases: two images, one folder of pairs, or a data list.

    Raises:
        FusionInputError: a file or list that cannot be used.
    """
    if datalist is not None:
        from clinicalfmamba_nets.data import load_datalist

        return load_datalist(datalist, strict=False)
    if len(inputs) == 1:
        from clinicalfmamba_nets.data import folder_datalist

        return folder_datalist(inputs[0])
    image, image2 = (os.path.abspath(path) for path in inputs)
    return [{"case": case_name(image), "image": image, "image2": image2}]


def phantom_case(output_dir: str | os.PathLike, task: str = "ct_mri") -> dict[str, str]:
    """Compute the head phantom into the folder `phantom` of the output folder and return the pair as a case."""
    from clinicalfmamba_nets.data.phantom import write_phantom_pair

    folder = make_folder(Path(output_dir) / "phantom")
    image, image2 = write_phantom_pair(folder, task.removesuffix(PUBLISHED))
    return {"case": "phantom", "image": os.path.abspath(image), "image2": os.path.abspath(image2)}
