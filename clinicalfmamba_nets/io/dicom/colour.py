"""Colors of DICOM: luma and color differences, palettes of images, and the well-known palettes of the standard.

Source: DICOM PS3.3, C.7.6.3.1.2 (photometric interpretations), C.7.6.3.1.5 and C.7.9 (palettes); PS3.6, annex B
(well-known palettes).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import PathLike, printable

# By UID, because pydicom 3.0.2 exchanges the names FALL and WINTER.
_PALETTES = {
    name: f"1.2.840.10008.1.5.{number}"
    for number, name in enumerate(
        ("hot_iron", "pet", "hot_metal_blue", "pet_20_step", "spring", "summer", "fall", "winter"), 1
    )
}
PALETTES = ("grey", *_PALETTES)
_COLORS = ("Red", "Green", "Blue")


@cache
def palette_table(name: str) -> np.ndarray:
    """Return one of DICOM's well-known palettes.

    Args:
        name: one of `PALETTES`; "grey" for none.

    Returns:
        Red, green and blue of each of 256 values, shape (256, 3), uint8, read-only.

    Raises:
        FusionInputError: another name.

    Example:
        >>> palette_table("hot_iron")[[0, 128, 255]].tolist()
        [[0, 0, 0], [255, 0, 0], [255, 255, 255]]
    """
    if name not in PALETTES:
        raise input_error("palette", f"one of {', '.join(PALETTES)}", printable(str(name)), "choose one of them")
    if name == "grey":
        table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    else:
        dataset = _well_known(_PALETTES[name])
        table = _eight_bits([_table(dataset, color)[0] for color in _COLORS])
    table.flags.writeable = False
    return table


def _well_known(uid: str) -> Any:
    from pydicom import dcmread
    from pydicom.data import get_palette_files

    for file in get_palette_files("*.dcm"):
        dataset = dcmread(file)
        if dataset.SOPInstanceUID == uid:
            return dataset
    raise input_error("pydicom", f"the palette {uid}", "none", "install pydicom again")


def apply_palette(values: np.ndarray, name: str) -> np.ndarray:
    """Color values by a well-known palette.

    Args:
        values: in [0, 1], any shape; what lies outside gets the first or last color.
        name: one of `PALETTES`.

    Returns:
        Red, green and blue, shape (*values.shape, 3), uint8.

    Example:
        >>> apply_palette(np.array([0.0, 1.0]), "hot_metal_blue").tolist()
        [[0, 0, 0], [255, 255, 255]]
    """
    index = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return palette_table(name)[index]


def ybr_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Convert YBR_FULL to red, green and blue.

    Args:
        pixels: luma and color differences of 8 bits, shape (*, 3).

    Returns:
        Rounded and clipped to 8 bits, the same shape.

    Example:
        >>> ybr_to_rgb(np.array([[138, 49, 211]], dtype=np.uint8)).tolist()
        [[254, 106, 0]]
    """
    luma, blue, red = np.moveaxis(pixels.astype(np.float32), -1, 0)
    blue, red = blue - 128, red - 128
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def palette_to_rgb(stored: np.ndarray, dataset: Any, path: PathLike) -> np.ndarray:
    """Color stored values by the palette of their own file.

    Args:
        stored: shape (rows, columns).
        dataset: pydicom dataset with the palette.
        path: the file, for the message.

    Returns:
        Red, green and blue of 8 bits, shape (rows, columns, 3).

    Raises:
        FusionInputError: no palette, or one that is not whole.
    """
    tables = []
    for color in _COLORS:
        try:
            table, first = _table(dataset, color)
        except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            expected = f"a whole {color}PaletteColorLookupTable for PALETTE COLOR"
            raise input_error(printable(path), expected, "none or a damaged one", "export the image as RGB") from error
        index = np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)
        tables.append(table[index])
    return _eight_bits(tables)


def _eight_bits(colors: Sequence[np.ndarray]) -> np.ndarray:
    """Put colors together, of which one above 255 tells that all have 16 bits."""
    together = np.stack(colors, axis=-1)
    return (together if together.max() <= 255 else together >> 8).astype(np.uint8)


def _table(dataset: Any, color: str) -> tuple[np.ndarray, int]:
    """Return the entries of one color, and the stored value that the first of them is for."""
    count, first, bits = (int(value) for value in dataset[f"{color}PaletteColorLookupTableDescriptor"].value)
    count = count % 65536 or 65536
    signed = bool(dataset.get("PixelRepresentation", 0))
    first = (first + 32768) % 65536 - 32768 if signed else first % 65536
    data = dataset.get(f"{color}PaletteColorLookupTableData")
    if data is None:
        entries = _expanded(dataset, color, count, bits)
    else:
        data, order = bytes(data), "<" if _is_little(dataset) else ">"
        if bits <= 8 and len(data) < 2 * count and len(data) >= count:  # two entries to a word
            words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2").astype("<u2")
            entries = np.frombuffer(words.tobytes() + data[len(data) // 2 * 2 :], "u1")
        else:
            entries = np.frombuffer(data, f"{order}u2", count)
    if len(entries) < count:
        raise ValueError(f"{len(entries)} of {count} entries")
    return entries[:count].astype(np.uint16), first


def _expanded(dataset: Any, color: str, count: int, bits: int) -> np.ndarray:
    """Expand the segments of a SegmentedPaletteColorLookupTable (DICOM PS3.3, C.7.9.2)."""
    data = bytes(dataset[f"Segmented{color}PaletteColorLookupTableData"].value)
    kind = "u1" if bits <= 8 else f"{'<' if _is_little(dataset) else '>'}u2"
    codes = np.frombuffer(data[: len(data) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind).tolist()
    entries: list[int] = []
    place = 0
    while place + 1 < len(codes) and len(entries) < count:
        code, length = codes[place : place + 2]
        if code == 0:  # discrete
            entries += codes[place + 2 : place + 2 + length]
            place += 2 + length
        elif code == 1 and entries:  # linear, from the last entry on
            ramp = np.linspace(entries[-1], codes[place + 2], length + 1)[1:]
            entries += np.rint(ramp).astype(int).tolist()
            place += 3
        else:
            raise ValueError(f"segment {code}")
    return np.array(entries, dtype=np.uint16)


def _is_little(dataset: Any) -> bool:
    return dataset.original_encoding[1] is not False
