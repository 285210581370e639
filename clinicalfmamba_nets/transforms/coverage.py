"""How much of the first image the second one covers, and where it is missing, in words."""

from __future__ import annotations

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.spatial.grids import has_sides
from clinicalfmamba_nets.transforms.sources import Source

# A second image that covers less of the first one is refused unless asked for.
LEAST_COVERAGE = 0.25
# What is missing of a head without a word: rounding at its rim.
_UNTOLD = 0.005
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # toward the low and high end of x, y, z in RAS


def covered_share(covered: np.ndarray | None) -> float:
    """Return the share of the grid that is covered; None stands for all of it."""
    return 1.0 if covered is None else float(covered.mean())


def head_mask(array: np.ndarray) -> np.ndarray:
    """Mark what is not background: above a twentieth of the way from the dark to the bright end.

    Args:
        array: any shape, finite.
    """
    thinned = array[tuple(slice(None, None, max(1, side // 64)) for side in array.shape)]
    dark, bright = np.percentile(thinned, [0.5, 99.5])
    return array > dark + 0.05 * (bright - dark)


def check_coverage(first: Source, second: Source, covered: np.ndarray | None, allow_partial: bool) -> list[str]:
    """Tell what the second image does not cover, as warnings.

    Args:
        first: the image whose grid counts.
        second: the other one, for its name.
        covered: bool on the grid of the first, None for all of it.
        allow_partial: accept less than a quarter.

    Raises:
        FusionInputError: less than a quarter of the grid and of the head is covered.
    """
    if covered is None:
        return []
    head = head_mask(first.array)
    share, of_head = covered_share(covered), float(covered[head].mean()) if head.any() else 1.0
    if max(share, of_head) < LEAST_COVERAGE and not allow_partial:
        expected, found = f"an image that covers at least a quarter of {first.name}", f"{100 * share:.0f} % of it"
        raise input_error(second.name, expected, found, "check the pair, or add --allow-partial (allow_partial)")
    if of_head > 1 - _UNTOLD:
        return []
    names = first.modality or "first image", second.modality or "second image"
    where = missing_text(covered, first.affine if has_sides(first.coordinates) else None)
    return [f"{names[1]} covers {100 * share:.0f} %: the rest shows the {names[0]} alone ({where})"]


def missing_text(covered: np.ndarray, affine: np.ndarray | None) -> str:
    """Tell on which sides whole slices are missing, with their depth in mm where the affine and its sides are known.

    Example:
        >>> covered = np.ones((4, 4, 10), bool)
        >>> covered[..., 6:] = False
        >>> missing_text(covered, np.diag([1.0, 1.0, 5.0, 1.0]))
        'missing 20 mm at S'
    """
    sides = []
    for axis in range(covered.ndim):
        others = tuple(other for other in range(covered.ndim) if other != axis)
        places = np.flatnonzero(covered.any(axis=others))
        if not len(places):
            return "missing everywhere"
        for end, count in ((0, places[0]), (1, covered.shape[axis] - 1 - places[-1])):
            if count:
                sides.append(_side_text(axis, end, int(count), affine))
    return f"missing {', '.join(sides)}" if sides else "missing at its borders"


def _side_text(axis: int, end: int, count: int, affine: np.ndarray | None) -> str:
    if affine is None:
        return f"{count} voxels at one end"
    direction = np.asarray(affine, float)[:3, axis]
    world = int(np.abs(direction).argmax())
    end = end if direction[world] > 0 else 1 - end
    return f"{count * float(np.linalg.norm(direction)):.0f} mm at {_LETTERS[world][end]}"
