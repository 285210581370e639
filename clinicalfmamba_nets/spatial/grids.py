"""Whether two images lie on one grid in space; one that is only stored in another order is put in the same order."""

from __future__ import annotations

import itertools

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error

# Corners of the two grids may lie this part of the smallest voxel side apart: rounding in headers, not a shift.
TOLERANCE = 0.05
# Up to this part of that side, and at most this many mm, they are still one grid that was rounded, which is told.
_ROUNDING, _ROUNDING_MM = 0.1, 0.1
_ORDERS = tuple(itertools.permutations(range(3)))
# What an affine leads to: mm in the patient, the same but for an unknown origin, mm in a space whose axes have no
# anatomical names, or nothing that was measured.
PATIENT, DIRECTIONS, OTHER, NONE = "patient", "directions", "other", "none"


def has_sides(coordinates: str) -> bool:
    """Tell whether left and right are known where an affine leads to "patient", "directions", "other" or "none"."""
    return coordinates in (PATIENT, DIRECTIONS)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _grid_error(names: tuple[str, str], expected: str, found: str) -> FusionInputError:
    return input_error(names[1], f"{expected} of {names[0]}", found, "resample it onto the grid of the first image")


def _corner_distance(affine_a: np.ndarray, affine_b: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the largest distance of corresponding corners, in sides of the smallest voxel."""
    corners = np.array([[*index, 1] for index in itertools.product(*[(0, side - 1) for side in shape])])
    moved = (corners @ (affine_a - affine_b).T)[:, :3]
    return float(np.linalg.norm(moved, axis=1).max() / np.linalg.norm(affine_a[:3, :3], axis=0).min())


def axis_order(affine: np.ndarray, reference: np.ndarray) -> tuple[list[int], list[int]]:
    """Tell how the axes of a volume must be permuted and flipped to run as those of a reference affine.

    The order is that in which the directions agree best, whatever the sides of the voxels: a tilted slice that is
    many times as thick as its pixels are wide still has its own axes.

    Args:
        affine: 4 x 4, index to mm.
        reference: the affine whose order is wanted; the unit matrix for right, anterior, superior.

    Returns:
        The axis of the volume that goes to each place, and the places that are then flipped.

    Example:
        >>> axis_order(np.diag([-1.0, 1.0, 2.0, 1.0]), np.eye(4))
        ([0, 1, 2], [0])
    """
    turn = np.linalg.solve(_directions(reference), _directions(affine))
    order = list(max(_ORDERS, key=lambda axes: sum(abs(turn[place, axis]) for place, axis in enumerate(axes))))
    return order, [place for place in range(3) if turn[place, order[place]] < 0]


def _directions(affine: np.ndarray) -> np.ndarray:
    """Return the directions of the axes of a 4 x 4 affine as unit vectors, in columns."""
    return affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)


def reorder(array: np.ndarray, affine: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Permute and flip the axes of a volume so that they run as those of a reference affine.

    Args:
        array: shape (X, Y, Z).
        affine: its 4 x 4 affine, index to mm.
        reference: the affine whose order is wanted.

    Returns:
        The volume, and its affine in the new order.
    """
    order, backwards = axis_order(affine, reference)
    affine = affine[:, [*order, 3]]
    array = array.transpose(order)
    for axis in backwards:
        affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
        affine[:, axis] *= -1
    return np.flip(array, tuple(backwards)), affine


def match_grids(
    array: np.ndarray,
    affine: np.ndarray | None,
    reference_shape: tuple[int, ...],
    reference_affine: np.ndarray | None,
    names: tuple[str, str] = ("the first image", "the second image"),
    coordinates: tuple[str, str] = (PATIENT, PATIENT),
) -> tuple[np.ndarray, str]:
    """Return the second image on the grid of the first: as it is, or with its axes in the first one's order.

    Nothing is interpolated: grids that differ by more than the order of storage are refused. Where an image has no
    place in the patient, affines tell nothing of the other one: voxels are paired by their index, or not at all.

    Args:
        array: second image, shape (X, Y) or (X, Y, Z).
        affine: its 4 x 4 affine, index to RAS mm; None for a picture without geometry.
        reference_shape: shape of the first image.
        reference_affine: affine of the first image, or None.
        names: how the two are called in messages.
        coordinates: what the affines of the first and the second image lead to: "patient", "directions", "other" or
            "none".

    Returns:
        The second image, and a note where it was reordered or paired by index, else "".

    Raises:
        FusionInputError: another size or place in space, or geometry in one image only.

    Example:
        >>> flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
        >>> flipped[0, 3] = 2
        >>> match_grids(np.array([[1, 2, 3]]).T, flipped, (3, 1), np.eye(4))[0].ravel().tolist()
        [3, 2, 1]
    """
    if (affine is None) != (reference_affine is None):
        found = "a picture without" if affine is None else "an image with"
        raise _grid_error(names, f"{'an image with' if affine is None else 'a picture without'} geometry as", found)
    if affine is None or reference_affine is None:
        if array.shape != tuple(reference_shape):
            raise _grid_error(names, f"the size {_size(reference_shape)}", _size(array.shape))
        return array, ""
    if coordinates != (PATIENT, PATIENT):
        return array, _match_by_index(array.shape, affine, tuple(reference_shape), reference_affine, names, coordinates)
    return _match_in_space(
        array, np.asarray(affine, float), tuple(reference_shape), np.asarray(reference_affine, float), names
    )


def _match_by_index(
    shape: tuple[int, ...],
    affine: np.ndarray,
    reference_shape: tuple[int, ...],
    reference: np.ndarray,
    names: tuple[str, str],
    coordinates: tuple[str, str],
) -> str:
    """Refuse a pair without a common space unless its voxels can be paired by index; return what to tell about it."""
    lost = " and ".join(name for name, kind in zip(names, coordinates, strict=True) if kind != PATIENT)
    remedy = f"write the orientation of {lost} into its header"
    if shape != reference_shape:
        found = f"{_size(shape)}, with no place in space for {lost}"
        raise input_error(names[1], f"the size {_size(reference_shape)} of {names[0]}", found, remedy)
    sides = [np.linalg.norm(matrix[:3, : len(shape)], axis=0) for matrix in (reference, affine)]
    pairs = zip(sides, coordinates, strict=True)  # 1 mm is also what stands where nothing is known
    stated = not any(np.allclose(lengths, 1) and kind == NONE for lengths, kind in pairs)
    if stated and not np.allclose(sides[0], sides[1], rtol=0.05):
        words = [" x ".join(f"{length:.4g}" for length in lengths) for lengths in sides]
        raise input_error(names[1], f"voxels of {words[0]} mm as {names[0]}", f"{words[1]} mm", remedy)
    turns = [matrix[:3, : len(shape)] / lengths for matrix, lengths in zip((reference, affine), sides, strict=True)]
    comparable = coordinates == (OTHER, OTHER) or set(coordinates) <= {PATIENT, DIRECTIONS}
    if comparable and not np.allclose(turns[0], turns[1], atol=0.01):
        found = "axes that run otherwise, and no common place in space"
        raise input_error(names[1], f"axes as those of {names[0]}", found, remedy)
    return f"no place in space for {lost}: paired voxel by voxel in the order of storage; check left and right"


def _match_in_space(
    array: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    reference: np.ndarray,
    names: tuple[str, str],
) -> tuple[np.ndarray, str]:
    if array.ndim != len(shape):
        raise _grid_error(names, f"the size {_size(shape)}", _size(array.shape))
    volume = array.reshape(array.shape + (1,) * (3 - array.ndim))
    whole = shape + (1,) * (3 - len(shape))
    if volume.shape == whole and _corner_distance(reference, affine, whole) <= TOLERANCE:
        return array, ""
    order, backwards = axis_order(affine, reference)
    notes = ["second image stored in another order: reordered by its affine"] if order != [0, 1, 2] or backwards else []
    volume, moved = reorder(volume, affine.copy(), reference)
    if volume.shape != whole:
        raise _grid_error(names, f"the size {_size(shape)}", _size(array.shape))
    distance = _corner_distance(reference, moved, whole)
    side = float(np.linalg.norm(reference[:3, :3], axis=0).min())
    if TOLERANCE < distance <= min(_ROUNDING, _ROUNDING_MM / side):
        notes.append(f"its grid lies up to {distance * side:.2g} mm beside that of the first image: taken as rounding")
    elif distance > TOLERANCE:
        found = f"a grid of the same size whose corners lie up to {distance:.2g} voxels apart"
        raise _grid_error(names, "the place in space", found)
    return np.ascontiguousarray(volume.reshape(shape)), "; ".join(notes)
