"""NaN outside the field of view, as tools write it that reslice images: filled, where it is that and nothing else."""

from __future__ import annotations

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import check_values, percent

# Along an axis with fewer places, everything lies at the border.
_LEAST_SIDE = 4


def fill_background(array: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Give voxels that are NaN and hang together with the border of the image its lowest value.

    Args:
        array: shape (*spatial), real numbers.
        name: the image, for messages.

    Returns:
        The array without NaN; where it was filled, shape (*spatial), or None for nowhere; and a warning for each thing
        that was done.

    Raises:
        FusionInputError: NaN inside the image or everywhere, infinite values, or anything that `check_values` refuses.

    Example:
        >>> fill_background(np.array([[np.nan, 2.0, 3.0, 1.0]] * 5), "a.nii")[0][0].tolist()
        [1.0, 2.0, 3.0, 1.0]
    """
    missing = np.isnan(array) if array.dtype.kind == "f" else None
    count = 0 if missing is None else int(missing.sum())
    if missing is None or count in (0, array.size) or np.isinf(array).any():
        check_values(array, name)
        return array, None, []
    share = f"{count} NaN values ({percent(count, array.size)})"
    inside = count - int(_hangs_on_border(missing).sum())
    if inside:
        found = f"{share}, {inside} of them inside the image"
        raise input_error(name, "finite values", found, "replace them, for example by the background value")
    filled = array.copy()
    filled[missing] = array[~missing].min()
    check_values(filled, name)
    return filled, missing, [f"{share} outside the field of view replaced by the lowest value"]


def _hangs_on_border(mask: np.ndarray) -> np.ndarray:
    """Return the part of a mask whose connected pieces touch the border of the image."""
    from scipy.ndimage import label

    pieces, _ = label(mask, np.ones((3,) * mask.ndim))
    touching: set[int] = set()
    for axis, side in enumerate(mask.shape):
        if side >= _LEAST_SIDE:
            touching.update(np.unique(pieces.take([0, side - 1], axis)).tolist())
    return np.isin(pieces, sorted(touching - {0}))
