"""One volume brought onto the grid of another by their affines: trilinear, a few slices at a time."""

from __future__ import annotations

import numpy as np

from clinicalfmamba_nets.errors import input_error

# Less of the first volume than this inside the second: a wrong pair rather than a small field of view.
LEAST_OVERLAP = 0.05


def resample(
    array: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    reference: np.ndarray,
    names: tuple[str, str] = ("the first image", "the second image"),
) -> tuple[np.ndarray, float]:
    """Interpolate a volume on the grid of another one that lies in the same space.

    Args:
        array: shape (X, Y, Z).
        affine: its 4 x 4 affine, index to RAS mm.
        shape: size of the other grid.
        reference: affine of the other grid.
        names: how the two are called in messages.

    Returns:
        float32 of size `shape`, the volume's smallest value outside it; and the share of the grid inside it, in (0, 1].

    Raises:
        FusionInputError: hardly any of the grid lies inside the volume.

    Example:
        >>> half = np.diag([1.0, 1.0, 0.5, 1.0])
        >>> resample(np.arange(8.0).reshape(2, 2, 2), np.eye(4), (2, 2, 3), half)[0][0, 0].tolist()
        [0.0, 0.5, 1.0]
    """
    from scipy.ndimage import affine_transform

    turn = np.linalg.solve(affine, reference)  # index of the grid to index of the volume
    outside = float(array.min())
    result = np.empty(shape, dtype=np.float32)
    inside = 0.0
    for place in range(shape[2]):
        start = turn[:3, 3] + place * turn[:3, 2]
        matrix = np.column_stack([turn[:3, :2], np.zeros(3)])
        plane = (shape[0], shape[1], 1)
        affine_transform(
            array, matrix, start, plane, result[:, :, place : place + 1], order=1, mode="constant", cval=outside
        )
        inside += _share_inside(turn, place, shape, array.shape)
    inside /= shape[2]
    if inside < LEAST_OVERLAP:
        found = f"{100 * inside:.1f} % of it covered"
        raise input_error(names[1], f"an image of the same place as {names[0]}", found, "check that the pair is right")
    return result, inside


def _share_inside(turn: np.ndarray, place: int, shape: tuple[int, ...], size: tuple[int, ...]) -> float:
    """Return the share of a coarse sample of one slice of the grid that lies inside the volume."""
    across, down = (np.linspace(0, side - 1, 16) for side in shape[:2])
    index = np.stack([*(axis.ravel() for axis in np.meshgrid(across, down)), np.full(256, place), np.ones(256)])
    where = (turn @ index)[:3]
    room = np.array(size)[:, None] - 0.5
    return float(((where >= -0.5) & (where <= room)).all(axis=0).mean())
