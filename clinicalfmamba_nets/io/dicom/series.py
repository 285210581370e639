"""The series of a study: files put together, contrasts told apart, each judged, listed and chosen."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.dicom.files import SELECTOR, find_dicom_files, split_selector
from clinicalfmamba_nets.io.dicom.geometry import place_slices
from clinicalfmamba_nets.io.dicom.header import MARKS, Header, Slice, read_header
from clinicalfmamba_nets.io.dicom.kinds import image_problem, is_image
from clinicalfmamba_nets.io.files import PathLike, printable

_REMEDY = "choose one by its number (#1), SeriesNumber, UID, modality or rule (EchoTime=11)"


@dataclass
class Series:
    """One volume of a study, or what should be one: its headers, its slices in order, and what is wrong with it."""

    row: int
    header: Header
    slices: list[Slice]
    headers: dict[Path, Header]
    split: str = ""
    affine: np.ndarray | None = None
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    image: bool = True

    @property
    def selector(self) -> str:
        """Words that choose this series alone, for `folder::selector`."""
        return ",".join(filter(None, [self.header.series or f"#{self.row}", self.split]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        return self.header.columns, self.header.rows, len(self.slices)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of columns, rows and slices in mm; empty without a place in space."""
        if self.affine is None:
            return ()
        return tuple(float(side) for side in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def name(self) -> str:
        """Row, modality, number, description, contrast and size, to tell it from others."""
        head, size = self.header, " x ".join(map(str, self.shape))
        words = [f"#{self.row}", head.modality or "?", head.number or "-", head.description or "-", self.split, size]
        return " ".join(filter(None, words))

    def text(self) -> str:
        """One line for a terminal: what it is, the distances of its voxels, and what is wrong or to be known."""
        spacing = " x ".join(f"{side:.4g}" for side in self.spacing)
        told = f"PROBLEM: {self.problem}" if self.problem else "; ".join(self.notes) or "ok"
        return "  ".join(filter(None, [self.name, spacing and f"{spacing} mm", told]))


def list_series(path: PathLike | Sequence[PathLike]) -> list[Series]:
    """Find the series of a folder, DICOMDIR, file or list of files, without reading any pixels.

    Args:
        path: where they are; a selector behind `::` is ignored here.

    Returns:
        One entry for each series and contrast, sorted by series number; those that cannot be read have `problem`.

    Raises:
        FusionInputError: nothing is there, or none of it is DICOM.
    """
    files, notes, absent = find_dicom_files(path)
    headers, broken = [], []
    for file in files:
        try:
            headers.append(read_header(file))
        except FusionInputError as error:
            broken.append(str(error))
    if not headers:
        raise FusionInputError(broken[0])
    groups: dict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series, "" if header.series else str(header.path)].append(header)
    rows = [row for group in groups.values() for row in _rows(group)]
    rows.sort(key=lambda row: (_number(row.header.number), row.header.series, row.split))
    lost = {file.parent: file for file in absent}
    for number, row in enumerate(rows, 1):
        row.row = number
        row.notes += notes if row.image else []
        near = next((lost[item.path.parent] for item in row.slices if item.path.parent in lost), None)
        if near and row.image:
            what = f"no {printable(near.name)}, which the DICOMDIR names"
            row.problem = row.problem or f"expected all its files, found {what}; copy the whole medium"
        if broken and row.image:  # nobody can tell to which series a file without a header belongs
            name, _, rest = broken[0].partition(": ")
            row.problem = row.problem or f"{rest} ({name})"
    return rows


def _number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.lstrip("-").isdigit() else (10**9, text)


def _rows(headers: list[Header]) -> list[Series]:
    """Split one series into its contrasts and judge each."""
    slices = [item for header in headers for item in header.slices]
    known = {header.path: header for header in headers}
    return [_series(part, known, split) for split, part in _contrasts(slices)]


def _series(slices: list[Slice], known: dict[Path, Header], split: str) -> Series:
    headers = {item.path: known[item.path] for item in slices}
    first = known[slices[0].path]
    series = Series(0, first, slices, headers, split, image=all(is_image(header) for header in headers.values()))
    series.problem = next(filter(None, (image_problem(header) for header in headers.values())), "")
    series.problem = series.problem or _unlike(list(headers.values())) or _repeated(slices)
    if not series.problem:
        placed = place_slices(slices)
        series.slices, series.affine, series.problem, series.notes = (
            placed.slices, placed.affine, placed.problem, placed.notes,
        )  # fmt: skip
        series.header = known[series.slices[0].path]
    if not series.problem:
        series.notes += _missing_notes(series)
    return series


def _contrasts(slices: list[Slice]) -> list[tuple[str, list[Slice]]]:
    """Split slices by echo time always, by another mark only where slices lie on each other and it sorts them out."""
    groups = _by_mark(slices, "EchoTime")
    if len(groups) > 1:
        return groups
    if len(_places(slices)) == len(slices) or None in _places(slices):
        return [("", slices)]
    for mark in MARKS:
        groups = _by_mark(slices, mark)
        sizes = {len(part) for _, part in groups}
        if (
            len(groups) > 1
            and len(sizes) == 1
            and max(sizes) > 1
            and all(len(_places(part)) == len(part) for _, part in groups)
        ):
            return groups
    return [("", slices)]


def _places(slices: list[Slice]) -> set:
    return {None if item.position is None else tuple(np.round(item.position, 2)) for item in slices}


def _by_mark(slices: list[Slice], mark: str) -> list[tuple[str, list[Slice]]]:
    groups: dict[str, list[Slice]] = defaultdict(list)
    for item in slices:
        value = item.marks.get(mark, "")
        groups[f"{value:g}" if isinstance(value, float) else value].append(item)
    if len(groups) == 1:
        return [("", slices)]
    ordered = sorted(groups.items(), key=lambda entry: (entry[1][0].marks.get(mark, "") == "", len(entry[0]), entry[0]))
    return [(f"{mark}={value}", part) for value, part in ordered]


def _unlike(headers: list[Header]) -> str:
    """Find files that cannot be slices of one volume whatever their places."""
    for key, tag in (
        ("rows", "Rows (0028,0010)"),
        ("columns", "Columns (0028,0011)"),
        ("samples", "SamplesPerPixel (0028,0002)"),
        ("photometric", "PhotometricInterpretation (0028,0004)"),
        ("frame_of_reference", "FrameOfReferenceUID (0020,0052)"),
        ("study", "StudyInstanceUID (0020,000D)"),
    ):
        values = {getattr(header, key): header.path for header in headers}
        if len(values) > 1:
            found = " and ".join(
                f"{value or 'none'} ({printable(path.name)})" for value, path in list(values.items())[:2]
            )
            return f"expected one {tag} of all slices, found {found}; choose a series that is one volume"
    return ""


def _repeated(slices: list[Slice]) -> str:
    seen: dict[tuple[str, int], Slice] = {}
    for item in slices:
        other = seen.setdefault((item.uid, item.frame), item) if item.uid else item
        if other is not item:
            found = f"one in {printable(other.path.name)} and {printable(item.path.name)}"
            return f"expected a SOPInstanceUID (0008,0018) of its own for each slice, found {found}; remove the copy"
    return ""


def _missing_notes(series: Series) -> list[str]:
    notes = []
    bare = [item for item in series.slices if item.slope is None and item.intercept is None]
    if bare and series.header.modality == "CT":
        notes.append("no RescaleSlope and RescaleIntercept (0028,1053 and 1052): stored values are taken as HU")
    if not series.header.frame_of_reference:
        notes.append("no FrameOfReferenceUID (0020,0052): whether it lies in one space with another series is not told")
    return notes


def choose_series(rows: Sequence[Series], selector: str, where: str) -> Series:
    """Choose one series.

    Args:
        rows: what `list_series` found.
        selector: row (`#2`), SeriesNumber, SeriesInstanceUID, modality, or rules such as `EchoTime=11` or
            `SeriesDescription=*flair*`; several with commas between, which must all hold. "" for the only one.
        where: folder or file, for messages.

    Returns:
        The series, without problem.

    Raises:
        FusionInputError: none or several fit, or the one that fits is no volume.

    Example:
        >>> choose_series(list_series("study"), "EchoTime=11", "study").shape  # doctest: +SKIP
        (256, 256, 35)
    """
    rules = [rule.strip() for rule in selector.split(",") if rule.strip()]
    fitting = [row for row in rows if row.image or rules] or list(rows)
    fitting = [row for row in fitting if all(_fits(row, rule) for rule in rules)]
    if len(fitting) > 1 and rules and any(row.image for row in fitting):
        fitting = [row for row in fitting if row.image]
    if len(fitting) != 1:
        wanted = f'a series "{printable(selector)}"' if rules else "one series of images"
        raise input_error(where, wanted, *_found(fitting, rows))
    if fitting[0].problem:
        what = f"{where} ({fitting[0].header.modality or 'series'} {fitting[0].header.number})"
        raise FusionInputError(f"{what}: {fitting[0].problem}")
    return fitting[0]


def _found(fitting: Sequence[Series], rows: Sequence[Series]) -> tuple[str, str]:
    told = [row for row in (fitting or rows) if row.image] or list(fitting or rows)
    names = "; ".join(row.name for row in told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")
    if fitting:
        return f"{len(fitting)}: {names}", _REMEDY
    return (f"only {names}", _REMEDY) if told else ("no image series", "check the path")


def _fits(row: Series, rule: str) -> bool:
    name, mark, value = rule.partition("=")
    head = row.header
    if mark:
        known = {
            "modality": head.modality,
            "seriesdescription": head.description,
            "seriesnumber": head.number,
            "seriesinstanceuid": head.series,
            **{key.lower(): item for key, item in row.slices[0].marks.items()},
        }
        stated = known.get(name.strip().lower(), "")
        text = f"{stated:g}" if isinstance(stated, float) else str(stated)
        return fnmatch.fnmatchcase(text.lower(), value.strip().lower())
    return rule in (f"#{row.row}", head.series, head.number) or rule.upper() == head.modality.upper()


def choose_pair(path: PathLike, selectors: Sequence[str] = ()) -> tuple[str, str]:
    """Choose the two series of a study that are to be fused: MR (else CT) first.

    Args:
        path: the study's folder or DICOMDIR.
        selectors: one for each series, as in `choose_series`; none to choose by rule: the only two volumes, or the only
            MR and the only CT, PT or NM. Two contrasts of one series go in the order of their echo times.

    Returns:
        Two paths `folder::selector` that name one series each.

    Raises:
        FusionInputError: the choice is not clear, or a series is no volume.
    """
    target, _ = split_selector(path)
    rows, where = list_series(path), printable(target)
    if len(selectors) == 2:
        chosen = [choose_series(rows, selector, where) for selector in selectors]
        if chosen[0] is chosen[1]:
            raise input_error(where, "two series", f"the same one twice ({chosen[0].name})", _REMEDY)
    else:
        chosen = _pair(rows, where)
    return tuple(f"{target}{SELECTOR}{row.selector}" for row in chosen)  # type: ignore[return-value]


def _pair(rows: list[Series], where: str) -> list[Series]:
    images = [row for row in rows if row.image]
    usable = [row for row in images if not row.problem]
    if len(usable) > 2:
        anatomical = [row for row in usable if row.header.modality == "MR"]
        other = [row for row in usable if row.header.modality in ("CT", "PT", "NM")]
        usable = [*anatomical, *other] if len(anatomical) == len(other) == 1 else usable
    if len(usable) != 2:
        names = "; ".join(row.name for row in images[:4]) + (f"; and {len(images) - 4} more" if len(images) > 4 else "")
        found = f"{len(usable)} of {len(images)} ({names})" if images else "no image series"
        broken = [row for row in images if row.problem]
        if broken and len(usable) < 2:
            found += f", #{broken[0].row}: {broken[0].problem}"
        raise input_error(where, "two series to fuse", found, "name both: --series A --series B")
    rank = {"MR": 0, "CT": 1}
    return sorted(usable, key=lambda row: rank.get(row.header.modality, 2))
