"""One volume brought onto the grid of another by their affines: trilinear, a few slices at a time."""

from __future__ import annotations

import numpy as np

from clinicalfmamba_nets.errors import input_error

# Less of the first volume than this inside the second: a wrong pair rather than a small field of view.
LEAST_OVERLAP = 0.001
# Rounding of affines, in voxels.
_SLACK = 1e-3


def resample(
    array: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    reference: np.ndarray,
    names: tuple[str, str] = ("the first image", "the second image"),
) -> tuple[np.ndarray, np.ndarray | None]:
    """Interpolate a volume on the grid of another one that lies in the same space.

    A volume reaches half a voxel beyond the centers of its outer voxels, as in ITK; there it has the value of its edge.
    Farther out the edge is repeated too, so that a network meets no step; the mask tells what is made up.

    Args:
        array: shape (X, Y, Z).
        affine: its 4 x 4 affine, index to RAS mm.
        shape: size of the other grid.
        reference: affine of the other grid.
        names: how the two are called in messages.

    Returns:
        float32 of size `shape`; and where it lies inside the volume, bool of size `shape`, None where all of it does.

    Raises:
        FusionInputError: nothing of the grid lies inside the volume.

    Example:
        >>> half = np.diag([1.0, 1.0, 0.5, 1.0])
        >>> resample(np.arange(8.0).reshape(2, 2, 2), np.eye(4), (2, 2, 3), half)[0][0, 0].tolist()
        [0.0, 0.5, 1.0]
    """
    from scipy.ndimage import affine_transform

    turn = np.linalg.solve(affine, reference)  # index of the grid to index of the volume
    result, inside = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=bool)
    for place in range(shape[2]):
        start = turn[:3, 3] + place * turn[:3, 2]
        matrix = np.column_stack([turn[:3, :2], np.zeros(3)])
        plane, target = (shape[0], shape[1], 1), result[:, :, place : place + 1]
        affine_transform(array, matrix, start, plane, target, order=1, mode="nearest")
        inside[:, :, place] = _inside(turn[:3, :2], start, shape, array.shape)
    if inside.mean() < LEAST_OVERLAP:
        found = f"{100 * inside.mean():.1f} % of it covered"
        raise input_error(names[1], f"an image of the same place as {names[0]}", found, "check that the pair is right")
    return result, None if inside.all() else inside


def _inside(steps: np.ndarray, start: np.ndarray, shape: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """Mark, in one slice of the grid, what lies inside a volume and the half voxel around its centers."""
    inside = np.ones(shape[:2], dtype=bool)
    for axis, side in enumerate(size):
        across, down = (np.arange(length) * step for length, step in zip(shape, steps[axis], strict=False))
        where = start[axis] + across[:, None] + down
        inside &= (where >= -0.5 - _SLACK) & (where <= side - 0.5 + _SLACK)
    return inside
