"""PNG images: checked before they are decoded, written whole or not at all."""

from __future__ import annotations

import struct
import warnings
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import PathLike, atomic_file, check_file, check_memory, printable
from clinicalfmamba_nets.io.raw import MAX_COMPRESSION, stored_values

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# 8192 x 8192: larger than any medical frame, small enough for every machine.
MAX_PIXELS = 2**26
_COLOR_TYPES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # IHDR color type -> samples per pixel


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


def _check_size(path: PathLike, width: int, height: int, bits: int, color_type: int) -> None:
    name, size = printable(path), _pixel_bytes(width, height, bits, color_type)
    if width * height > MAX_PIXELS:
        found = f"{width} x {height}"
        raise input_error(name, f"at most {MAX_PIXELS} pixels", found, "crop the image or export a smaller one")
    stored = check_file(path).stat().st_size
    if size > stored * MAX_COMPRESSION:
        found = f"{stored} bytes for {width} x {height} pixels"
        raise input_error(name, "a whole PNG image", found, "the file is truncated: copy or export it again")
    check_memory(path, 4 * size + 12 * width * height)


def _pixel_bytes(width: int, height: int, bits: int, color_type: int) -> int:
    return (width * bits * _COLOR_TYPES[color_type] + 7) // 8 * height


def _decode(path: PathLike) -> Any:
    from PIL import Image

    with warnings.catch_warnings(), open(check_file(path), "rb") as file:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit above is stricter
        try:
            image = Image.open(file, formats=["PNG"])
            frames = getattr(image, "n_frames", 1)
            image.load()
        except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
            found = f"a truncated or damaged one ({error})"
            raise input_error(printable(path), "a whole PNG image", found, "copy or export the file again") from error
    if frames > 1:
        raise input_error(printable(path), "one image", f"an animation of {frames} frames", "export one frame")
    return image


def _to_array(image: Any) -> tuple[np.ndarray, list[str]]:
    """Return (H, W) or (H, W, 3) pixels and what was done to them."""
    notes = []
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        notes.append("palette replaced by its colors")
    if image.mode in {"RGBA", "LA", "PA"}:
        image = image.convert("L" if image.mode == "LA" else "RGB") if image.mode != "RGBA" else image
        notes.append("alpha channel ignored")
    if image.mode == "1":
        image = image.convert("L")
        notes.append("1-bit image read as 0 and 255")
    array = np.asarray(image)
    array = array.astype(np.uint16) if image.mode.startswith("I") else array
    array = array[..., :3] if array.ndim == 3 else array
    if array.ndim == 3 and (array == array[..., :1]).all():
        array = array[..., 0]
        notes.append("equal red, green and blue read as grey")
    return np.ascontiguousarray(array), notes


def read_png(path: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a PNG image.

    Args:
        path: the file.

    Returns:
        Pixels, uint8 or uint16, shape (H, W) for grey or (H, W, 3) for color, and a dictionary with `format`
        ("png"), `dtype`, `value_range` (255 or 65535), `color`, `affine` (None: a PNG has no geometry) and
        `notes`: what was ignored or converted (alpha, palette, color that is grey).

    Raises:
        FusionInputError: missing, empty, not a PNG, truncated, an animation, or larger than `MAX_PIXELS`.
    """
    width, height, bits, color_type = _read_header(path)
    _check_size(path, width, height, bits, color_type)
    array, notes = _to_array(_decode(path))
    if bits == 16 and array.dtype == np.uint8:
        notes.append("16-bit color read with 8 bits")
    meta = {
        "format": "png",
        "dtype": str(array.dtype),
        "value_range": float(np.iinfo(array.dtype).max),
        "color": array.ndim == 3,
        "affine": None,
        "notes": notes,
    }
    return array, meta


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
