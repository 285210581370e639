"""The page of a run's results: every result of a folder with its sources, read again from where they were taken."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinicalfmamba_nets import __version__
from clinicalfmamba_nets.engine.fusion.case import Case, content_digest
from clinicalfmamba_nets.engine.fusion.options import BUNDLE_SETTINGS
from clinicalfmamba_nets.engine.fusion.trust import trust_scores
from clinicalfmamba_nets.engine.pictures.page import PageCase, write_pages
from clinicalfmamba_nets.engine.pictures.page_case import page_case
from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.engine.run.overrides import check_data
from clinicalfmamba_nets.engine.run.record import RUN_FILE, Records
from clinicalfmamba_nets.engine.run.workflows import read_bundle
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.files import safe_name
from clinicalfmamba_nets.spatial import match_grids
from clinicalfmamba_nets.transforms.notes import split_notes

PAGE = "view.html"
RECORDED = ("task", "bundle", "settings", "version", "time", "weights", "sha256")
_AGAIN = "fuse it again with --overwrite"
NOTICE = "Research use only: not a medical device, not for diagnosis."


class Viewing:
    """Reads the results of a folder and their sources.

    Args:
        folder: of the results, with `run.json`.
        anonymous: leave out names, paths, dates, UIDs and the free words of headers.

    Raises:
        FusionInputError: no `run.json` of fusions is there.
    """

    def __init__(self, folder: str | os.PathLike, anonymous: bool = False) -> None:
        self.folder, self.anonymous = Path(folder), anonymous
        self.report = _report(self.folder)
        self.records = Records(self.folder).as_list()
        self.failed: list[str] = []

    def facts(self) -> dict[str, Any]:
        """Return what is told of the run as a whole."""
        settings = {} if self.anonymous else dict(self.report.get("settings", {}))
        run = {"version": __version__, "notice": NOTICE, "anonymous": self.anonymous, "weights": {}}
        if not self.anonymous:
            run |= {"folder": self.folder.resolve().name, "time": self.report.get("finished") or ""}
            run["weights"] = settings.get("weights", {})
        return run

    def cases(self) -> Iterator[PageCase]:
        """Read one case after another; one that cannot be shown says why and is added to `failed`."""
        outputs = {str(entry.get("case")): entry for entry in self.report.get("outputs", [])}
        held = {str(record.get("case")): record for record in self.records}
        for number, name in enumerate(dict.fromkeys([*outputs, *held]), 1):
            told, record = outputs.get(name, {}), held.get(name)
            case = self._shown(name, record, told) if record else PageCase({"status": "failed"})
            if record is None:
                case.facts["error"] = "" if self.anonymous else str(told.get("error") or "no result")
            case.facts["name"] = f"case {number}" if self.anonymous else name
            yield case

    def _shown(self, name: str, record: Mapping[str, Any], told: Mapping[str, Any]) -> PageCase:
        try:
            return self._read(record, told)
        except Exception as error:
            known = find_input_error(error)
            text = " ".join(str(known or f"{type(error).__name__}: {error}").split())
            self.failed.append(f"{name}: {text}")
            shown = "its images cannot be read any more" if self.anonymous else text
            return PageCase({"status": "not shown", "error": shown})

    def _read(self, record: Mapping[str, Any], told: Mapping[str, Any]) -> PageCase:
        entry = {"case": record["case"], "image": record["image"]}
        case = Case.of(entry | ({"image2": record["image2"]} if record.get("image2") else {}))
        _check_unchanged(case, record)
        sample, raw = load_pair(case, record)
        sample["pred"] = self._fused(record, sample["image"])
        details = self.report.get("details", {}).get(record["case"], {})
        named = self.report.get("settings", {}).get("task") if told else None
        known = {key: details.get(key) for key in ("scores", "warnings", "notes")} | {"fused": record["fused"]}
        facts = told_facts(case, sample, record, named) | {key: value for key, value in known.items() if value}
        facts["status"] = told.get("status", "done")
        return page_case(sample, raw, facts, self._share(record, sample["image"]), self.anonymous)

    def _fused(self, record: Mapping[str, Any], image: Any) -> torch.Tensor:
        """Read the result on the grid of the pair: (1, *spatial), or (3, *spatial) in color."""
        path = self.folder / record["fused"]
        array, info = read_image(path)
        if content_digest(path) != record.get("sha256", {}).get("fused"):
            raise input_error(path, "the result of this case", "one that was changed since", _AGAIN)
        color = bool(info["color"])
        planes = np.moveaxis(array, -1, 0) if color else array[None]
        planes = _on_grid(planes, info, image, str(path))
        return torch.from_numpy(
            np.ascontiguousarray(planes.astype(np.uint8 if color and array.dtype == np.uint8 else np.float32))
        )

    def _share(self, record: Mapping[str, Any], image: Any) -> NDArray | None:
        """Read how much of A is in each pixel, (*spatial) in [0, 1], where the network told it."""
        if not (record.get("settings") or {}).get("weights_map"):
            return None  # what lies there is of another run
        for path in sorted(self.folder.glob(f"{glob.escape(safe_name(str(record['case'])))}_weights.*")):
            array, info = read_image(path)
            white = float(info["value_range"] or 1.0)
            return _on_grid(array[None], info, image, str(path))[0].astype(np.float32) / white
        return None


def write_view(folder: str | os.PathLike, anonymous: bool = False, name: str = PAGE) -> tuple[list[Path], list[str]]:
    """Write the page of the results in a folder, beside them.

    Args:
        folder: of the results, with `run.json`.
        anonymous: see `Viewing`.
        name: of the page.

    Returns:
        The files that were written, and why cases could not be shown, one line each.

    Raises:
        FusionInputError: no `run.json` of fusions is there, or it tells of no case.
    """
    viewing = Viewing(folder, anonymous)
    if not viewing.records and not viewing.report.get("outputs"):
        raise input_error(Path(folder) / RUN_FILE, "results to show", "none", "fuse images into this folder first")
    return write_pages(Path(folder) / name, viewing.cases(), viewing.facts()), viewing.failed


def write_case_page(path: Path, case: Case, sample: Mapping[str, Any], made_by: Mapping[str, Any]) -> Path:
    """Write the page of a single case that was just fused, for programs that keep no `run.json`.

    Args:
        path: the HTML file.
        case: its images in the order in which they were fused.
        sample: what `FusionPipeline` returned for it.
        made_by: `task`, `bundle`, `settings` (those of the bundle, by name) and `weights` (their SHA-256).

    Returns:
        The path.
    """
    _, raw = load_pair(case, made_by)
    facts = told_facts(case, sample, made_by, None) | {"name": case.name}
    write_pages(path, [page_case(sample, raw, facts)], {"version": __version__, "notice": NOTICE})
    return path


def told_facts(case: Case, sample: Mapping[str, Any], record: Mapping[str, Any], named: str | None) -> dict[str, Any]:
    """Return what a page tells of a case; `named` is the task that the user named."""
    return {
        "status": "done",
        "labels": list(case.labels(named)),
        "scores": trust_scores(sample),
        "warnings": _texts(sample, "warnings"),
        "notes": _texts(sample, "notes"),
        "record": {key: record[key] for key in RECORDED if key in record},
        "sources": [source.path for source in case.sources],
    }


def load_pair(case: Case, record: Mapping[str, Any]) -> tuple[dict[str, Any], NDArray]:
    """Load a pair as it was fused, by the preprocessing of its bundle.

    Args:
        case: its images in the order in which they were fused.
        record: its `task`, `bundle` and `settings`.

    Returns:
        The entry with `image`, (2, *spatial) in [0, 1] with its meta; and both images in their units, (2, *spatial).
    """
    from clinicalfmamba_nets.engine.fusion.pipeline import user_errors_alone
    from clinicalfmamba_nets.transforms import LoadImagePaird

    kept = record.get("settings") or {}
    asked = {name: kept[name] for name in (*BUNDLE_SETTINGS, "register") if kept.get(name) not in (None, False, "none")}
    parsed = read_bundle(record["bundle"], "inference", overrides=check_data({"task": record["task"], **asked}))
    sample: dict[str, Any] = case.entry()
    raw = np.zeros(0)
    with user_errors_alone():
        for step in parsed.get_parsed_content("preprocessing").transforms:
            sample = step(sample)
            if isinstance(step, LoadImagePaird):
                raw = sample["image"].numpy().copy()
    return sample, raw


def _on_grid(planes: NDArray, info: Mapping[str, Any], image: Any, name: str) -> NDArray:
    shape = tuple(image.shape[1:])
    if planes.shape[1:] == (*shape, 1):  # a DICOM series of one slice
        planes = planes[..., 0]
    affine = info["affine"]
    reference = None if affine is None else image.affine.numpy()
    names, known = ("the first image", name), (str(image.meta.get("coordinates") or "patient"),) * 2
    return np.stack([match_grids(plane, affine, shape, reference, names, known)[0] for plane in planes])


def _texts(sample: Mapping[str, Any], kind: str) -> list[str]:
    return split_notes(sample["image"].meta.get(kind))


def _check_unchanged(case: Case, record: Mapping[str, Any]) -> None:
    """Refuse sources that are not those that were fused."""
    for source in case.sources:
        source.check()
    sums = record.get("sha256", {})
    for (key, value), source in zip(case.identity().items(), case.sources, strict=True):
        if sums.get(key) != value:
            raise input_error(source.path, "the image that was fused", "one that was changed since", _AGAIN)


def _report(folder: Path) -> dict[str, Any]:
    path = folder / RUN_FILE
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = None
    if not isinstance(report, dict) or not _is_told(report):
        raise input_error(path, "the report of a fusion", "none", "name the folder that fuse wrote to (-o)")
    return report


def _is_told(report: Mapping[str, Any]) -> bool:
    """Whether a report has outputs, and what else it has is of the right kind."""
    outputs, groups = report.get("outputs"), [report.get(name, {}) for name in ("settings", "details")]
    entries = outputs if isinstance(outputs, list) else [None]
    return all(isinstance(part, Mapping) for part in (*entries, *groups))
