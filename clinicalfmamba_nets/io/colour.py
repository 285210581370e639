"""Pixels of several samples as grey or as red, green and blue: alpha left out, hardly any color read as grey."""

from __future__ import annotations

import numpy as np

# JPEG leaves grey pictures with channels that differ by some hundredths of white; what is in color differs by far more.
NEARLY_GREY = 8 / 255


def colour_pixels(array: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return grey pixels, or pixels in color, and what was done to them.

    Args:
        array: uint8 or uint16, shape (*spatial, 1), grey and alpha (*spatial, 2), color (*spatial, 3) or color and
            alpha (*spatial, 4).

    Returns:
        The same type, (*spatial) or (*spatial, 3); and notes.

    Example:
        >>> colour_pixels(np.uint8([[[7, 7, 9]]]))
        (array([[7]], dtype=uint8), ['nearly grey colors (channels differ by up to 2) read as grey'])
    """
    notes = []
    samples = array.shape[-1]
    if samples in (2, 4):
        clear = float((array[..., -1] < np.iinfo(array.dtype).max).mean())
        array = array[..., : samples - 1]
        hidden = f": {max(1, round(100 * clear))} % of the pixels, which viewers show (partly) transparent, stay"
        notes.append(f"alpha channel ignored{hidden if clear else ''}")
    if array.shape[-1] == 1:
        return np.ascontiguousarray(array[..., 0]), notes
    spread = int((array.max(axis=-1) - array.min(axis=-1)).max(initial=0))
    if spread == 0:
        return np.ascontiguousarray(array[..., 0]), [*notes, "equal red, green and blue read as grey"]
    if spread > NEARLY_GREY * np.iinfo(array.dtype).max:
        return np.ascontiguousarray(array), notes
    grey = np.rint(array @ np.array([0.299, 0.587, 0.114])).astype(array.dtype)
    return grey, [*notes, f"nearly grey colors (channels differ by up to {spread}) read as grey"]
