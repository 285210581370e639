"""Slices sorted by their place in the patient, and every reason why they are no volume.

Source: DICOM PS3.3, C.7.6.2 (image plane) and C.7.6.16.2 (functional groups). Slices are placed by position and
orientation alone: names, numbers and the stated distance of slices are never used for more than one slice's thickness.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clinicalfmamba_nets.io.dicom.header import Slice
from clinicalfmamba_nets.io.files import printable

# Slices may lie this far from an even grid without a word (mm); and with one, as a part of their distance and in mm.
QUIET_MM, TOLERANCE, TOLERANCE_MM = 0.01, 0.1, 0.1
PLANES = ("sagittal", "coronal", "axial")  # across x, y, z of the patient
_TURN = 1e-3
_WHOLE = 0.25  # a gap where slices are missing is that near to a whole number of their distances
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass
class Placed:
    """Slices in order, their affine (column, row, slice index to RAS mm), and what was found."""

    slices: list[Slice]
    affine: np.ndarray | None = None
    problem: str = ""
    notes: list[str] = field(default_factory=list)


def place_slices(slices: Sequence[Slice]) -> Placed:
    """Sort slices along their normal and build the affine, or tell in one clause why they are no volume.

    Args:
        slices: slices of one contrast.

    Returns:
        The sorted slices and their affine; or the slices as they came and `problem`: "expected ..., found ...; ...".
    """
    problem = _missing(slices) or _unlike(slices)
    if problem:
        return Placed(list(slices), problem=problem)
    rows = np.array(slices[0].orientation, dtype=float).reshape(2, 3)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    normal = np.cross(rows[0], rows[1])
    positions = np.array([item.position for item in slices], dtype=float)
    order = np.argsort(positions @ normal, kind="stable")
    ordered, positions = [slices[index] for index in order], positions[order]
    problem = "" if len(slices) == 1 else _uneven(ordered, positions, positions @ normal)
    if problem:
        return Placed(ordered, problem=problem)
    if len(slices) == 1:
        start, (step, notes) = positions[0], _single_step(slices[0], normal)
    else:
        start, step, notes = _line(ordered, positions, normal)
    tilt = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    if tilt > 0.1:
        notes.append(
            f"slices are stacked {tilt:.1f} degrees off their normal (gantry tilt): kept so, the affine has a shear"
        )
    down, across = slices[0].spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = rows[0] * across, rows[1] * down, step, start
    return Placed(ordered, _TO_RAS @ affine, notes=notes)


def _name(item: Slice) -> str:
    return printable(item.path.name) + (f" frame {item.frame + 1}" if item.frame else "")


def _missing(slices: Sequence[Slice]) -> str:
    tags = {
        "position": "ImagePositionPatient (0020,0032)",
        "orientation": "ImageOrientationPatient (0020,0037)",
        "spacing": "PixelSpacing (0028,0030)",
    }
    for item in slices:
        for key, tag in tags.items():
            if getattr(item, key) is None:
                found = f"none or no numbers in {_name(item)}"
                return f"expected {tag}, found {found}; export the original series, or convert it to NIfTI by hand"
        if min(item.spacing or (0.0,)) <= 0:
            found = f"{item.spacing} in {_name(item)}"
            return f"expected a positive PixelSpacing (0028,0030), found {found}; export the series again"
        if not _square(item.orientation or ()):
            found = f"{item.orientation} in {_name(item)}"
            return f"expected two unit vectors at right angles in ImageOrientationPatient (0020,0037), found {found}; \
export the series again"
    return ""


@functools.lru_cache(maxsize=1024)
def _square(orientation: tuple[float, ...]) -> bool:
    """Tell whether an orientation is two unit vectors at right angles."""
    turn = np.array(orientation).reshape(2, 3)
    return bool(np.abs(turn @ turn.T - np.eye(2)).max() <= 1e-2)


def _unlike(slices: Sequence[Slice]) -> str:
    """Find slices of another orientation or pixel size than the first."""
    for item in slices:
        if not parallel(slices[0].orientation, item.orientation, _TURN):
            count = len({tuple(np.round(one.orientation or (), 2)) for one in slices})
            apart = np.abs(np.subtract(slices[0].orientation or (), item.orientation or ())).max()
            found = f"{count}" if count > 1 else f"numbers {apart:.2g} apart"
            found += f" (such as in {_name(slices[0])} and {_name(item)})"
            return f"expected one orientation of all slices, found {found}; choose a series that is one volume"
        first = slices[0].spacing
        if item.spacing != first and not np.allclose(item.spacing or (), first or (), rtol=1e-3):
            found = f"{slices[0].spacing} and {item.spacing} ({_name(item)})"
            return f"expected one PixelSpacing (0028,0030), found {found}; choose a series that is one volume"
    return ""


def _single_step(item: Slice, normal: np.ndarray) -> tuple[np.ndarray, list[str]]:
    stated = next((abs(value) for value in (item.thickness, item.gap) if value and np.isfinite(value)), None)
    return normal * (stated or 1.0), [] if stated else ["one slice without SliceThickness (0018,0050): 1 mm assumed"]


def _line(
    slices: Sequence[Slice], positions: np.ndarray, normal: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return where the first slice lies, the distance vector, and a note where positions are rounded or jitter.

    The vector is that of least squares, or, where positions are rounded and agree with it as well, the stated distance.
    """
    start, step = _fitted(positions)
    off = _distances(positions, start, step)
    if off <= QUIET_MM:
        return positions[0], step, []
    for stated in (slices[0].gap, slices[0].thickness):
        along = step / np.linalg.norm(step) if stated is None else step * abs(stated) / abs(float(step @ normal))
        middle = positions.mean(axis=0) - along * (len(positions) - 1) / 2
        fitting = [other for other in (positions[0], middle) if _distances(positions, other, along) <= off + QUIET_MM]
        if stated and fitting:
            start, step = fitting[0], along
            break
    spacing = float(np.linalg.norm(step))
    return (
        start,
        step,
        [
            f"slices lie up to {off:.2g} mm off even distances (rounded or jittering positions): placed \
every {spacing:.4g} mm by least squares"
        ],
    )


def _fitted(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return start and distance vector of the evenly spaced line that is nearest to positions, by least squares."""
    index = np.arange(len(positions)) - (len(positions) - 1) / 2
    step = index @ (positions - positions.mean(axis=0)) / (index @ index)
    return positions.mean(axis=0) - step * (len(positions) - 1) / 2, step


def _distances(positions: np.ndarray, start: np.ndarray, step: np.ndarray) -> float:
    """Return how far the farthest of positions lies from its place on a line."""
    return float(np.linalg.norm(positions - start - np.arange(len(positions))[:, None] * step, axis=1).max())


def _uneven(slices: Sequence[Slice], positions: np.ndarray, depth: np.ndarray) -> str:
    """Tell about slices at one place, gaps, and distances or shifts that vary."""
    gaps = np.diff(depth)
    usual = float(np.median(gaps))
    # Steps that are not along the normal at all: the same depth, whether or not the slices lie on each other.
    same = int(np.argmin(gaps))
    if gaps[same] < max(1e-3, 0.02 * usual):
        found = f"{_name(slices[same])} and {_name(slices[same + 1])} at one"
        if float(gaps.max()) < 1e-3:
            found = f"all {len(slices)} at one"
        return f"expected slices at places of their own, found {found}, and no element that tells them apart; take out \
the repeated slice, or export one volume alone"
    limit = max(QUIET_MM, min(TOLERANCE_MM, TOLERANCE * usual)) + 1e-6
    wide = _lost(gaps / usual)
    if len(wide):
        place = int(wide[0])
        found = f"{gaps[place]:.4g} mm between {_name(slices[place])} and {_name(slices[place + 1])}"
        return f"expected slices every {usual:.4g} mm, found {found}: a slice is missing; copy the whole series"
    if _distances(positions, *_fitted(positions)) > limit:
        found = f"{gaps.min():.4g} to {gaps.max():.4g} mm, or slices shifted sideways"
        return f"expected slices at even distances (within {limit:.2g} mm), found {found}; resample the series to even \
distances and save it as NIfTI"
    return ""


def _lost(times: np.ndarray) -> np.ndarray:
    """Return the gaps, given in usual distances, where slices are missing; other distances at an end are none."""
    wide = np.flatnonzero((times > 1.5) & (np.abs(times - np.rint(times)) < _WHOLE))
    together = len(wide) > 1 and wide[-1] - wide[0] == len(wide) - 1
    return wide[:0] if together and (wide[0] == 0 or wide[-1] == len(times) - 1) else wide


def parallel(one: Sequence[float] | None, other: Sequence[float] | None, turn: float = 0.1) -> bool:
    """Tell whether two orientations (row and column vectors) are one within `turn`; without any they are not."""
    if one is None or other is None:
        return one is other
    return one == other or all(abs(a - b) <= turn for a, b in zip(one, other, strict=True))


def plane_of(orientation: Sequence[float] | None) -> str:
    """Return "axial", "coronal" or "sagittal" for a plane within 20 degrees of it, else "oblique"; "" without any.

    Example:
        >>> plane_of((1, 0, 0, 0, 1, 0)), plane_of((0, 1, 0, 0, 0, -1))
        ('axial', 'sagittal')
    """
    if orientation is None or len(orientation) != 6:
        return ""
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    axis = int(np.argmax(normal))
    return PLANES[axis] if normal[axis] > 0.94 else "oblique"
