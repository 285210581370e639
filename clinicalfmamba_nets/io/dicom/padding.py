"""Pixels that stand for "no data": by the header's tags, or far below air in a CT.

Source: DICOM PS3.3, C.7.5.1.1.2 (PixelPaddingValue, PixelPaddingRangeLimit).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.header import Header

AIR = -1024.0  # HU that no tissue and no air falls below, but for noise
_FAR = -1500.0  # HU that noise does not reach either
_ALIKE = 0.02  # of the range of the values: what is as near to the least of them is about the same
_SHARE = 0.01  # of the voxels, from which on the least value below air is no noise


def padding_mask(raw: np.ndarray, values: np.ndarray, header: Header, dataset: Any) -> np.ndarray | None:
    """Mark pixels that PixelPaddingValue and PixelPaddingRangeLimit name.

    The tags are compared modulo 2^BitsAllocated, because they are written as US and as SS whatever the sign of the
    pixels is; a value that BitsStored cannot hold is looked for in the pixels as they lie in the file.

    Args:
        raw: pixels with all their bits, shape (rows, columns).
        values: the same with the bits outside BitsStored removed.
        header: of the file.
        dataset: pydicom dataset of the file.

    Returns:
        True where there are no data, shape (rows, columns); None where that is nowhere.
    """
    ends = [_number(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    first, last = (_in_bits(end, header) for end in (ends[0], ends[0] if ends[1] is None else ends[1]))
    if first is None or last is None:
        return None
    low, high = min(first, last), max(first, last)
    whole = raw.astype(np.int64)
    bits = 8 * raw.dtype.itemsize
    if header.signed and raw.dtype.kind == "u":
        whole = np.where(whole >= 1 << (bits - 1), whole - (1 << bits), whole)
    mask = (whole >= low) & (whole <= high)
    span = (-(1 << (header.bits_stored - 1)), 1 << (header.bits_stored - 1))
    least, beyond = span if header.signed else (0, 1 << header.bits_stored)
    if least <= low and high < beyond:
        mask |= (values >= low) & (values <= high)
    return mask if mask.any() else None


def _number(dataset: Any, keyword: str) -> int | None:
    """Return the whole number of an element, None where it is absent or no single number."""
    value = dataset.get(keyword)
    if isinstance(value, bytes) and len(value) == 2:  # VR UN, which keeps the bytes as they lie in the file
        value = int.from_bytes(value, "little" if dataset.original_encoding[1] is not False else "big")
    try:
        return None if value is None or value == "" else int(value)
    except (TypeError, ValueError):
        return None


def _in_bits(value: int, header: Header) -> int | None:
    """Return the pixel value that a tag of 16 bits means in a file; None where no pixel can have it."""
    size = 1 << header.bits_allocated
    twin = value - 0x10000 if value >= 0x8000 else value + 0x10000 if value < 0 else value  # the same in the other VR
    low, high = min(value, twin), max(value, twin)
    meant = min(low, high, key=abs) if size < 0x10000 else low if header.signed else high
    if not -size // 2 <= meant < size:
        return None
    meant %= size
    return meant - size if header.signed and meant >= size // 2 else meant


def far_below_air(volume: np.ndarray) -> np.ndarray | None:
    """Mark voxels of a CT that are no measurement though no tag says so: -2000 or -3024 outside the field of view.

    Args:
        volume: values in HU, any shape.

    Returns:
        True below -1500 HU, and at a least value below -1024 HU that many voxels share; None where that is nowhere.

    Example:
        >>> far_below_air(np.array([-3024, -1000, 40])).tolist()
        [True, False, False]
    """
    low = volume.min()
    if low >= AIR:
        return None
    mask = volume < _FAR
    rest = volume[~mask]
    if rest.size and rest.min() < AIR:
        least = volume == rest.min()
        mask |= least if np.count_nonzero(least) >= _SHARE * volume.size else False
    return mask if mask.any() and not mask.all() else None


def fill_padding(volume: np.ndarray, mask: np.ndarray) -> tuple[int, float, np.ndarray | None] | None:
    """Give voxels without data the least value of all others, in place.

    Args:
        volume: values, any shape.
        mask: where there are no data, of that shape.

    Returns:
        How many voxels changed, the value, and where the image really has no data: a padding value that is about that
        of air, or of the dark around a head, says nothing about the field of view. None there where that is nowhere;
        None (and nothing is changed) where no voxel has data.
    """
    if mask.all():
        return None
    data = volume[~mask]
    lowest, highest = data.min(), data.max()
    padded = volume[mask]
    apart = np.abs(padded.astype(np.float64) - float(lowest)) > _ALIKE * (float(highest) - float(lowest))
    missing = None
    if apart.any():
        missing = mask.copy()
        missing[mask] = apart
    volume[mask] = lowest
    return int(np.count_nonzero(padded != lowest)), float(lowest), missing
