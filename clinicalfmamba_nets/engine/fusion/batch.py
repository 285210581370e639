"""Fuse many pairs into one folder: each case done once, each failure told, nothing half written."""

from __future__ import annotations

import contextlib
import math
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clinicalfmamba_nets.engine.fusion.inputs import (
    PUBLISHED,
    Case,
    choose_bundle,
    choose_task,
    make_folder,
    sources,
    volume_task,
)
from clinicalfmamba_nets.engine.fusion.options import FuseOptions
from clinicalfmamba_nets.engine.pictures.pair import write_preview
from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.engine.run.processes import joined_processes, merge_reports, own_cases, process_place
from clinicalfmamba_nets.engine.run.record import CaseResult, RunReport, read_outputs
from clinicalfmamba_nets.engine.run.workflows import IMAGES, VOLUMES
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import case_name, check_file, image_extension, is_dicom, printable, read_image
from clinicalfmamba_nets.io.dicom.files import find_dicom_files
from clinicalfmamba_nets.transforms.restore import SCALE_KEY

if TYPE_CHECKING:
    from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline

SECOND_NAMES = {"ct_mri": "CT", "spect_mri": "SPECT", "pet_mri": "PET", "t2_flair": "second MRI"}


class Tell(Protocol):
    """What is called after each case."""

    def __call__(
        self, number: int, total: int, result: CaseResult, seconds: float, details: Mapping[str, Any], output: Path
    ) -> None: ...


class CaseFuser:
    """Fuses the cases of one run; networks are opened when the first case needs them.

    Args:
        output_dir: folder of the results.
        options: what was asked for.
    """

    def __init__(self, output_dir: str | os.PathLike, options: FuseOptions) -> None:
        self.output_dir, self.options = Path(output_dir), options
        self.earlier = read_outputs(output_dir)
        self.pipelines: dict[tuple[str, str], FusionPipeline] = {}
        self.weights: dict[str, str] = {}

    def __call__(self, case: Case) -> tuple[CaseResult, dict[str, Any]]:
        """Fuse one case; a fault of its images becomes the status "failed", a fault of the set-up is raised."""
        result = CaseResult(case["case"], case["image"], case.get("image2", ""))
        details: dict[str, Any] = {"notes": [], "warnings": []}
        names = output_names(case, self.options.output_ext)
        try:
            task = self._prepare(case, result, details)
        except Exception as error:
            return self._failed(result, error), details
        if task is None:
            return result, details
        pipeline = self._pipeline(details["bundle"], task)
        try:
            for kind, told in self._fuse(case, task, pipeline, names).items():
                details[kind] += told
            result.status, (result.fused, result.preview) = "done", names
        except Exception as error:
            for name in names:
                with contextlib.suppress(OSError):
                    (self.output_dir / name).unlink()
            self._failed(result, error)
        return result, details

    def _prepare(self, case: Case, result: CaseResult, details: dict[str, Any]) -> str | None:
        """Judge a case before any network is opened; return its task, or None when it is done already."""
        if case.get("error"):
            raise FusionInputError(case["error"])
        names = output_names(case, self.options.output_ext)
        self._check_outputs(case, names)
        if self._is_done(case, names):
            result.status, (result.fused, result.preview) = "skipped", names
            details["task"] = self.earlier.get(case["case"], {}).get("task")
            return None
        for source in sources(case):
            if is_dicom(source):
                find_dicom_files(source)
            else:
                check_file(source, "an image file")
        bundle = self.options.bundle or choose_bundle(case["image"], self.options.task)
        details["bundle"], details["task"] = bundle, self.options.task
        if self.options.task is None:
            choose = volume_task if bundle == VOLUMES else choose_task
            details["task"], note = choose(case.get("image2", ""))
            details["notes"].append(note)
        return details["task"]

    def _failed(self, result: CaseResult, error: Exception) -> CaseResult:
        if self.options.debug:
            traceback.print_exception(error)
        known = find_input_error(error)
        result.error = " ".join(str(known or f"{result.case}: {type(error).__name__}: {error}").split())
        return result

    def _pipeline(self, bundle: str, task: str) -> FusionPipeline:
        if (bundle, task) not in self.pipelines:
            from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline

            asked = self.options
            opened = FusionPipeline(
                task, asked.device, self.output_dir, bundle, asked.output_ext, asked.register, asked.bundle_settings()
            )
            self.pipelines[bundle, task] = opened
            name = task if bundle == IMAGES else f"{bundle} {task}"
            self.weights[name] = f"{opened.weights} sha256 {opened.weights_digest()}"
        return self.pipelines[bundle, task]

    def _fuse(self, case: Case, task: str, pipeline: FusionPipeline, names: tuple[str, str]) -> dict[str, list[str]]:
        """Fuse and draw one case; return the notes and warnings about it."""
        sample = pipeline(case)
        fused, preview = (self.output_dir / name for name in names)
        if not fused.exists():
            raise input_error(
                f"bundle of task {task!r}", f"it to write {fused.name}", "no such file", "use its own configs"
            )
        preview_case(sample, case, task, preview)
        return {kind: told_texts(sample["image"].meta, kind) for kind in ("notes", "warnings")}

    def _is_done(self, case: Case, names: tuple[str, str]) -> bool:
        if self.options.overwrite or not all((self.output_dir / name).exists() for name in names):
            return False
        earlier = self.earlier.get(case["case"])
        if earlier and any(earlier.get(key) != case.get(key, "") for key in ("image", "image2")):
            found = f"it made from {printable(str(earlier.get('image')))} and {printable(str(earlier.get('image2')))}"
            raise input_error(
                self.output_dir / names[0], "the result of these images", found, "add --overwrite or change -o"
            )
        if earlier and self.options.task is not None and earlier.get("task") not in (None, self.options.task):
            found = f"that of {earlier['task']}"
            raise input_error(
                self.output_dir / names[0], f"a result of {self.options.task}", found, "add --overwrite or change -o"
            )
        return True

    def _check_outputs(self, case: Case, names: tuple[str, str]) -> None:
        """Refuse to write over an input."""
        for target in (self.output_dir / name for name in names):
            if target.exists() and any(os.path.exists(path) and target.samefile(path) for path in sources(case)):
                raise input_error(
                    target, "a place beside the inputs", "one of the inputs", "choose another folder by -o"
                )


def preview_case(sample: Mapping[str, Any], case: Case, task: str, path: str | os.PathLike) -> Path:
    """Draw both images and the fused one beside each other: of volumes three slices, of DICOM series the middle one.

    Args:
        sample: what `FusionPipeline` gave for the case.
        case: `case`, `image` and `image2`.
        task: what the images are, for the words above them.
        path: the PNG file to be written.

    Returns:
        The path that was written.
    """
    from clinicalfmamba_nets.engine.fusion.pipeline import channels_last
    from clinicalfmamba_nets.engine.fusion.volumes import middle_panels

    title = f"{printable(case['case'])} - research use only, not for diagnosis"
    if sample["image"].ndim == 4 and not sample.get("slice_wise"):
        return _preview_volumes(sample, task, title, path)
    if sample["image"].ndim == 4:
        panels = middle_panels(sample)
    else:
        panels = [sample["image"][0].numpy(), sample["image"][1].numpy(), channels_last(sample["pred"])]
        if sample["image"].meta.get("color"):
            panels[1] = read_image(case["image2"])[0]
        if image_extension(case["image"]) != ".png":  # first axis left to right, second one bottom to top
            panels = [np.rot90(panel) for panel in panels]
    labels = ("MRI", SECOND_NAMES.get(task.removesuffix(PUBLISHED), "image B"), "fused")
    return write_preview(panels[0], panels[1], panels[2], path, labels, title)


def _preview_volumes(sample: Mapping[str, Any], task: str, title: str, path: str | os.PathLike) -> Path:
    from clinicalfmamba_nets.data.datalists import MODALITIES
    from clinicalfmamba_nets.engine.pictures.volume import write_volume_preview

    first, second = sample["image"].numpy()
    low, high = (float(limit) for limit in sample["image"].meta[SCALE_KEY][0])
    fused = (sample["pred"][0].numpy() - low) / ((high - low) or 1.0)
    named = sorted(task.split("_")[:2], key=list(MODALITIES).index)  # the first volume is the one further up
    words = [*(word.upper() for word in named), "fused"]
    affine = sample["image"].affine.numpy()
    return write_volume_preview([first, second, fused.clip(0, 1)], affine, path, words, title)


def output_names(case: Case, output_ext: str = "") -> tuple[str, str]:
    """Return the names of a case's fused image and preview inside the output folder."""
    series = ".dcm" if case["image"] and is_dicom(case["image"]) else ""
    name, extension = case_name(case["case"]), output_ext or series or image_extension(case["image"]) or ".png"
    return f"{name}_fused{'' if extension == '.dcm' else extension}", f"{name}_preview.png"


def fuse_cases(
    cases: Sequence[Case],
    output_dir: str | os.PathLike,
    options: FuseOptions | None = None,
    tell: Tell | None = None,
) -> RunReport:
    """Fuse pairs one after another; what fails is reported and the rest goes on.

    Processes that `torchrun` started share the cases; the first one writes the report of all.

    Args:
        cases: entries of a data list: `case` (unlike all others), `image`, `image2` (paths).
        output_dir: folder for `<case>_fused.<ext>`, `<case>_preview.png` and `run.json`; made when it is missing.
        options: what was asked for; None for the defaults.
        tell: called after each case.

    Returns:
        The report, as it was written to `run.json`.

    Raises:
        FusionInputError: names that are not unlike, an output folder that cannot be made, missing weights.
    """
    check_names(cases)
    output = make_folder(output_dir)
    options = options or FuseOptions()
    fuser = CaseFuser(output, options)
    settings = {**options.as_dict(), "cases": len(cases), "weights": fuser.weights}
    first = process_place()[0] == 0
    report = RunReport(output, settings, interval=2.0 if first else math.inf)
    try:
        with joined_processes():
            for number, case in own_cases(cases):
                start = time.monotonic()
                result, details = fuser(case)
                seconds = round(time.monotonic() - start, 3)
                report.add(result, **details, seconds=seconds)
                if tell is not None:
                    tell(number, len(cases), result, seconds, details, output)
            merge_reports(report, cases)
    finally:
        if report.outputs and first:
            report.write()
    return report


def told_texts(meta: Mapping[str, Any], kind: str) -> list[str]:
    """Return the "notes" or "warnings" of a loaded pair as a list."""
    return [text for text in meta.get(kind, "").split("; ") if text]


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
