"""PNG images: checked before they are decoded, written whole or not at all."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.colour import colour_pixels
from clinicalfmamba_nets.io.files import PathLike, atomic_file, check_file, printable
from clinicalfmamba_nets.io.pillow_images import (
    MAX_PIXELS,
    check_pixels,
    load_picture,
    open_picture,
    picture_meta,
    pixel_array,
    upright,
)
from clinicalfmamba_nets.io.raw import MAX_COMPRESSION, stored_values

__all__ = ["MAX_PIXELS", "SIGNATURE", "read_png", "write_png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # IHDR color type -> samples per pixel
_MAX_CHUNKS = 100_000
_USUAL_GAMMA = 1 / 2.2


def _read_header(path: PathLike) -> tuple[int, int, int, int]:
    """Return width, height, bits per sample and color type, or raise before anything is decoded."""
    target, name = check_file(path, "a PNG image"), printable(path)
    with open(target, "rb") as file:
        head = file.read(33)
    if head[:8] != SIGNATURE:
        raise input_error(name, "a PNG image", f"a file that starts with {head[:8]!r}", "export it as PNG")
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise input_error(name, "a PNG image", "a truncated header", "copy or export the file again")
    width, height, bits, color_type = struct.unpack(">IIBB", head[16:26])
    if color_type not in _COLOR_TYPES or not width or not height:
        found = f"{width} x {height} pixels of color type {color_type}"
        raise input_error(name, "a PNG image", found, "export the file again")
    return width, height, bits, color_type


def _check_chunks(path: PathLike) -> None:
    """Refuse a second header, which Pillow would believe, and chunks without end."""
    with open(check_file(path), "rb") as file:
        file.seek(33)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                return
            if head[4:] == b"IHDR":
                found = "a second one"
                raise input_error(printable(path), "one header (IHDR)", found, "export the file again")
            file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    raise input_error(printable(path), f"at most {_MAX_CHUNKS} chunks", "more of them", "export the file again")


def _check_size(path: PathLike, width: int, height: int, bits: int, color_type: int) -> None:
    size = (width * bits * _COLOR_TYPES[color_type] + 7) // 8 * height
    check_pixels(path, width, height, size)
    stored = check_file(path).stat().st_size
    if size > stored * MAX_COMPRESSION:
        found = f"{stored} bytes for {width} x {height} pixels"
        raise input_error(printable(path), "a whole PNG image", found, "the file is truncated: copy or export it again")


def _decode(path: PathLike, content: bytes | None = None, rawmode: str = "") -> Any:
    """Decode a file, or other content in its place."""
    with open(check_file(path), "rb") as file:
        image = open_picture(path, file if content is None else io.BytesIO(content), "PNG")
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise input_error(printable(path), "one image", f"an animation of {frames} frames", "export one frame")
        return load_picture(path, image, "PNG", rawmode)


def _sixteen_bits(path: PathLike, color_type: int) -> tuple[np.ndarray, Any]:
    """Return 16-bit color, or grey and alpha, of which Pillow itself keeps the upper 8 bits, (H, W, samples)."""
    if color_type == 4:  # rows of 16-bit grey and alpha are as long as those of 8-bit color and alpha
        content = bytearray(check_file(path).read_bytes())
        content[24:26] = 8, 6
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        image = _decode(path, bytes(content))
        high, low = (np.asarray(image)[..., first::2] for first in (0, 1))
    else:
        mode = "RGB" if color_type == 2 else "RGBA"
        image = _decode(path, rawmode=f"{mode};16B")
        high, low = np.asarray(image), np.asarray(_decode(path, rawmode=f"{mode};16L"))
    return high.astype(np.uint16) << 8 | low, image


def read_png(path: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a PNG image.

    Args:
        path: the file.

    Returns:
        Pixels as stored, uint8 or uint16, shape (H, W) for grey or (H, W, 3) for color, turned upright where EXIF says
        how, and the dictionary of `read_image` with `format` "png", `affine` None, and in `notes` what was ignored or
        converted (alpha, palette, color that is grey, gamma).

    Raises:
        FusionInputError: missing, empty, not a PNG, truncated, an animation, or larger than `MAX_PIXELS`.
    """
    width, height, bits, color_type = _read_header(path)
    _check_size(path, width, height, bits, color_type)
    _check_chunks(path)
    if bits == 16 and color_type in (2, 4, 6):
        samples, image = _sixteen_bits(path, color_type)
        array, notes = colour_pixels(samples)
    else:
        image = _decode(path)
        array, notes = pixel_array(image)
    if "transparency" in image.info and color_type in (0, 2):
        notes.append("one value that the file calls transparent stays as it is stored")
    gamma = image.info.get("gamma")
    if gamma and abs(gamma - _USUAL_GAMMA) > 0.01:
        notes.append(f"gamma {gamma:.3g} of the file not applied: pixels as stored")
    array, told = upright(array, image)
    return array, picture_meta("png", array, notes, told)


def write_png(
    path: PathLike,
    array: np.ndarray,
    like: PathLike | None = None,
    affine: np.ndarray | None = None,
    dtype: Any = None,
) -> None:
    """Write pixels as PNG, whole or not at all.

    Args:
        path: file to be written.
        array: shape (H, W) or (H, W, 3), in units of the type (0..255 or 0..65535); rounded and clipped.
        like: PNG file whose type, 8 or 16 bits, is kept.
        affine: of no effect: a PNG has no geometry.
        dtype: "uint8" or "uint16" instead of that of `like` (uint8 without one). Color is always stored in 8 bits.

    Raises:
        ValueError: another shape or type.
        FusionInputError: `like` cannot be read.
    """
    from PIL import Image

    if like is not None and dtype is None:
        _, _, bits, color_type = _read_header(like)
        dtype = np.uint16 if bits == 16 and color_type == 0 else np.uint8
    kind = np.dtype(dtype or np.uint8)
    if kind not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] != 3):
        raise ValueError(f"PNG: expected uint8 or uint16 of shape (H, W) or (H, W, 3), found {kind} {array.shape}")
    if array.ndim == 3 and kind == np.uint16:
        array, kind = np.asarray(array, dtype=np.float64) / 257, np.dtype(np.uint8)
    with atomic_file(path) as partial:
        Image.fromarray(stored_values(array, kind)).save(partial, format="PNG")
