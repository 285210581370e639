"""JPEG and TIFF pictures of one page, 8 or 16 bits: read as PNG is; results of theirs are written as PNG."""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.colour import colour_pixels
from clinicalfmamba_nets.io.files import PathLike, check_file, printable
from clinicalfmamba_nets.io.pillow_images import load_picture, open_picture, picture_meta, pixel_array, upright

_BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION, _ORIENTATION, _FORMAT = 258, 259, 262, 270, 274, 339
_SCAN, _MAX_SCANS = b"\xff\xda", 100
_KINDS = {"jpeg": (b"\xff\xd8\xff",), "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")}


def read_jpeg(path: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a JPEG picture.

    Args:
        path: the file.

    Returns:
        uint8 pixels, shape (H, W) for grey or (H, W, 3) for color, turned upright where EXIF says how, and the
        dictionary of `read_image` with `format` "jpeg" and `affine` None.

    Raises:
        FusionInputError: missing, empty, not a JPEG, truncated, four inks, or too large.
    """
    _check_start(path, "jpeg")
    _check_scans(path)
    with open(check_file(path), "rb") as file:
        image = open_picture(path, file, "JPEG")
        if image.mode not in ("L", "RGB"):
            raise input_error(printable(path), "grey or RGB", f"{image.mode} pixels", "export it as PNG")
        array, notes = pixel_array(load_picture(path, image, "JPEG"))
    array, told = upright(array, image)
    return array, picture_meta("jpeg", array, [*notes, "JPEG: pixels changed by lossy compression"], told)


def read_tiff(path: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a TIFF picture of one page.

    Args:
        path: the file.

    Returns:
        uint8 or uint16 pixels, shape (H, W) for grey or (H, W, 3) for color, turned upright where a tag says how, and
        the dictionary of `read_image` with `format` "tiff" and `affine` None.

    Raises:
        FusionInputError: missing, empty, not a TIFF, truncated, several pages, other numbers than 8 or 16-bit ones, or
            too large.
    """
    _check_start(path, "tiff")
    with open(check_file(path), "rb") as file:
        image = open_picture(path, file, "TIFF")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags
            tags = dict(getattr(image, "tag_v2", {}))
            _check_pages(path, image, tags)
        bits = _check_type(path, image, tags)
        if bits == 16 and image.mode in ("RGB", "RGBA"):
            array, notes = _sixteen_bits(path, image)
        else:
            array, notes = pixel_array(load_picture(path, image, "TIFF"))
    if bits == 16 and tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow turns 8 bits around, not 16
        array = np.iinfo(np.uint16).max - array
    stated = tags.get(_ORIENTATION, 1)  # Pillow turns a TIFF itself
    told = [f"turned upright as its EXIF orientation {stated} says"] if stated in range(2, 9) else []
    return array, picture_meta("tiff", array, notes, told)


def _check_start(path: PathLike, kind: str) -> None:
    with open(check_file(path, f"a {kind.upper()} image"), "rb") as file:
        start = file.read(8)
    if not start.startswith(_KINDS[kind]):
        found = f"a file that starts with {start!r}"
        raise input_error(printable(path), f"a {kind.upper()} image", found, "correct its name, or export it as PNG")


def _check_scans(path: PathLike) -> None:
    """Refuse a progressive picture of very many scans: each takes the time of a whole picture."""
    scans, last = 0, b""
    with open(check_file(path), "rb") as file:
        while part := file.read(2**20):
            scans += (last + part).count(_SCAN)
            last = part[-1:]
    if scans > _MAX_SCANS:
        raise input_error(printable(path), f"at most {_MAX_SCANS} scans", f"{scans}", "export it as PNG")


def _check_pages(path: PathLike, image: Any, tags: dict[int, Any]) -> None:
    """Refuse several pages, also where ImageJ tells them in the description alone."""
    told = re.search(r"^images=(\d+)", str(tags.get(_DESCRIPTION, "")), re.MULTILINE)
    if getattr(image, "_n_frames", None) not in (None, 1) or (told and int(told[1]) > 1) or _has_second(image):
        remedy = "export one page, or a volume as NIfTI"
        raise input_error(printable(path), "a TIFF image of one page", "several pages", remedy)


def _has_second(image: Any) -> bool:
    try:
        image.seek(1)
    except (EOFError, OSError, ValueError, SyntaxError, KeyError, TypeError):
        image.seek(0)
        return False
    return True


def _check_type(path: PathLike, image: Any, tags: dict[int, Any]) -> int:
    """Return the bits of a sample, 16 or at most 8."""
    bits = tags.get(_BITS, (1,))
    bits = set(bits if isinstance(bits, tuple) else (bits,))
    signs = tags.get(_FORMAT, (1,))
    signs = set(signs if isinstance(signs, tuple) else (signs,))
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")
    if len(bits) != 1 or max(bits) not in (1, 2, 4, 8, 16) or signs != {1} or image.mode not in modes:
        found = f"{'/'.join(map(str, sorted(bits)))} bits, {image.mode} pixels"
        raise input_error(printable(path), "grey or RGB of 8 or 16 bits without sign", found, "save it as NIfTI or PNG")
    return max(bits)


def _sixteen_bits(path: PathLike, image: Any) -> tuple[np.ndarray, list[str]]:
    """Return 16-bit color, of which Pillow keeps the upper 8 bits: decoded twice, once for each half of the bits."""
    rawmodes = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile}
    stored = next(iter(rawmodes)) if len(rawmodes) == 1 else ""
    base, order = stored[:-1], stored[-1:]
    if base not in ("RGB;16", "RGBA;16") or order not in ("L", "B", "N"):
        found = "16-bit color in planes"
        raise input_error(printable(path), "16-bit color pixel by pixel", found, "save it as PNG")
    order = {"N": "L" if sys.byteorder == "little" else "B"}.get(order, order)
    halves = []
    for half in (order, "B" if order == "L" else "L"):
        with open(check_file(path), "rb") as file:
            again = open_picture(path, file, "TIFF")
            halves.append(np.asarray(load_picture(path, again, "TIFF", base + half)))
    return colour_pixels(halves[0].astype(np.uint16) << 8 | halves[1])
