"""Fuse many pairs into one folder: each case done once, each failure told, nothing half written."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from clinicalfmamba_nets.engine.fusion.case import Case, file_digest
from clinicalfmamba_nets.engine.fusion.inputs import make_folder
from clinicalfmamba_nets.engine.fusion.options import FuseOptions
from clinicalfmamba_nets.engine.fusion.remote import fuse_remote
from clinicalfmamba_nets.engine.fusion.results import Results, check_names, color_name, only_run, set_name
from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.engine.run.processes import joined_processes, merge_reports, own_cases, process_rank
from clinicalfmamba_nets.engine.run.record import CaseResult, RunReport
from clinicalfmamba_nets.engine.run.tasks import IMAGES, bundle_of, bundle_tasks, find_task, never_seen, weights_path
from clinicalfmamba_nets.engine.run.workflows import find_bundle
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import printable

if TYPE_CHECKING:
    from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline

CONTACT_SHEET = "contact_sheet.png"


class Tell(Protocol):
    """What is called after each case."""

    def __call__(
        self, number: int, total: int, result: CaseResult, seconds: float, details: Mapping[str, Any], output: Path
    ) -> None: ...


class CaseFuser:
    """Fuses the cases of one run; networks are opened when the first case needs them.

    Args:
        results: the folder of the results.
        options: what was asked for.
        prepare: called before the first network is opened.
    """

    def __init__(self, results: Results, options: FuseOptions, prepare: Callable[[], Any] | None = None) -> None:
        self.results, self.options, self.prepare = results, options, prepare
        self.pipelines: dict[tuple[str, str], FusionPipeline] = {}
        self.weights: dict[str, str] = {}
        self.choices: dict[str, bool] = {}  # why each task was taken, and whether that was told
        self._sums: dict[Path, str] = {}

    def __call__(self, case: Case) -> tuple[CaseResult, dict[str, Any]]:
        """Fuse one case; a fault of its images becomes the status "failed", a fault of the set-up is raised."""
        result = CaseResult(case.name, case.first.path, case.second.path if case.second else "")
        details: dict[str, Any] = {"notes": [], "warnings": []}
        try:
            case, made_by = self._prepare(case, details)
            names = self.results.names(case)
            if self.results.is_done(case, made_by, self.options.overwrite):
                result.status, (result.fused, result.preview) = "skipped", names
                return result, details
        except Exception as error:
            return self.tell_failure(result, error), details
        pipeline = self._pipeline(details["bundle"], details["task"])
        try:
            self._fuse(case, pipeline, made_by, details)
            result.status, (result.fused, result.preview) = "done", names
        except Exception as error:
            self.tell_failure(result, error)
        return result, details

    def _prepare(self, case: Case, details: dict[str, Any]) -> tuple[Case, dict[str, Any]]:
        """Judge a case before any network is opened; return it, its images in order, and what would make its result."""
        if case.error:
            raise FusionInputError(case.error)
        for source in case.sources:
            source.check()
        details["notes"] += case.notes
        details["warnings"] += case.warnings
        task, bundle = self.options.task, self.options.bundle
        if task is None:
            task, note = case.task()
            if bundle and task not in bundle_tasks(bundle):
                task, note = bundle_tasks(bundle)[0], f"taken as {bundle_tasks(bundle)[0]}; --task names another"
            details["notes"].append(note)
            self.choices.setdefault(note, False)
        bundle = bundle or bundle_of(task, case.first.is_volume)
        details["bundle"], details["task"] = bundle, task
        case, warning = case.in_order(task)
        told = find_task(task).warning, warning, never_seen(task, case.words)
        details["warnings"] += [text for text in told if text]
        _check_format(case, self.options.output_ext)
        made_by = {"task": task, "bundle": bundle, "settings": self.options.image_settings()}
        return case, made_by | {"weights": self.weights_digest(bundle, task)}

    def tell_failure(self, result: CaseResult, error: Exception) -> CaseResult:
        """Put the cause of a failure into the outcome of a case, in one line."""
        if self.options.debug:
            traceback.print_exception(error)
        known = find_input_error(error)
        told = str(known or f"{result.case}: {type(error).__name__}: {error}")
        result.error = " ".join("; ".join([told, *getattr(error, "__notes__", [])]).split())
        return result

    def weights_digest(self, bundle: str, task: str) -> str:
        """Return the SHA-256 of the weights of a task, "" where there are none."""
        path = Path(weights_path(find_bundle(bundle), task, bundle))
        if path not in self._sums:
            self._sums[path] = file_digest(path) if path.is_file() else ""
        return self._sums[path]

    def _pipeline(self, bundle: str, task: str) -> FusionPipeline:
        if (bundle, task) not in self.pipelines:
            from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline

            if self.prepare is not None and not self.pipelines:
                self.prepare()
            opened = FusionPipeline.of(self.options, task, bundle, self.results.folder)
            self.pipelines[bundle, task] = opened
            name = task if bundle == IMAGES else f"{bundle} {task}"
            self.weights[name] = f"{opened.weights} sha256 {opened.weights_digest()}"
        return self.pipelines[bundle, task]

    def _fuse(self, case: Case, pipeline: FusionPipeline, made_by: dict[str, Any], details: dict[str, Any]) -> None:
        """Fuse and draw one case into the folder of the results, and keep what the loader had to tell about it."""
        from clinicalfmamba_nets.engine.fusion.fusion_set import drop_fusion_set, write_fusion_set
        from clinicalfmamba_nets.engine.fusion.trust import trust_scores
        from clinicalfmamba_nets.transforms.notes import split_notes  # its room loads torch and MONAI
        from clinicalfmamba_nets.transforms.restore import FACTS_KEY

        record = {**case.entry(), **made_by, "weights": pipeline.weights_digest()}
        record |= {"remote": case.remote.identity()} if case.remote else {}
        names = self.results.names(case)
        with self.results.made(case, record) as draft:
            sample = pipeline(case.entry(), draft)
            if not (draft / names[0]).exists():
                raise input_error(
                    f"bundle of task {made_by['task']!r}",
                    f"it to write {names[0]}",
                    "no such file",
                    "use its own configs",
                )
            preview_case(sample, case, self.options.task, draft / names[1], self.options.slices)
            meta = sample["image"].meta
            colored = color_name(case.name, self.results.extension(case))
            if (draft / colored).exists():
                details["fused_color"] = colored
            for item in draft.glob("*_weights.*"):
                details["weights_map"] = item.name
            series = self.results.extension(case) == ".dcm"
            told = write_fusion_set(sample, case, draft, self.options.presentation, series, self.results.folder)
            if (draft / set_name(case.name)).exists():
                details["presentation"] = set_name(case.name)
            details["intensity"] = json.loads(meta.get(FACTS_KEY, "[]"))
            details["scores"], details["labels"] = trust_scores(sample), case.labels(self.options.task)
            for kind in ("notes", "warnings"):
                details[kind] += split_notes(meta.get(kind))
            details["notes"] += told
        if "presentation" not in details:
            drop_fusion_set(case, self.results.folder)
        details["sha256"] = record["sha256"]


def _check_format(case: Case, extension: str) -> None:
    """Refuse a format that cannot hold the result of a case, before it is fused.

    Raises:
        FusionInputError: a DICOM series asked of other images, or a PNG of a volume.
    """
    first = case.first
    if extension == ".dcm" and not first.is_series:
        found, remedy = "an image of another format", "write NIfTI or PNG instead (--format)"
        raise input_error(printable(first.path), "a DICOM series to derive from", found, remedy)
    if extension == ".png" and first.is_volume:
        raise input_error(
            printable(first.path), "an image for .png", "a volume", "write NIfTI instead (--format nifti)"
        )


def preview_case(
    sample: Mapping[str, Any], case: Case, task: str | None, path: str | os.PathLike, slices: str | None = None
) -> Path:
    """Draw both images, the fused one and what it adds; of volumes and DICOM series some slices.

    Args:
        sample: what `FusionPipeline` gave for the case.
        case: the case, its images in the order in which they were fused.
        task: what the user said that the images are; None for nothing.
        path: the PNG file to be written.
        slices: which slices of a volume; see `choose_planes`.

    Returns:
        The path that was written.
    """
    from clinicalfmamba_nets.engine.pictures.preview import write_preview_of

    return write_preview_of(sample, case.labels(task), path, printable(case.name), slices)


def fuse_cases(
    cases: Sequence[Case | Mapping[str, Any]],
    output_dir: str | os.PathLike,
    options: FuseOptions | None = None,
    tell: Tell | None = None,
    others: Sequence[str | os.PathLike] = (),
    prepare: Callable[[], Any] | None = None,
) -> RunReport:
    """Fuse pairs one after another; what fails is reported and the rest goes on.

    Processes that `torchrun` started share the cases; the first one writes the report of all.

    Args:
        cases: cases, or entries of a data list: `case` (unlike all others), `image`, `image2` (paths).
        output_dir: folder for `<case>_fused.<ext>`, `<case>_preview.png` and `run.json`; made when it is missing.
        options: what was asked for; None for the defaults.
        tell: called after each case.
        others: further files that the run reads, such as its data list; nothing is written over them.
        prepare: called before the first network is opened, for what a program wants of its own process.

    Returns:
        The report, as it was written to `run.json`.

    Raises:
        FusionInputError: names that are not unlike, an output folder that cannot be made, missing weights.
    """
    options, chosen = options or FuseOptions(), [Case.of(case) for case in cases]
    if options.presentation == "always":
        from clinicalfmamba_nets.io.dicom.presentation import require_highdicom

        require_highdicom()
    check_names(chosen)
    rank, count = process_rank()
    output = make_folder(output_dir)
    with only_run(output) if rank == 0 else contextlib.nullcontext():
        results = Results(output, chosen, options.output_ext, [Path(path) for path in others])
        fuser = CaseFuser(results, options, prepare)
        settings = {**options.as_dict(), "cases": len(chosen), "weights": fuser.weights}
        report = RunReport(output, settings, math.inf if rank else 2.0, results.records)
        finished = False
        try:
            with joined_processes():
                for number, case in own_cases(chosen):
                    _fuse_one(fuser, case, report, tell, (number, len(chosen)))
                merge_reports(report, [case.name for case in chosen])
            finished = True
        finally:
            if report.outputs and rank == 0:
                results.records.reload()
                report.write(finished)
                results.records.settle()
    return report


def write_overview(report: RunReport) -> Path | None:
    """Write `contact_sheet.png` of all previews of a run of several cases; return where, None for a single one."""
    from clinicalfmamba_nets.engine.pictures.contact_sheet import write_sheet_of_previews

    folder = report.path.parent
    previews = [folder / result.preview for result in report.outputs if result.preview]
    previews = [path for path in previews if path.is_file()]
    if len(previews) < 2:
        return None
    write_sheet_of_previews(previews, folder / CONTACT_SHEET)
    return folder / CONTACT_SHEET


def _fuse_one(fuser: CaseFuser, case: Case, report: RunReport, tell: Tell | None, place: tuple[int, int]) -> None:
    """Fuse one case, put its outcome into the report and tell it."""
    start = time.monotonic()
    result, details = fuser(case) if case.remote is None else fuse_remote(fuser, case)
    case.close()
    seconds = round(time.monotonic() - start, 3)
    labels = details.pop("labels", None)  # in the order in which they were fused
    report.add(result, **details, seconds=seconds)
    if fuser.options.scores and details.get("scores"):
        from clinicalfmamba_nets.engine.fusion.trust import scores_text

        details = details | {"scores_text": scores_text(details["scores"], labels)}
    if tell is not None:
        notes = [text for text in details["notes"] if not fuser.choices.get(text, False)]
        fuser.choices |= {text: True for text in notes if text in fuser.choices}  # once a run
        told = {"notes": notes, "choices": list(fuser.choices)}
        tell(*place, result, seconds, details | told, fuser.results.folder)
