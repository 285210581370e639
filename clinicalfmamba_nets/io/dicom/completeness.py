"""Whether all slices of a series are here: by counts and numbers in its headers, its places, and its other contrasts.

Source: DICOM PS3.3, C.8.9.1 (NumberOfSlices), C.7.6.1 (ImagesInAcquisition, InstanceNumber), C.7.6.16 (concatenations).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from clinicalfmamba_nets.io.dicom.geometry import parallel
from clinicalfmamba_nets.io.dicom.header import Header
from clinicalfmamba_nets.io.dicom.series import Series

_COPY = "the others are missing, copy the whole series"
_SAME_MM = 0.1  # slices of two contrasts that are as near lie at one place


def tell_lost_slices(rows: Sequence[Series], groups: Mapping[str, Sequence[Header]]) -> None:
    """Warn of the series of a study that lack slices where their places do not show it: at an end, or each second one.

    Args:
        rows: all volumes of the study.
        groups: headers of all files of each series, scouts and copies too.
    """
    images = [row for row in rows if row.image and not row.problem and not row.role]
    for row in images:
        told = _by_count(row) or _by_places(row) or _by_contrasts(row, images)
        if not told and len(row.slices) > 1:
            files = groups[row.header.series or str(row.header.path)]
            told = _by_images(row, files, images) or _by_parts(files) or _by_numbers(row, files, groups)
        row.warnings[:0] = filter(None, [told])


def _by_count(row: Series) -> str:
    """Compare the slices with the number of places that all headers state."""
    stated = {(header.expected_slices, header.expected_by) for header in row.headers.values() if header.expected_slices}
    if len(stated) != 1:
        return ""
    count, tag = next(iter(stated))
    return f"{len(row.slices)} slices of {count} by {tag}: {_COPY}" if len(row.slices) < count else ""


def _by_places(row: Series) -> str:
    """Find each second slice missing: numbers and stated distance say so, where places are even."""
    if row.split:
        return ""
    numbers = _numbers(list(row.headers.values()))
    strides = set(np.diff(numbers).tolist())
    step = row.spacing[2]
    distance = next((abs(value) for value in (row.slices[0].gap, row.slices[0].thickness) if value), step)
    times = step / distance
    even = len(numbers) == len(row.slices) > 2 and strides == {round(times)}
    if not even or times <= 1.9 or abs(times - round(times)) >= 0.02:
        return ""
    lacking = ", ".join(map(str, range(numbers[0] + 1, numbers[1])))
    told = f"slices every {step:.4g} mm by their places and {distance:.4g} mm by their headers, InstanceNumber"
    return f"{told} {lacking} (0020,0013) and so on not there: slices are missing, copy the whole series"


def _by_contrasts(row: Series, rows: Sequence[Series]) -> str:
    """Find another contrast of the series, as thick, that has slices at all places of this one, and more."""
    for other in rows:
        same = other is not row and other.header.series == row.header.series and row.split and other.split
        if not same or len(other.slices) <= len(row.slices):
            continue
        one, another = row.slices[0], other.slices[0]
        alike = one.thickness == another.thickness and parallel(one.orientation, another.orientation, 1e-3)
        if alike and _within(row, other):
            return f"{len(row.slices)} slices, {other.split} has {len(other.slices)}: {_COPY}"
    return ""


def _within(row: Series, other: Series) -> bool:
    places, others = (np.array([item.position for item in one.slices], dtype=float) for one in (row, other))
    distances = np.linalg.norm(places[:, None] - others[None], axis=2).min(axis=1)
    return bool((distances <= _SAME_MM).all())


def _by_images(row: Series, files: Sequence[Header], rows: Sequence[Series]) -> str:
    """Compare the images of the series with what its acquisition gave, unless it gave other series too."""
    stated = {header.expected_images for header in row.headers.values()}
    count, expected = _images(files), max(stated)
    if len(stated) != 1 or count >= expected:
        return ""
    together = {other.header.series: other for other in rows if other.modality == row.modality}
    if sum(len(other.slices) for other in together.values()) == expected:
        return ""
    what = f"{count} slices" if not row.split else f"{count} images of all contrasts"
    return f"{what} of {expected} by ImagesInAcquisition (0020,1002): {_COPY}"


def _images(files: Sequence[Header]) -> int:
    return len({(item.uid or item.path, item.frame) for header in files for item in header.slices})


def _by_parts(files: Sequence[Header]) -> str:
    """Find files of a concatenation of multi-frame images missing."""
    held: dict[str, set[int]] = defaultdict(set)
    stated: dict[str, int] = defaultdict(int)
    for header in files:
        if header.whole:
            held[header.whole].add(header.part)
            stated[header.whole] = max(stated[header.whole], header.parts, header.part)
    for whole, parts in held.items():
        if len(parts) < stated[whole]:
            tag = "InConcatenationTotalNumber (0020,9163)"
            return f"{len(parts)} files of {stated[whole]} by {tag}: {_COPY}"
    return ""


def _by_numbers(row: Series, files: Sequence[Header], groups: Mapping[str, Sequence[Header]]) -> str:
    """Find a gapless series whose numbers do not begin at 1, nor go on from those of another contrast or series."""
    numbers, count = _numbers(files), len(files)
    gapless = len(numbers) == count > 2 and numbers[-1] - numbers[0] == count - 1
    derived = "DERIVED" in row.header.image_type
    if row.split or derived or not gapless or numbers[0] < 2 or (numbers[0] - 1) % count == 0 or not _in_order(row):
        return ""
    if any(numbers[0] - 1 in _numbers(others)[-1:] for others in groups.values()):
        return ""
    told = f"InstanceNumber (0020,0013) goes from {numbers[0]} to {numbers[-1]}"
    return f"{told}: slices before them may be missing, compare with the whole series"


def _numbers(headers: Sequence[Header]) -> list[int]:
    return sorted(int(header.instance) for header in headers if header.instance.isdigit())


def _in_order(row: Series) -> bool:
    """Tell whether numbers rise or fall from slice to slice."""
    steps = np.diff([int(row.headers[item.path].instance) for item in row.slices])
    return bool((steps > 0).all() or (steps < 0).all())
