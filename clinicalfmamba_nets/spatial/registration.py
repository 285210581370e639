"""Rigid registration of two volumes of one head by ITK: mutual information, from coarse to fine, checked afterwards."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.transform_file import euler_angles, itk_transform_text
from clinicalfmamba_nets.spatial.resample import LEAST_OVERLAP
from clinicalfmamba_nets.spatial.rigid_search import LEAST_SIDE, RigidSearch
from clinicalfmamba_nets.spatial.similarity import Comparison, Similarity

_logger = logging.getLogger("clinicalfmamba.registration")
Tell = Callable[[str], None]

LEVELS = (8.0, 4.0, 2.0, 1.0)  # mm between samples
# Below the first of a pair the result is refused, below the second a warning is given (see `Similarity`).
_INFORMATION = (0.03, 0.08)
_SHARPNESS = (1.1, 1.3)
_GOOD_OVERLAP = 0.5
_LEAST_GAIN = 1.02
_AIR = -1000.0  # HU; scanners fill what lies outside their field of view with less, as -2000 or -3024
_FAR = (30.0, 50.0)  # degrees, mm
# mm of the least side of a volume: of a template's uppermost 46 mm, registered to a whole CT, the result was 6 mm off
# (mutual information .39, 2.1 times that 6 mm away), of a corner of 60 mm 15 mm.
_DEEP = 80.0


@dataclass(frozen=True)
class RigidAlignment:
    """How a second volume lies to a first one.

    Attributes:
        matrix: 4 x 4, a place of the first volume to the place of the same tissue in the second; RAS mm.
        center: center of the first volume, RAS mm.
        before: similarity as the headers place the volumes.
        after: similarity as `matrix` places them.
        warnings: what a person should look at, one sentence each.
        notes: harmless facts.
    """

    matrix: np.ndarray
    center: np.ndarray
    before: Similarity
    after: Similarity
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def angles(self) -> tuple[float, float, float]:
        """Rotation about the axes to the right, to the front and upwards, in degrees (applied in the order y, x, z)."""
        x, y, z = (math.degrees(angle) for angle in euler_angles(self.matrix[:3, :3]))
        return x, y, z

    @property
    def angle(self) -> float:
        """Angle of the whole rotation in degrees."""
        return _angle(self.matrix)

    @property
    def shift(self) -> np.ndarray:
        """Way of the first volume's center, (right, front, up) in mm."""
        return self.matrix[:3, :3] @ self.center + self.matrix[:3, 3] - self.center

    def moved(self, affine: np.ndarray) -> np.ndarray:
        """Return the second volume's affine as it lies in the space of the first."""
        return np.linalg.solve(self.matrix, affine)

    def text(self) -> str:
        """Report the alignment in one line."""
        turn, way = (", ".join(f"{value:.2f}" for value in values) for values in (self.angles, self.shift))
        length = float(np.linalg.norm(self.shift))
        return (
            f"registered: turned by {self.angle:.2f} degrees (x, y, z: {turn}), moved by {length:.2f} mm ({way}), "
            f"mutual information {self.before.information:.3f} before and {self.after.information:.3f} after, "
            f"overlap {100 * self.before.overlap:.0f} % before and {100 * self.after.overlap:.0f} % after"
        )

    def itk_text(self) -> str:
        """Return the transform as text of an ITK transform file (`.tfm`), which 3D Slicer reads too."""
        return itk_transform_text(self.matrix, self.center)


def register_rigid(
    fixed: np.ndarray,
    fixed_affine: np.ndarray,
    moving: np.ndarray,
    moving_affine: np.ndarray,
    names: tuple[str, str] = ("the first image", "the second image"),
    *,
    same_frame_of_reference: bool = True,
    seed: int = 0,
    levels: tuple[float, ...] = LEVELS,
    tell: Tell | None = None,
) -> RigidAlignment:
    """Find the rotation and shift that lay the second volume on the first.

    Source: "PET-CT image registration in the chest using free-form deformations", Mattes et al. 2003, for the metric
    (ITK's `MattesMutualInformationImageToImageMetricv4`); the search is ITK's regular step gradient descent, from the
    place that the headers give, from the centers of both grids and from both centers of mass; the best of the three
    goes on to finer levels. Half turns about each axis are tried coarsely, and finely where they fit better or the
    result is unsure or turned far. Samples are drawn by seed.

    Args:
        fixed: first volume, shape (X, Y, Z).
        fixed_affine: its 4 x 4 affine, index to RAS mm.
        moving: second volume of the same head, any contrast and grid.
        moving_affine: its affine.
        names: how the two are called in messages.
        same_frame_of_reference: whether the affines speak of one space; if not, the search starts from the centers.
        seed: of the samples.
        levels: distances of samples in mm, coarse to fine.
        tell: called with one line for each level; None for the log.

    Returns:
        The alignment. Where it gains nothing over the headers, theirs is kept: the identity.

    Raises:
        FusionInputError: fields of view that do not meet, too few slices, or volumes that share no structure, as those
            of different patients.
    """
    _check_sides(fixed, names[0])
    _check_sides(moving, names[1])
    compare = Comparison(fixed, fixed_affine, moving, moving_affine)
    before = compare(np.eye(4))
    if same_frame_of_reference and before.overlap < LEAST_OVERLAP:
        found = f"a field of view with {100 * before.overlap:.1f} % of it in common"
        remedy = "check that the pair is right, or set the origin of one so that they overlap"
        raise input_error(names[1], f"a volume of the same place as {names[0]}", found, remedy)
    tell = _logger.info if tell is None else tell
    center = (fixed_affine @ [*(side / 2 - 0.5 for side in fixed.shape), 1])[:3]
    search = RigidSearch((fixed, fixed_affine), (moving, moving_affine), center, seed)
    tell(f"registering {names[1]} to {names[0]}: mutual information {before.information:.3f} by the headers")
    middles = _middles(fixed, fixed_affine), _middles(moving, moving_affine)
    matrix = _refined(search, _starts(*middles, same_frame_of_reference), levels, compare, tell)
    after = compare.with_sharpness(matrix)
    turned = search.best_start(_half_turns(*middles), levels[0], compare)
    better = compare(turned).information > _LEAST_GAIN * after.information
    if better or _is_unsure(after) or _angle(matrix) > _FAR[0]:
        tell("a half turn may fit better")
        turned = _refined(search, [turned], levels, compare, tell)
        if compare(turned).information > _LEAST_GAIN * after.information:
            matrix, after = turned, compare.with_sharpness(turned)
    if same_frame_of_reference and after.information < _LEAST_GAIN * before.information:
        matrix, after = np.eye(4), compare.with_sharpness(np.eye(4))
    _check_match(after, names)
    aligned = _judged(RigidAlignment(matrix, center, before, after))
    depths = {"first": _depth(fixed, fixed_affine), "second": _depth(moving, moving_affine)}
    told = "may fit in more than one place: compare the rims of both skulls"
    thin = [f"the {name} volume is only {mm:.0f} mm deep and {told}" for name, mm in depths.items() if mm < _DEEP]
    return replace(aligned, warnings=(*aligned.warnings, *thin))


def _refined(
    search: RigidSearch, starts: list[np.ndarray], levels: tuple[float, ...], compare: Comparison, tell: Tell
) -> np.ndarray:
    """Search level by level and return the finest placement that none of a coarser level surpasses."""
    matrix, best = starts[0], 0.0
    reached = search.best_start(starts, levels[0], compare)
    for number, distance in enumerate(levels, 1):
        reached = search.level(reached, distance) if number > 1 else reached
        information = compare(reached).information
        tell(f"level {number}/{len(levels)}, {distance:g} mm: mutual information {information:.3f}")
        if information * _LEAST_GAIN >= best:
            matrix, best = reached, max(best, information)
    return matrix


def _check_sides(volume: np.ndarray, name: str) -> None:
    if volume.ndim != 3 or min(volume.shape) < LEAST_SIDE:
        found = " x ".join(map(str, volume.shape))
        expected, remedy = (
            f"a volume of at least {LEAST_SIDE} slices to register",
            "leave out --register (register: none)",
        )
        raise input_error(name, expected, found, remedy)


def _check_match(after: Similarity, names: tuple[str, str]) -> None:
    """Refuse volumes that share no structure wherever they are laid."""
    if after.information < _INFORMATION[0] or after.sharpness < _SHARPNESS[0]:
        least = f"mutual information of at least {_INFORMATION[0]}, {_SHARPNESS[0]} times that 6 mm away"
        found = f"{after.information:.3f} at best, {after.sharpness:.2f} times"
        expected = f"a volume with the structures of {names[0]} ({least})"
        raise input_error(names[1], expected, found, "check that both are of one patient")


def _judged(alignment: RigidAlignment) -> RigidAlignment:
    """Add the warnings that an alignment deserves."""
    after, warnings, notes = alignment.after, [], []
    if np.array_equal(alignment.matrix, np.eye(4)):
        notes.append("registration gained nothing: the volumes stay where their headers place them")
    if _is_unsure(after):
        warnings.append(
            f"registration is unsure (mutual information {after.information:.3f}, {after.sharpness:.2f} times that 6 mm"
            " away): compare the previews, check the patient"
        )
    if after.overlap < _GOOD_OVERLAP:
        warnings.append(f"only {100 * after.overlap:.0f} % of the first volume lies inside the second")
    if alignment.angle > _FAR[0]:
        warnings.append(f"the second volume was turned by {alignment.angle:.0f} degrees: check sides and headers")
    elif np.linalg.norm(alignment.shift) > _FAR[1]:  # as where two scanners count from two origins
        notes.append("the second volume was moved far: check sides and headers")
    return replace(alignment, warnings=tuple(warnings), notes=tuple(notes))


def _depth(volume: np.ndarray, affine: np.ndarray) -> float:
    """Return the least side of a volume in mm."""
    return float((np.linalg.norm(affine[:3, :3], axis=0) * np.array(volume.shape)).min())


def _is_unsure(after: Similarity) -> bool:
    return after.information < _INFORMATION[1] or after.sharpness < _SHARPNESS[1]


def _angle(matrix: np.ndarray) -> float:
    """Return the angle of a rotation in degrees."""
    return math.degrees(math.acos(min(1.0, max(-1.0, (np.trace(matrix[:3, :3]) - 1) / 2))))


def _middles(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the center of a volume's grid and its center of mass, (2, 3) in RAS mm."""
    middles = [side / 2 - 0.5 for side in volume.shape], _mass(volume)
    return np.stack([(affine @ [*middle, 1])[:3] for middle in middles])


def _starts(fixed: np.ndarray, moving: np.ndarray, same_frame_of_reference: bool) -> list[np.ndarray]:
    """Return the shifts to start from: none, center to center, mass to mass; those within 2 mm of another left out.

    Args:
        fixed: of the first volume, see `_middles`.
        moving: of the second volume, likewise.
        same_frame_of_reference: whether the affines speak of one space.
    """
    shifts = [np.zeros(3)] if same_frame_of_reference else []
    for shift in moving - fixed:
        if all(np.linalg.norm(shift - other) > 2 for other in shifts):
            shifts.append(shift)
    starts = [np.eye(4) for _ in shifts]
    for start, shift in zip(starts, shifts, strict=True):
        start[:3, 3] = shift
    return starts


def _half_turns(fixed: np.ndarray, moving: np.ndarray) -> list[np.ndarray]:
    """Return half turns about each axis, mass to mass: as of a head whose header has two axes reversed."""
    starts = []
    for axis in range(3):
        start = np.diag([*(1.0 if other == axis else -1.0 for other in range(3)), 1.0])
        start[:3, 3] = moving[1] - start[:3, :3] @ fixed[1]
        starts.append(start)
    return starts


def _mass(volume: np.ndarray) -> list[float]:
    """Return the index of the center of mass, the smallest value weighing nothing, nor what is below a CT's air."""
    weight = (volume.astype(np.float64) - max(float(volume.min()), _AIR)).clip(0)
    sums = [weight.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return [float((line * np.arange(len(line))).sum() / max(line.sum(), 1e-12)) for line in sums]
