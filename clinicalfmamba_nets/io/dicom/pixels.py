"""Pixels of DICOM slices, one file in memory at a time: decoded, colors in RGB, padding and spare bits told apart.

Source: DICOM PS3.3, C.7.6.3 (image pixel module); PS3.5, 8.1 and 8.2 (native and compressed pixel data).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.dicom.colour import palette_to_rgb, ybr_to_rgb
from clinicalfmamba_nets.io.dicom.decoders import decode_frame
from clinicalfmamba_nets.io.dicom.header import Header, Slice, quiet_pydicom, read_dataset, read_header
from clinicalfmamba_nets.io.dicom.padding import padding_mask
from clinicalfmamba_nets.io.dicom.pixel_format import NATIVE, is_color, is_subsampled
from clinicalfmamba_nets.io.files import printable
from clinicalfmamba_nets.io.raw import refuse_damaged

_WHAT = "DICOM image"
_OVERLAYS = range(0x6000, 0x6100, 2)


@dataclass
class Stored:
    """The pixels of one slice.

    `values` are stored values without any rescale, shape (rows, columns), or red, green and blue of 8 bits, shape
    (rows, columns, 3). `padding` marks pixels that stand for "no data" by the header's tags, None where none do.
    `overflow` counts other pixels that use bits above BitsStored for no known purpose, `wrapped` those that are
    negative by their sign, where the image is smoother without one. `dataset` is the whole file.
    """

    values: np.ndarray
    padding: np.ndarray | None
    overflow: int
    dataset: Any
    wrapped: int = 0


def stored_slices(slices: list[Slice], headers: dict[Any, Header]) -> Iterator[Stored]:
    """Yield the pixels of slices in their order, each read by the header of its own file.

    Args:
        slices: slices, in any order of files and frames.
        headers: the header of each file.

    Raises:
        FusionInputError: pixel data that is missing, truncated, damaged, of another size, or of a syntax that cannot be
            decoded.
    """
    dataset: Any = None
    path = None
    for item in slices:
        if item.path != path:
            dataset, path = read_dataset(item.path, pixels=True), item.path
        header = headers[item.path]
        with refuse_damaged(item.path, _WHAT), quiet_pydicom():
            if not dataset.get("PixelData"):
                raise input_error(printable(item.path), "PixelData (7FE0,0010)", "none", "export the image again")
            yield _stored(dataset, header, item.frame)


def same_pixels(one: Path, other: Path) -> bool:
    """Tell whether two files hold the same stored values, however they are compressed, in all their frames."""
    headers = {path: read_header(path) for path in (one, other)}
    shapes = {(header.rows, header.columns, header.samples, header.frames) for header in headers.values()}
    if len(shapes) > 1:
        return False
    try:
        pairs = zip(*(stored_slices(header.slices, headers) for header in headers.values()), strict=True)
        return all(np.array_equal(first.values, second.values) for first, second in pairs)
    except FusionInputError:  # what cannot be read is not known to be equal
        return False


def _stored(dataset: Any, header: Header, frame: int) -> Stored:
    raw, luma = _native(dataset, header, frame) if header.syntax in NATIVE else decode_frame(dataset, header, frame)
    shape = (header.rows, header.columns) + ((3,) if header.samples == 3 else ())
    if raw.shape != shape:
        found = " x ".join(map(str, raw.shape))
        remedy = "its header is wrong: export it again"
        raise input_error(printable(header.path), f"{shape[0]} x {shape[1]} pixels", found, remedy)
    if header.samples == 3:
        return Stored(ybr_to_rgb(raw) if luma else raw, None, 0, dataset)
    values = _masked(raw, header, dataset)
    if is_color(header):
        return Stored(palette_to_rgb(values, dataset, header.path), None, 0, dataset)
    padding = padding_mask(raw, values, header, dataset)
    overflow, wrapped = _overflow(raw, padding, header, dataset), _wrapped(raw, values, padding, header)
    return Stored(values, padding, overflow, dataset, wrapped)


def _native(dataset: Any, header: Header, frame: int) -> tuple[np.ndarray, bool]:
    """Take one frame out of uncompressed pixel data; and whether its colors are luma and color differences."""
    big, data = header.syntax == NATIVE[2], dataset.PixelData
    kind = np.dtype(f"{'>' if big else '<'}{'i' if header.signed else 'u'}{header.bits_allocated // 8}")
    count = header.rows * header.columns * (2 if is_subsampled(header) else header.samples)
    if len(data) < count * kind.itemsize * header.frames:
        found = f"{len(data)} bytes of PixelData for {header.frames} x {header.rows} x {header.columns}"
        raise input_error(printable(header.path), "a whole image", found, "it is truncated: copy or export it again")
    if big and kind.itemsize == 1 and dataset["PixelData"].VR == "OW":  # bytes lie in words, the second one first
        start = frame * count // 2 * 2
        words = np.frombuffer(data, "u1", min((count + 2) // 2 * 2, len(data) // 2 * 2 - start), start)
        array = words.reshape(-1, 2)[:, ::-1].reshape(-1)[frame * count - start :][:count].view(kind)
    else:
        array = np.frombuffer(data, kind, count, frame * count * kind.itemsize)
    array = array.astype(kind.newbyteorder("="))
    luma = header.photometric in ("YBR_FULL", "YBR_FULL_422")
    if is_subsampled(header):  # two lumas, then the color differences of both
        pairs = array.reshape(header.rows, header.columns // 2, 4)
        shared = np.repeat(pairs[..., 2:], 2, axis=1)
        return np.concatenate([pairs[..., :2].reshape(header.rows, header.columns, 1), shared], axis=-1), luma
    if header.samples == 3 and header.planar:
        return np.moveaxis(array.reshape(3, header.rows, header.columns), 0, -1), luma
    return array.reshape(header.rows, header.columns, *((3,) if header.samples == 3 else ())), luma


def _masked(raw: np.ndarray, header: Header, dataset: Any) -> np.ndarray:
    """Shift stored bits down to bit 0, remove all others, and extend the sign from the highest stored bit."""
    low = header.high_bit + 1 - header.bits_stored
    if low and (raw.astype(np.int64) & ((1 << low) - 1)).any() and not _overlays(dataset):
        found = f"{header.high_bit} and pixels that use the bits below"
        expected = f"HighBit (0028,0102) {header.bits_stored - 1}"
        raise input_error(printable(header.path), expected, found, "its header is wrong: export it again")
    kind = np.dtype(f"{'i' if header.signed else 'u'}{raw.dtype.itemsize}")
    spare = 8 * kind.itemsize - header.bits_stored
    return raw.view(kind) if not spare else (raw.view(kind) << (spare - low)) >> spare


def _overflow(raw: np.ndarray, padding: np.ndarray | None, header: Header, dataset: Any) -> int:
    """Count pixels whose bits above BitsStored are neither a sign nor padding nor a known overlay."""
    top = header.high_bit + 1
    if top >= 8 * raw.dtype.itemsize or _overlays(dataset):
        return 0
    values = raw.astype(np.int64)
    odd = (values < 0) | (values >= 1 << top)
    if header.signed:
        odd &= (values < -(1 << (top - 1))) | (values >= 1 << top)
    return int(np.count_nonzero(odd if padding is None else odd & ~padding))


def _wrapped(raw: np.ndarray, values: np.ndarray, padding: np.ndarray | None, header: Header) -> int:
    """Count negative pixels, without padding, whose sign is not carried into the bits above and seems to be none.

    Where numbers from 0 to 4095 are called signed, neighbors of 2047 and 2048 are 4095 apart; where they are signed, it
    is those of -1 and 0 that would be so far apart without the sign.
    """
    top, width = header.high_bit + 1, 8 * raw.dtype.itemsize
    if not header.signed or top != header.bits_stored or top >= width:
        return 0
    plain = raw.view(f"u{raw.dtype.itemsize}").astype(np.int64)
    odd = (plain >= 1 << (top - 1)) & (plain < 1 << top)
    odd = odd if padding is None else odd & ~padding
    steps = [0, 0]  # between neighbors of which one is odd: as the values are read, and without a sign
    for axis in (0, 1) if odd.any() else ():
        edges = np.diff(odd, axis=axis)
        for place, image in enumerate((values.astype(np.int64), plain)):
            steps[place] += int(np.abs(np.diff(image, axis=axis))[edges].sum())
    return int(np.count_nonzero(odd)) if 2 * steps[1] < steps[0] else 0


def _overlays(dataset: Any) -> bool:
    """Tell whether the header says that overlays lie in unused bits of the pixels."""
    return any((group << 16) + 0x0102 in dataset and (group << 16) + 0x3000 not in dataset for group in _OVERLAYS)
