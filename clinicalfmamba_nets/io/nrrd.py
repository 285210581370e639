"""NRRD images in 2D and 3D, with the voxels in the file itself, raw or compressed by gzip."""

from __future__ import annotations

import contextlib
import gzip
import re
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import PathLike, atomic_file, check_file, check_values, printable
from clinicalfmamba_nets.io.raw import check_grid, check_size, damage_told, read_voxels, stored_values

_WHAT = "NRRD image"
_MAX_HEADER = 2**20
_TYPES = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "float32": ("float",),
    "float64": ("double",),
}
# Turns of the two first axes that bring a space to RAS.
_SPACES = {
    "right-anterior-superior": (1, 1),
    "ras": (1, 1),
    "left-anterior-superior": (-1, 1),
    "las": (-1, 1),
    "left-posterior-superior": (-1, -1),
    "lps": (-1, -1),
}


def _read_fields(path: PathLike) -> tuple[dict[str, str], int]:
    """Return the fields of the header and where the voxels start."""
    with open(check_file(path, "an NRRD image"), "rb") as file:
        if file.read(4) != b"NRRD":
            file.seek(0)
            found = f"a file that starts with {file.read(8)!r}"
            raise input_error(printable(path), "an NRRD image", found, "export it as NRRD")
        file.readline()
        fields: dict[str, str] = {}
        while (line := file.readline(_MAX_HEADER)).strip() and file.tell() < _MAX_HEADER:
            name, separator, value = line.decode("utf-8", "replace").partition(": ")
            if separator:
                fields[name.strip().lower()] = value.strip()
        if line.strip() or not line:
            raise EOFError
        return fields, file.tell()


def _vectors(text: str) -> list[list[float]]:
    return [[float(number) for number in part.split(",")] for part in re.findall(r"\(([^)]*)\)", text)]


def _affine(fields: dict[str, str], dims: int) -> tuple[np.ndarray, list[str]]:
    """Return the affine (index to RAS mm) and a note where the header does not place the image in a patient."""
    affine = np.eye(4)
    turns = _SPACES.get(fields.get("space", "").lower())
    directions = _vectors(fields.get("space directions", ""))
    if turns is None or len(directions) != dims:
        spacings = [float(number) for number in fields.get("spacings", "").split()]
        affine[range(len(spacings)), range(len(spacings))] = spacings
        return affine, ["header without orientation: place in space not known"]
    for axis, direction in enumerate(directions):
        affine[: len(direction), axis] = direction
    if dims == 2:  # the third axis stands on the two others
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1]) / np.linalg.norm(affine[:3, 0])
    origin = _vectors(fields.get("space origin", ""))
    affine[: len(origin[0]) if origin else 0, 3] = origin[0] if origin else []
    return np.diag([*turns, 1, 1]) @ affine, []


def _layout(path: PathLike, fields: dict[str, str]) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Return size, type (with byte order) and whether the voxels are compressed."""
    name, encoding = printable(path), fields.get("encoding", "").lower()
    if "data file" in fields or "datafile" in fields:
        raise input_error(name, "an NRRD image with its voxels inside", "a data file beside it", "save it as one file")
    if encoding not in ("raw", "gzip", "gz"):
        raise input_error(name, "the encoding raw or gzip", f"{encoding or 'none'}", "save it with gzip")
    kinds = [kind for kind, aliases in _TYPES.items() if fields.get("type", "").lower() in aliases]
    if not kinds:
        raise input_error(name, "voxels of a number type", f"{fields.get('type', 'none')}", "convert them")
    shape = tuple(int(side) for side in fields["sizes"].split())
    if len(shape) not in (2, 3) or len(shape) != int(fields["dimension"]):
        size = " x ".join(map(str, shape))
        raise input_error(name, "a 2D or 3D image", f"{fields['dimension']}D ({size})", "save one volume of it")
    dtype = np.dtype(kinds[0]).newbyteorder(">" if fields.get("endian", "").lower() == "big" else "<")
    return shape, dtype, encoding != "raw"


def nrrd_shape(path: PathLike) -> tuple[int, ...]:
    """Return the shape that a header states, without a look at the voxels; errors as in `read_nrrd`."""
    with damage_told(path, _WHAT):
        return tuple(int(side) for side in _read_fields(path)[0]["sizes"].split())


def read_nrrd(path: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Read an NRRD image.

    Source: "Definition of NRRD File Format", teem.sourceforge.net/nrrd/format.html.

    Args:
        path: `.nrrd`, with the voxels in the same file.

    Returns:
        Voxels, shape (X, Y) or (X, Y, Z), and the dictionary of `read_image` with `format` "nrrd".

    Raises:
        FusionInputError: missing, empty, truncated, not NRRD, detached data, color or more dimensions, another
            encoding, NaN or infinite values, or more voxels than the file or the memory holds.
    """
    with damage_told(path, _WHAT):
        fields, offset = _read_fields(path)
        shape, dtype, compressed = _layout(path, fields)
        affine, notes = _affine(fields, len(shape))
    check_grid(path, shape, dtype, affine)
    check_size(path, shape, dtype, offset, compressed)
    with damage_told(path, _WHAT), open(check_file(path), "rb") as plain, contextlib.ExitStack() as stack:
        plain.seek(offset)
        file: Any = stack.enter_context(gzip.open(plain, "rb")) if compressed else plain
        array = read_voxels(file, shape, dtype, compressed)
    check_values(array, printable(path))
    meta = {
        "format": "nrrd",
        "dtype": array.dtype.name,
        "value_range": None,
        "color": False,
        "affine": affine,
        "notes": notes,
    }
    return array, meta


def _numbers(vector: Any) -> str:
    return f"({','.join(repr(float(number)) for number in vector)})"


def write_nrrd(
    path: PathLike,
    array: np.ndarray,
    like: PathLike | None = None,
    affine: np.ndarray | None = None,
    dtype: Any = None,
) -> None:
    """Write voxels as NRRD, compressed by gzip, whole or not at all.

    Args:
        path: file to be written.
        array: shape (X, Y) or (X, Y, Z).
        like: NRRD file whose type and place are kept.
        affine: 4 x 4, index to RAS mm, where it is not that of `like`; None for the latter, or for 1 mm voxels.
        dtype: type to store instead of that of `like` (float32 without one).

    Raises:
        FusionInputError: `like` cannot be read.
    """
    kept_dtype, kept_affine = np.dtype(np.float32), np.eye(4)
    if like is not None:
        with damage_told(like, _WHAT):
            fields, _ = _read_fields(like)
            kept_dtype = _layout(like, fields)[1].newbyteorder("=")
            kept_affine, _ = _affine(fields, array.ndim)
    kind = np.dtype(dtype or kept_dtype)
    place = np.diag([-1, -1, 1, 1]) @ (kept_affine if affine is None else np.asarray(affine, dtype=np.float64))
    directions = " ".join(_numbers(place[:3, axis]) for axis in range(array.ndim))
    lines = [
        "NRRD0004",
        f"type: {_TYPES[kind.name][0]}",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, array.shape))}",
        f"space directions: {directions}",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_numbers(place[:3, 3])}",
    ]
    with atomic_file(path) as partial, open(partial, "wb") as plain:
        plain.write(("\n".join(lines) + "\n\n").encode())
        with gzip.GzipFile("", "wb", 6, plain, 0) as file:
            for index in range(array.shape[-1]):
                voxels = stored_values(array[..., index], kind)
                file.write(voxels.astype(kind.newbyteorder("<")).tobytes(order="F"))
