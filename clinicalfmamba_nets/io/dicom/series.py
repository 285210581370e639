"""One DICOM series, or one contrast of it, as a volume: its headers, its slices in order, and what is wrong with it."""

from __future__ import annotations

import hashlib
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clinicalfmamba_nets.io.dicom.contrasts import Part, split_series
from clinicalfmamba_nets.io.dicom.geometry import place_slices, plane_of
from clinicalfmamba_nets.io.dicom.header import NUCLEAR, Header, Slice
from clinicalfmamba_nets.io.dicom.kinds import (
    HEAD_WORDS,
    SLICED,
    image_problem,
    is_image,
    not_anatomy,
    role_of,
    tracer_modality,
)
from clinicalfmamba_nets.io.files import printable

# Slices for each plane that a scout has at most, and how many times more a stack beside it has.
_FEW, _MANY = 5, 4


@dataclass
class Series:
    """One volume of a study, or what should be one.

    Args:
        row: number in the study's table, from 1.
        header: of the first slice.
        slices: in their order in space.
        headers: of each file.
        split: what chooses this contrast among those of its series, such as "EchoTime=11".
        affine: 4 x 4, index to RAS mm; None without a place in space.
        problem: why it is no volume, "" for one.
        notes: harmless facts.
        warnings: what changes the meaning of the picture.
        image: whether it holds pixels at all.
        role: what it is where it is fused only when asked for: a scout, a report, an earlier result; else "".
        short: what chooses it in its study, as short as can be; "" until the study is known.
    """

    row: int
    header: Header
    slices: list[Slice]
    headers: dict[Path, Header]
    split: str = ""
    affine: np.ndarray | None = None
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    image: bool = True
    role: str = ""
    short: str = ""
    _digest: str = ""

    @property
    def selector(self) -> str:
        """Words that choose this series alone, for `folder::selector`, whatever else its folder holds later."""
        return ",".join(filter(None, [self.header.series or f"#{self.row}", self.split]))

    @property
    def modality(self) -> str:
        """Modality as the file states it, but NM for SPECT that is stored as PET."""
        return tracer_modality(self.header)

    @property
    def description(self) -> str:
        """SeriesDescription, else ProtocolName."""
        return self.header.description or self.header.protocol

    def stated(self, key: str) -> str:
        """Return what any slice tells of a text of its header: "patient", "birth_date", "sex" and the like."""
        return next((getattr(header, key) for header in self.headers.values() if getattr(header, key)), "")

    @property
    def patient(self) -> str:
        """PatientID, of any slice that has one."""
        return self.stated("patient")

    @property
    def frame_of_reference(self) -> str:
        """FrameOfReferenceUID, of any slice that has one."""
        return self.stated("frame_of_reference")

    @property
    def taken(self) -> str:
        """Date and time of the first acquisition as digits, "" where none is told."""
        return min((header.taken for header in self.headers.values() if header.taken), default="")

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
    def digest(self) -> str:
        """SHA-256 over the sorted SHA-256 of its files and what chooses it among them; the files are read once."""
        if not self._digest:
            parts = []
            for path in {item.path for item in self.slices}:
                one = hashlib.sha256()  # the short form came with Python 3.11
                with open(path, "rb") as file:
                    while part := file.read(2**20):
                        one.update(part)
                parts.append(one.hexdigest())
            self._digest = hashlib.sha256("\n".join([self.split, *sorted(parts)]).encode()).hexdigest()
        return self._digest

    @property
    def name(self) -> str:
        """Row, modality, number, description, contrast and size, to tell it from others."""
        head, size = self.header, " x ".join(map(str, self.shape))
        words = [f"#{self.row}", head.modality or "?", head.number or "-", head.description or "-", self.split, size]
        return " ".join(filter(None, words))

    def text(self) -> str:
        """One line for a terminal: what it is, the distances of its voxels, what is to be known, what chooses it."""
        spacing = " x ".join(f"{side:.4g}" for side in self.spacing)
        role = [f"left out unless chosen: {self.role}"] if self.role else []
        facts = [*role, *(f"WARNING: {text}" for text in self.warnings), *self.notes]
        told = "; ".join([*role, f"PROBLEM: {self.problem}"] if self.problem else facts) or "ok"
        choice = f"--series {shlex.quote(self.short)}" if self.short and self.image else ""
        return "  ".join(filter(None, [self.name, spacing and f"{spacing} mm", told, choice]))

    def value(self, keyword: str) -> float | str:
        """Return what the slices that say anything of it say of an element, within 1 %; "" where they differ."""
        found = {item.contrast[keyword] for item in self.slices if keyword in item.contrast}
        numbers = [value for value in found if isinstance(value, float)]
        one = len(numbers) == len(found) and numbers and max(numbers) - min(numbers) <= 0.01 * max(map(abs, numbers))
        return next(iter(found)) if len(found) == 1 else numbers[0] if one else ""


def build_series(headers: Sequence[Header]) -> list[Series]:
    """Put the files of one series together: one entry for each contrast, judged and placed."""
    usual = Counter(header.patient for header in headers).most_common(1)[0][0]
    # Of an image that is there twice, the one of the patient of the others is kept.
    slices = [item for header in sorted(headers, key=lambda one: one.patient != usual) for item in header.slices]
    known = {header.path: header for header in headers}
    parts = split_series(slices)
    return [_series(part, known, ",".join(part.split)) for part in parts]


def find_scouts(rows: Sequence[Series]) -> None:
    """Give series that nothing names scouts this role by their form.

    These are a few slices in several of the body's planes, and a few of another plane than a stack of their modality
    that has many more.
    """
    for row in rows:
        planes = {plane_of(item.orientation) for item in row.slices}
        if row.role or not row.image or planes & {"", "oblique"} or len(row.slices) > _FEW * len(planes):
            continue
        stacks = [other for other in rows if other.modality == row.modality and not other.role and other is not row]
        main = max(stacks, key=lambda other: len(other.slices), default=row)
        other_plane = plane_of(main.slices[0].orientation) not in planes
        if len(planes) > 1 or (other_plane and len(main.slices) >= _MANY * len(row.slices)):
            row.role = "a scout (localizer) by its few slices"


def _series(part: Part, known: dict[Path, Header], split: str) -> Series:
    slices = part.slices
    headers = {item.path: known[item.path] for item in slices}
    series = Series(0, known[slices[0].path], slices, headers, split, notes=part.notes, warnings=part.warnings)
    series.image = all(is_image(header) for header in headers.values())
    series.problem = next(filter(None, (image_problem(header) for header in headers.values())), "")
    series.problem = series.problem or _unlike(list(headers.values())) or _unscaled(slices) or part.problem
    if not series.problem:
        placed = place_slices(slices)
        series.slices, series.affine, series.problem = placed.slices, placed.affine, placed.problem
        series.notes = [*series.notes, *placed.notes]
        series.header = known[series.slices[0].path]
    series.role = role_of(series.header)
    if not series.problem:
        series.notes += _missing_notes(series)
    return series


def _unlike(headers: list[Header]) -> str:
    """Find files that cannot be slices of one volume whatever their places."""
    for key, tag in (
        ("rows", "Rows (0028,0010)"),
        ("columns", "Columns (0028,0011)"),
        ("samples", "SamplesPerPixel (0028,0002)"),
        ("photometric", "PhotometricInterpretation (0028,0004)"),
        ("frame_of_reference", "FrameOfReferenceUID (0020,0052)"),
        ("modality", "Modality (0008,0060)"),
        ("study", "StudyInstanceUID (0020,000D)"),
        ("patient", "PatientID (0010,0020)"),
    ):
        values = {getattr(header, key): header.path for header in headers}
        if key in ("frame_of_reference", "patient") and len(values) == 2 and "" in values:
            continue  # absent in some: told as a warning
        if len(values) > 1:
            found = " and ".join(
                f"{value or 'none'} ({printable(path.name)})" for value, path in list(values.items())[:2]
            )
            return f"expected one {tag} of all slices, found {found}; choose a series that is one volume"
    return ""


def _unscaled(slices: Sequence[Slice]) -> str:
    """Find slices without the slope or intercept that others of the volume have, so that their values do not fit."""
    for key, tag, nothing in (
        ("slope", "RescaleSlope (0028,1053)", 1.0),
        ("intercept", "RescaleIntercept (0028,1052)", 0.0),
    ):
        values = [(item.path, getattr(item, key)) for item in slices]
        lacking = list(dict.fromkeys(printable(path.name) for path, value in values if value is None))
        other = next((value for _, value in values if value not in (None, nothing)), None)
        if lacking and other is not None:
            found = f"{other:g} in others and none in {', '.join(lacking[:3])}"
            found += f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            return f"expected {tag} in all slices, found {found}; export the series again"
    return ""


def _other_patients(series: Series) -> list[str]:
    """Tell of slices whose patient has another name, birth date or sex; none is repeated."""
    told = []
    for key, tag in (
        ("patient_name", "PatientName (0010,0010)"),
        ("birth_date", "PatientBirthDate (0010,0030)"),
        ("sex", "PatientSex (0010,0040)"),
    ):
        plain = {path: getattr(header, key).casefold().strip("^= ") for path, header in series.headers.items()}
        plain = {path: "" if (key, value) == ("sex", "o") else value for path, value in plain.items()}
        usual = Counter(filter(None, plain.values())).most_common(1)
        other = [printable(path.name) for path, value in plain.items() if value and value != usual[0][0]]
        if other:
            names = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
            told.append(f"another {tag} in {names}: make sure that all slices are of one patient")
    return told


def _missing_notes(series: Series) -> list[str]:
    notes, head = [], series.header
    bare = [item for item in series.slices if item.intercept is None]
    if bare and head.modality == "CT":
        both = any(item.slope is None for item in bare)
        lost = "RescaleSlope and RescaleIntercept (0028,1053 and 1052)" if both else "RescaleIntercept (0028,1052)"
        picture = head.bits_stored <= 8 and not head.signed
        series.warnings.append(f"no {lost}: stored values are taken as {'a picture, no HU' if picture else 'HU'}")
    for key, tag in (("frame_of_reference", "FrameOfReferenceUID (0020,0052)"), ("patient", "PatientID (0010,0020)")):
        lacking = [printable(path.name) for path, header in series.headers.items() if not getattr(header, key)]
        if 0 < len(lacking) < len(series.headers):
            told = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
            series.warnings.append(f"no {tag} in {told}: taken as that of the other slices")
    series.warnings += dict.fromkeys(text for header in series.headers.values() for text in header.warnings)
    series.warnings += _other_patients(series)
    stored = next(
        (word for word in ("CT", "MR") if SLICED.get(head.sop_class, "").split(" Image")[0].endswith(word)), ""
    )
    if stored and head.modality != stored:
        told = f"Modality (0008,0060) says {printable(head.modality) or 'nothing'}, SOPClassUID (0008,0016) {stored}"
        series.warnings.append(f"{told}: taken as the former; check which it is, its window and task follow from it")
    if any(header.burned.upper() == "YES" for header in series.headers.values()):
        notes.append("BurnedInAnnotation (0028,0301) YES: text in its pixels, such as a name, stays in results")
    part = series.stated("body_part")
    if part and not re.search(HEAD_WORDS, part, re.IGNORECASE):
        told = f"BodyPartExamined (0018,0015) says {printable(part)}: the weights were trained on heads alone"
        series.warnings.append(told)
    types = [str(item.contrast.get("ImageType", "")).split("\\")[2:] for item in series.slices]
    parts = [str(item.contrast.get("ComplexImageComponent", "")) for item in series.slices]
    shown = not_anatomy([*itertools.chain(*types), *parts]) if head.modality == "MR" else ""
    if shown:
        series.warnings.append(f"ImageType (0008,0008) {shown}")
    if not series.frame_of_reference:
        notes.append("no FrameOfReferenceUID (0020,0052): whether it lies in one space with another series is not told")
    if head.sop_class == NUCLEAR and head.frames > 1 and not series.slices[0].gap:
        distance = f"SliceThickness {series.slices[0].thickness:g} mm"
        series.warnings.append(f"no SpacingBetweenSlices (0018,0088): {distance} is taken for the distance of slices")
    if series.modality != head.modality:
        notes.append("stored as PET, by its tracer or description a SPECT: taken as NM")
    return notes
