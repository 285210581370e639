"""Slices of volumes as upright pictures: which ones are shown, how they are turned, where they lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.dicom.geometry import PLANES
from clinicalfmamba_nets.spatial.grids import PATIENT, axis_order, has_sides

_WORDS = (("L", "R"), ("P", "A"), ("I", "S"))
_MOST = 24  # slices of a preview


class Plane(NamedTuple):
    """One slice of a volume in RAS order.

    Attributes:
        axis: across which it lies: 0 sagittal, 1 coronal, 2 axial.
        index: its index along that axis, in RAS order.
    """

    axis: int
    index: int  # type: ignore[assignment]  # in place of the method of tuples


class Grid:
    """The grid of a volume, seen in the order right, anterior, superior; nothing is copied.

    Args:
        shape: (X, Y, Z) as stored.
        affine: 4 x 4, index to RAS mm.
        coordinates: what the affine leads to, see `match_grids`; no letters and names of planes are told where the
            sides of the patient are not known, and no place in mm where the origin is not.

    Attributes:
        sided: whether left and right are known.
        placed: whether the place in mm is known too.
    """

    def __init__(self, shape: tuple[int, ...], affine: NDArray, coordinates: str = PATIENT) -> None:
        self.order, self.backwards = axis_order(np.asarray(affine, float), np.eye(4))
        self.affine = np.asarray(affine, float)
        self.sided, self.placed = has_sides(coordinates), coordinates == PATIENT
        self.shape = tuple(shape[axis] for axis in self.order)
        self.spacing = np.linalg.norm(self.affine[:3, :3], axis=0)[self.order]
        self.native = self._native()

    def _native(self) -> int:
        """Return the axis across which the slices were taken: of the longest voxel side, else the stored third."""
        if self.spacing.max() > 1.4 * np.median(self.spacing):
            return int(self.spacing.argmax())
        single = [axis for axis, side in enumerate(self.shape) if side == 1]
        return single[0] if single else self.order.index(2)

    @property
    def is_stack(self) -> bool:
        """Whether the volume is a stack of few or thick slices, which other planes would only show as a strip."""
        side, thickness = self.shape[self.native], self.spacing[self.native]
        in_plane = [
            count * step
            for axis, (count, step) in enumerate(zip(self.shape, self.spacing, strict=True))
            if axis != self.native
        ]
        return side == 1 or (thickness > 1.9 * self.spacing.min() and side * thickness < 0.8 * max(in_plane))

    def view(self, array: NDArray) -> NDArray:
        """Return a volume as stored, (X, Y, Z), in RAS order."""
        return np.flip(array.transpose(self.order), tuple(self.backwards))

    def number(self, plane: Plane) -> tuple[int, int]:
        """Return the number of a slice as stored, from 1, and how many there are."""
        count = self.shape[plane.axis]
        return (count - plane.index if plane.axis in self.backwards else plane.index + 1), count

    def plane_of(self, axis: int, number: int) -> Plane:
        """Return the slice with a number as stored, from 1."""
        return Plane(axis, self.shape[axis] - number if axis in self.backwards else number - 1)

    def position(self, plane: Plane) -> float:
        """Return where the middle of a slice lies along its axis, in RAS mm."""
        middle = [(side - 1) / 2 for side in self.shape]
        middle[plane.axis] = plane.index
        for axis in self.backwards:
            middle[axis] = self.shape[axis] - 1 - middle[axis]
        stored = np.ones(4)
        stored[self.order] = middle
        return float((self.affine @ stored)[plane.axis])

    def caption(self, plane: Plane) -> str:
        """Tell which slice it is."""
        number, count = self.number(plane)
        if not self.sided:
            return f"slice {number} of {count}"
        if not self.placed:
            return f"{PLANES[plane.axis]}, slice {number} of {count}"
        millimeters = self.position(plane)
        side = _WORDS[plane.axis][int(millimeters >= 0)]
        return f"{PLANES[plane.axis]}, slice {number} of {count}, {side} {abs(millimeters):.1f} mm"

    def letters(self, plane: Plane) -> tuple[str, str, str, str]:
        """Return the directions at the left, right, top and bottom of an upright picture."""
        if not self.sided:
            return "", "", "", ""
        across, up = (axis for axis in range(3) if axis != plane.axis)
        return _WORDS[across][1], _WORDS[across][0], _WORDS[up][1], _WORDS[up][0]

    def picture(self, array: NDArray, plane: Plane) -> NDArray:
        """Return a slice of a volume as stored, (X, Y, Z), upright: the patient's right (front) on the left."""
        return np.flip(np.take(self.view(array), plane.index, axis=plane.axis).T, (0, 1))

    def size(self, plane: Plane, longest: int, at_most: float = np.inf) -> tuple[int, int, float]:
        """Return width and height in pixels of a picture in proportion, and the mm of a pixel."""
        across, up = (axis for axis in range(3) if axis != plane.axis)
        sides = self.shape[across] * self.spacing[across], self.shape[up] * self.spacing[up]
        scale = max(max(sides) / longest, max(sides) / at_most)
        return max(1, round(sides[0] / scale)), max(1, round(sides[1] / scale)), float(scale)


def content(volumes: tuple[NDArray, NDArray], grid: Grid, axis: int) -> NDArray:
    """Return how much both volumes hold in each slice across an axis, (slices,), each source counting the same."""
    total = np.zeros(grid.shape[axis])
    for volume in volumes:
        view = grid.view(volume)
        thinned = view[tuple(slice(None) if other == axis else slice(None, None, 2) for other in range(3))]
        sums = thinned.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.float64)
        total += sums / (sums.max() or 1.0)
    return total


def choose_planes(volumes: tuple[NDArray, NDArray], grid: Grid, slices: str | None = None, edge: bool = False) -> list:
    """Choose the slices of a preview.

    Args:
        volumes: both sources on the grid, (X, Y, Z) in [0, 1], 0 where there is none.
        grid: their grid.
        slices: numbers as stored, from 1, such as "12" or "10,14-16", "middle" or "all"; None for those in which the
            sources hold most: of a stack three slices, of other volumes one in each plane.
        edge: show a stack from another side as well, because a source ends in it.

    Returns:
        Planes, at most 24.

    Raises:
        FusionInputError: numbers that are none, or not of this volume.
    """
    if slices:
        return [grid.plane_of(grid.native, number) for number in slice_numbers(slices, grid.shape[grid.native])]
    if not grid.is_stack:
        return [_fullest(volumes, grid, axis) for axis in (2, 1, 0)]
    held = content(volumes, grid, grid.native)
    good = np.flatnonzero(held >= 0.6 * held.max())
    chosen = sorted({int(good[int(share * (len(good) - 1))]) for share in (0.2, 0.5, 0.8)}, reverse=True)
    planes = [Plane(grid.native, index) for index in chosen]
    return planes + ([_fullest(volumes, grid, min({1, 0} - {grid.native}, key=lambda axis: -axis))] if edge else [])


def _fullest(volumes: tuple[NDArray, NDArray], grid: Grid, axis: int) -> Plane:
    held = content(volumes, grid, axis)
    width = max(1, len(held) // 12)
    return Plane(axis, int(np.convolve(held, np.ones(width) / width, mode="same").argmax()))


def slice_numbers(text: str, count: int) -> list[int]:
    """Read numbers of slices, from 1 to `count`: "7", "5,9,12", "5-9", "middle", "all".

    Raises:
        FusionInputError: anything else.

    Example:
        >>> slice_numbers("2,5-7", 12), slice_numbers("middle", 12)
        ([2, 5, 6, 7], [6])
    """
    if text == "middle":
        return [(count + 1) // 2]
    found: list[int] = []
    for part in [f"1-{count}"] if text == "all" else text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdigit() for end in ends):
            raise input_error("slices", "numbers such as 12 or 10,14-16, middle or all", repr(text), "name these")
        found += range(int(ends[0]), int(ends[-1]) + 1)
    if not found or not all(1 <= number <= count for number in found):
        raise input_error("slices", f"numbers from 1 to {count}", text, "name others")
    step = -(-len(found) // _MOST)
    return found[::step]
