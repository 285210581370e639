"""The slices of one DICOM series told apart: scouts among them, copies, contrasts, time points."""

from __future__ import annotations

import filecmp
import functools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.contrast_elements import BY_NAME, CONTRAST_ELEMENTS, TOLERANCE, ContrastElement, shown
from clinicalfmamba_nets.io.dicom.geometry import parallel
from clinicalfmamba_nets.io.dicom.header import Slice
from clinicalfmamba_nets.io.dicom.kinds import is_scout_type
from clinicalfmamba_nets.io.dicom.pixels import same_pixels
from clinicalfmamba_nets.io.files import printable

# Slices whose depths differ by less than this part of their usual distance, at most so many mm, lie on each other.
_SAME, _SAME_MM = 0.05, 0.1
# Slices of another plane are taken for scouts up to this count, beside this many times more of the volume; with more
# planes than this the series is a radial scan or the like.
_FEW, _MANY, _MOST_PLANES = 3, 4, 20
# Contrasts that lie between each other are told apart where their values differ by this factor.
_APART = 1.5


@dataclass
class Part:
    """Slices of a series that should be one volume, what chooses them, and what was found on the way."""

    slices: list[Slice]
    split: tuple[str, ...] = ()
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def split_series(slices: Sequence[Slice]) -> list[Part]:
    """Split the slices of a series into what should be volumes.

    Byte-equal copies are dropped, scouts left out. Contrasts and time points are split only where slices lie on each
    other.

    Args:
        slices: all slices of a series.

    Returns:
        At least one part; each slice is in one of them, or told in the notes or warnings of all.
    """
    kept, notes, problem = _without_copies(slices)
    kept, warnings = _without_scouts(kept)
    found = _contrasts(kept)
    for part in found:
        part.notes, part.warnings = [*notes, *part.notes], [*warnings, *part.warnings]
        part.problem = problem or part.problem
    return found


def _without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], list[str], str]:
    """Drop images that are there twice, with one header or two; two that say to be one and differ are a problem."""
    seen: dict[tuple[str, int], Slice] = {}
    kept: list[Slice] = []
    alike = functools.cache(same_pixels)  # for this once: a file may be replaced
    copies: dict[str, list[Path]] = {"equal copies": [], "the same images under another header": []}
    for item in slices:
        first = seen.setdefault((item.uid, item.frame), item) if item.uid else item
        if first is item:
            kept.append(item)
        elif first.path != item.path and filecmp.cmp(first.path, item.path, shallow=False):
            copies["equal copies"].append(item.path)
        elif first.path != item.path and _one_place(first, item) and alike(first.path, item.path):
            copies["the same images under another header"].append(item.path)
        else:
            found = f"one in {printable(first.path.name)} and {printable(item.path.name)}, which differ"
            problem = f"expected a SOPInstanceUID (0008,0018) of its own for each slice, found {found}; remove one"
            return list(slices), [], problem
    return (
        kept,
        [f"{what}, left out: {_names(list(dict.fromkeys(paths)))}" for what, paths in copies.items() if paths],
        "",
    )


def _one_place(one: Slice, other: Slice) -> bool:
    """Tell whether two slices lie at one place and are rescaled alike."""
    keys = ("position", "orientation", "spacing", "slope", "intercept")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _without_scouts(slices: list[Slice]) -> tuple[list[Slice], list[str]]:
    """Leave out images that say to be localizers, and a few of another plane beside many of one."""
    labelled = [item for item in slices if is_scout_type(str(item.contrast.get("ImageType", "")))]
    labelled = [] if len(labelled) == len(slices) else labelled
    lost = {id(item) for item in labelled}
    planes = sorted(_planes([item for item in slices if id(item) not in lost]), key=len)
    for plane in planes[:-1]:
        if len(plane) <= _FEW and len(planes[-1]) >= _MANY * len(plane):
            lost |= {id(item) for item in plane}
    if not lost:
        return slices, []
    paths = list(dict.fromkeys(item.path for item in slices if id(item) in lost))
    count = f"{len(lost)} scout images (localizers)" if len(lost) > 1 else "1 scout image (localizer)"
    return [item for item in slices if id(item) not in lost], [f"{count} in the series, left out: {_names(paths)}"]


def _names(paths: Sequence[Path]) -> str:
    told = ", ".join(printable(path.name) for path in paths[:5])
    return told + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _planes(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Group slices by orientation, those without any in a group of their own."""
    groups: list[list[Slice]] = []
    for item in slices:
        for group in groups:
            if parallel(group[0].orientation, item.orientation):
                group.append(item)
                break
        else:
            groups.append([item])
        if len(groups) > _MOST_PLANES:
            return [list(slices)]
    return groups


def _contrasts(slices: list[Slice]) -> list[Part]:
    """Split slices of one plane, by one element after another, until no slices of a part lie on each other."""
    places = _places(slices)
    if places is None:
        return [Part(slices)]
    planes = _planes(slices)
    if len(planes) > 1:
        return _stacks(slices, planes)
    if max(Counter(places).values()) == 1:
        return _interleaved(slices, places) or [Part(slices, warnings=_mixed(slices))]
    best = None
    for element in CONTRAST_ELEMENTS:
        groups, notes = _groups(slices, places, element)
        if not _useful(groups, places, slices, element):
            continue
        whole = all(_alone(group, places, slices) for _, group in groups)
        if whole or best is None:
            best = (element, groups, notes)
        if whole:
            break
    if best is None:
        return _time_points(slices, places) or [Part(slices, problem=_unsorted(places))]
    element, groups, notes = best
    parts = [_named(part, element, value) for value, group in groups for part in _contrasts(group)]
    for part in parts:
        part.warnings = [*notes, *part.warnings]
    return parts


def _stacks(slices: list[Slice], planes: list[list[Slice]]) -> list[Part]:
    """Split stacks of several planes where an element tells each plane; the geometry tells of what is left together."""
    plane_of = {id(item): number for number, plane in enumerate(planes) for item in plane}
    for element in (BY_NAME["stackid"], *CONTRAST_ELEMENTS):
        groups, notes = _groups(slices, list(plane_of.values()), element)
        pure = all(len({plane_of[id(item)] for item in group}) == 1 for _, group in groups)
        if len(groups) > 1 and pure and not notes and min(len(group) for _, group in groups) > 1:
            return [_named(part, element, value) for value, group in groups for part in _contrasts(group)]
    return [Part(slices)]


def _time_points(slices: list[Slice], places: list[int]) -> list[Part]:
    """Split by the order of acquisition times where they differ from slice to slice; nothing where they do not tell."""
    counts = Counter(places)
    most = max(counts.values())
    times = {item.contrast.get("AcquisitionTime") for item in slices}
    if len(counts) < 2 or set(counts.values()) != {most} or None in times or len(times) < len(slices):
        return []
    stacks: list[list[Slice]] = [[] for _ in range(most)]
    seen: Counter[int] = Counter()
    for item, place in sorted(
        zip(slices, places, strict=True), key=lambda entry: str(entry[0].contrast["AcquisitionTime"])
    ):
        stacks[seen[place]].append(item)
        seen[place] += 1
    found = []
    for number, stack in enumerate(stacks, 1):
        marked = [replace(item, contrast={**item.contrast, "TimePoint": float(number)}) for item in stack]
        found.append(Part(marked, (f"TimePoint={number}",)))
    return found


def _named(part: Part, element: ContrastElement, value: Any) -> Part:
    part.split = (f"{element.keyword}={shown(value)}", *part.split)
    return part


def _interleaved(slices: list[Slice], places: list[int]) -> list[Part]:
    """Split contrasts whose slices lie between each other at places of their own; nothing where there are none."""
    for element in CONTRAST_ELEMENTS[:3]:
        groups, _ = _groups(slices, places, element)
        values = [value for value, _ in groups]
        if len(groups) < 2 or any(isinstance(value, str) for value in values):
            continue
        apart = all(high > _APART * low for low, high in zip(values, values[1:], strict=False))
        where = {id(item): place for item, place in zip(slices, places, strict=True)}
        held = [sorted(where[id(item)] for item in group) for _, group in groups]
        mixed = all(low[0] < high[-1] and high[0] < low[-1] for low in held for high in held)
        if apart and mixed and min(map(len, held)) > 2:
            return [_named(Part(group), element, value) for value, group in groups]
    return []


def _places(slices: Sequence[Slice]) -> list[int] | None:
    """Number the depths at which slices lie, equal for those that lie on each other; None without a place in space."""
    if any(item.position is None or item.orientation is None for item in slices):
        return None
    turn = np.array(slices[0].orientation, dtype=float)
    normal = np.cross(turn[:3], turn[3:])
    if np.linalg.norm(normal) < 0.5:
        return None
    depth = np.array([item.position for item in slices], dtype=float) @ normal
    order = np.argsort(depth, kind="stable")
    steps = np.diff(depth[order])
    limit = max(min(_SAME_MM, _SAME * float(steps.max(initial=0.0))), 1e-3)
    numbers = np.empty(len(slices), dtype=int)
    numbers[order] = np.concatenate([[0], np.cumsum(steps > limit)])
    return [int(number) for number in numbers]


def _groups(
    slices: Sequence[Slice], places: Sequence[int], element: ContrastElement
) -> tuple[list[tuple[Any, list[Slice]]], list[str]]:
    """Sort slices by an element, near values of a measured one together.

    Few slices without it go where one lacks; those of a map, such as a trace, that lies on all others stay together.
    """
    values = sorted({item.contrast[element.keyword] for item in slices if element.keyword in item.contrast}, key=_order)
    leader: dict[Any, Any] = {}
    for value in values:
        last = next(reversed(leader.values()), None)
        near = (
            element.measured
            and isinstance(value, float)
            and isinstance(last, float)
            and abs(value - last) <= TOLERANCE * max(abs(value), abs(last))
        )
        leader[value] = last if near else value
    groups: dict[Any, list[Slice]] = {value: [] for value in dict.fromkeys(leader.values())}
    held: dict[Any, set[int]] = defaultdict(set)
    bare = []
    for item, place in zip(slices, places, strict=True):
        if element.keyword in item.contrast:
            value = leader[item.contrast[element.keyword]]
            groups[value].append(item)
            held[value].add(place)
        else:
            bare.append((item, place))
    notes = []
    whole = len(bare) > 1 and all(place in places for places in held.values() for _, place in bare)
    if groups and bare and len(bare) < len(slices) / 4 and not whole:
        for item, place in bare:
            free = [value for value in groups if place not in held[value]]
            if len(free) != 1:
                return [], []
            groups[free[0]].append(item)
            held[free[0]].add(place)
        told = _names([item.path for item, _ in bare])
        notes.append(f"no {element.keyword} in {told}: put where a slice was lacking")
    elif bare:
        groups["none"] = [item for item, _ in bare]
    return list(groups.items()), notes


def _order(value: Any) -> tuple[int, float, str]:
    return (0, value, "") if isinstance(value, float) else (1, 0.0, str(value))


def _alone(group: Sequence[Slice], places: Sequence[int], slices: Sequence[Slice]) -> bool:
    """Tell whether no slices of a group lie on each other."""
    inside = {id(item) for item in group}
    held = [place for item, place in zip(slices, places, strict=True) if id(item) in inside]
    return len(set(held)) == len(held)


def _useful(
    groups: list[tuple[Any, list[Slice]]], places: Sequence[int], slices: Sequence[Slice], element: ContrastElement
) -> bool:
    """Tell whether an element sorts out slices that lie on each other, not slices of one contrast from one another."""
    counts = Counter(places)
    most = max(counts.values())
    if not 2 <= len(groups) <= most:
        return False
    if element.weak and (len(counts) == 1 or min(len(group) for _, group in groups) < 2):
        return False
    where = {id(item): place for item, place in zip(slices, places, strict=True)}
    seen: Counter[int] = Counter()
    for _, group in groups:
        seen.update({where[id(item)] for item in group})
    return max(seen.values()) > 1


def _mixed(slices: Sequence[Slice]) -> list[str]:
    """Tell about one volume whose slices say to be of several contrasts."""
    told = []
    for element in CONTRAST_ELEMENTS[:4]:
        values = [
            item.contrast[element.keyword] for item in slices if isinstance(item.contrast.get(element.keyword), float)
        ]
        low, high = min(values, default=0.0), max(values, default=0.0)
        if high - low > TOLERANCE * abs(high):
            told.append(f"{element.keyword} differs from slice to slice ({low:g} to {high:g}): taken as one volume")
        elif values and len(values) < len(slices):
            lacking = [item.path for item in slices if element.keyword not in item.contrast]
            told.append(f"no {element.keyword} in {_names(lacking)}: taken as a slice like the others")
    return told


def _unsorted(places: Sequence[int]) -> str:
    """Tell about slices that lie on each other and have nothing that tells them apart; "" for a few of them alone."""
    counts = Counter(places)
    most, least = max(counts.values()), min(counts.values())
    if least == 1:
        return ""
    found = f"{most if most == least else f'up to {most}'} at each of {len(counts)} places"
    found = f"all {most} at one" if len(counts) == 1 else found
    return f"expected slices at places of their own, found {found}, and no element that tells them apart; export one \
volume of them alone, or convert it to NIfTI"
