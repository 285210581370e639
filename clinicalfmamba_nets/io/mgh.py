"""Volumes of FreeSurfer (`.mgz`, `.mgh`); results of theirs are written as NIfTI."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.background import fill_background
from clinicalfmamba_nets.io.files import PathLike, check_file, printable
from clinicalfmamba_nets.io.raw import bytes_behind, check_grid, check_size, open_stream, read_voxels, refuse_damaged
from clinicalfmamba_nets.io.streams import GZIP_MAGIC

_WHAT = "MGH volume"
_OFFSET = 284
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}


def read_mgh(path: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a volume of FreeSurfer.

    Source: "FsTutorial/MghFormat", surfer.nmr.mgh.harvard.edu; what lies behind the voxels (commands, echo times) is
    left out.

    Args:
        path: `.mgz` or `.mgh`.

    Returns:
        Voxels, shape (X, Y, Z), and the dictionary of `read_image` with `format` "mgh".

    Raises:
        FusionInputError: missing, empty, truncated, not MGH, several frames, NaN inside the image or infinite values,
            or more voxels than the file or the memory holds.
    """
    with refuse_damaged(path, _WHAT):
        start, packed = _first_bytes(path)
        shape, dtype = _layout(path, start)
        affine, placed = _affine(start, shape)
        check_grid(path, shape, dtype, affine)
        check_size(path, shape, dtype, _OFFSET, packed)
        with open_stream(path, "gzip" if packed else "") as file:
            file.read(_OFFSET)
            array = read_voxels(file, shape, dtype)
            bytes_behind(file, path)
    told = [] if placed else ["header without orientation (goodRASFlag 0): place in space not known"]
    array, background, filled = fill_background(array, printable(path))
    meta = {
        "format": "mgh",
        "dtype": array.dtype.name,
        "value_range": None,
        "color": False,
        "affine": affine,
        "coordinates": "patient" if placed else "none",
        "background": background,
        "notes": [],
        "warnings": [*told, *filled],
    }
    return array, meta


def mgh_shape(path: PathLike) -> tuple[int, ...]:
    """Return the shape that a header states, without a look at the voxels; errors as in `read_mgh`."""
    with refuse_damaged(path, _WHAT):
        return _layout(path, _first_bytes(path)[0])[0]


def _first_bytes(path: PathLike) -> tuple[bytes, bool]:
    target = check_file(path, "an MGH volume")
    with open(target, "rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    with open_stream(path, "gzip" if packed else "") as stream:
        start = stream.read(_OFFSET)
    if len(start) < _OFFSET or start[:4] != b"\0\0\0\1":
        found = f"a file that starts with {start[:8]!r}"
        raise input_error(printable(path), "an MGH volume", found, "correct its name")
    return start, packed


def _layout(path: PathLike, start: bytes) -> tuple[tuple[int, int, int], np.dtype]:
    """Return size and type."""
    *shape, frames, code = struct.unpack(">5i", start[4:24])
    size = " x ".join(map(str, (*shape, frames)))
    if min(*shape, frames) < 1:
        raise input_error(printable(path), "an image with voxels", f"size {size}", "export the file again")
    if frames > 1:
        raise input_error(printable(path), "a 3D image", f"{frames} frames ({size})", "save one frame of it")
    if code not in _TYPES:
        raise input_error(printable(path), "voxels of a number type", f"type {code}", "convert them")
    return (shape[0], shape[1], shape[2]), np.dtype(_TYPES[code])


def _affine(start: bytes, shape: tuple[int, int, int]) -> tuple[np.ndarray, bool]:
    """Return the affine, index to RAS mm, and whether the header states it; else FreeSurfer's coronal default."""
    numbers = np.array(struct.unpack(">15f", start[30:90]), dtype=np.float64)
    placed = struct.unpack(">h", start[28:30])[0] > 0
    if not placed:
        numbers = np.array([1, 1, 1, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = numbers[3:12].reshape(3, 3).T * numbers[:3]
    affine[:3, 3] = numbers[12:] - affine[:3, :3] @ (np.array(shape) / 2)
    return affine, placed
