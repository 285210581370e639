"""What PNG, JPEG and TIFF pictures have in common: decoding by Pillow within limits, full depth, and upright."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.colour import colour_pixels
from clinicalfmamba_nets.io.files import PathLike, check_memory, printable

# 8192 x 8192: larger than any medical frame, small enough for every machine.
MAX_PIXELS = 2**26
_ORIENTATION = 274  # tag of EXIF
# What turns the stored picture upright, by the tag's value.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda array: np.rot90(array, 2),
    4: np.flipud,
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: np.rot90(array, -1),
    7: lambda array: np.rot90(array.swapaxes(0, 1), 2),
    8: np.rot90,
}


def check_pixels(path: PathLike, width: int, height: int, stored: int = 0) -> None:
    """Refuse a picture that is too large for the network or for the memory, before it is decoded.

    Args:
        path: the file, for messages.
        width: pixels across.
        height: pixels down.
        stored: bytes of the decoded picture, where known.

    Raises:
        FusionInputError: more than `MAX_PIXELS`, or more than the memory holds.
    """
    if width * height > MAX_PIXELS:
        found = f"{width} x {height}"
        raise input_error(
            printable(path), f"at most {MAX_PIXELS} pixels", found, "crop the image or export a smaller one"
        )
    check_memory(path, 4 * stored + 24 * width * height)


def open_picture(path: PathLike, file: IO[bytes], kind: str) -> Any:
    """Let Pillow look at a picture without decoding it.

    Args:
        path: the file, for messages.
        file: the same, open.
        kind: "PNG", "JPEG" or "TIFF".

    Raises:
        FusionInputError: damaged, too large, or another kind.
    """
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limits here are stricter than Pillow's, and it warns of odd tags
        try:
            image = Image.open(file, formats=[kind])
        except Image.DecompressionBombError as error:
            raise input_error(
                printable(path), f"at most {MAX_PIXELS} pixels", "more of them", "export a smaller one"
            ) from error
        except UnidentifiedImageError as error:  # its text names an object of Python
            found = "a truncated or damaged one, or one of a rare kind"
            raise input_error(printable(path), f"a whole {kind} image", found, "export it again, or as PNG") from error
        except _DAMAGE as error:
            raise _damaged(path, kind, error) from error
    check_pixels(path, *image.size)
    return image


def load_picture(path: PathLike, image: Any, kind: str, rawmode: str = "") -> Any:
    """Decode what `open_picture` gave.

    Args:
        path: the file, for messages.
        image: Pillow's image.
        kind: "PNG", "JPEG" or "TIFF".
        rawmode: Pillow's name of the layout of stored pixels, instead of its own choice.

    Returns:
        The image, loaded.

    Raises:
        FusionInputError: truncated or damaged.
    """
    if rawmode:
        image.tile = [_with_rawmode(tile, rawmode) for tile in image.tile]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image.load()
        except _DAMAGE as error:
            raise _damaged(path, kind, error) from error
    return image


_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, OverflowError, struct.error)


def _damaged(path: PathLike, kind: str, error: Exception) -> Exception:
    found = f"a truncated or damaged one ({printable(str(error))[:200]})"
    return input_error(printable(path), f"a whole {kind} image", found, "copy or export the file again")


def _with_rawmode(tile: Any, rawmode: str) -> Any:
    args = rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])
    return tile._replace(args=args)


def pixel_array(image: Any) -> tuple[np.ndarray, list[str]]:
    """Return (H, W) or (H, W, 3) pixels of a loaded image and what was done to them."""
    notes = []
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        notes.append("palette replaced by its colors")
    if image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode == "1":
        image = image.convert("L")
        notes.append("1-bit image read as 0 and 255")
    array = np.asarray(image)
    if image.mode.startswith("I"):
        return array.astype(np.uint16), notes
    if array.ndim == 2:
        return np.ascontiguousarray(array), notes
    pixels, told = colour_pixels(array)
    return pixels, [*notes, *told]


def upright(array: np.ndarray, image: Any) -> tuple[np.ndarray, list[str]]:
    """Turn a picture as its EXIF tag of orientation says, as viewers do; and tell it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stated = int(image.getexif().get(_ORIENTATION, 1))
    except (*_DAMAGE, AttributeError, ZeroDivisionError):  # damaged EXIF says nothing
        return array, []
    if stated not in _UPRIGHT:
        return array, []
    return np.ascontiguousarray(_UPRIGHT[stated](array)), [f"turned upright as its EXIF orientation {stated} says"]


def picture_meta(kind: str, array: np.ndarray, notes: list[str], told: list[str]) -> dict[str, Any]:
    """Return the dictionary of `read_image` for a picture."""
    return {
        "format": kind,
        "dtype": str(array.dtype),
        "value_range": float(np.iinfo(array.dtype).max),
        "color": array.ndim == 3,
        "affine": None,
        "background": None,
        "notes": notes,
        "warnings": told,
    }
