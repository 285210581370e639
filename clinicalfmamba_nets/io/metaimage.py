"""MetaImage files in 2D and 3D (`.mha`, `.mhd` with the voxels beside it); results of theirs are written as NIfTI."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.background import fill_background
from clinicalfmamba_nets.io.colour import colour_pixels
from clinicalfmamba_nets.io.files import PathLike, check_file, printable, to_path
from clinicalfmamba_nets.io.persons import stated_person
from clinicalfmamba_nets.io.raw import (
    bytes_behind,
    check_grid,
    check_size,
    open_stream,
    read_voxels,
    refuse_damaged,
    voxel_bytes,
)

_WHAT = "MetaImage"
_MAX_HEADER = 2**20
_TYPES = {
    "MET_CHAR": "int8", "MET_UCHAR": "uint8", "MET_SHORT": "int16", "MET_USHORT": "uint16", "MET_INT": "int32",
    "MET_UINT": "uint32", "MET_LONG_LONG": "int64", "MET_ULONG_LONG": "uint64", "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}  # fmt: skip
# AnatomicalOrientation: the side that an axis comes from, and the LPS axis and sign that it then runs along.
_FROM = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "I": (2, 1), "S": (2, -1)}
_UNIT = 0.02  # a direction may be as much longer or shorter than 1
_LESS = 0.3  # of an axis's greatest direction cosine: that of the stated direction may be as much smaller
_MODALITIES = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR"}  # MET_MOD_NM may be PET or SPECT
_UNITS = {"": 1.0, "?": 1.0, "mm": 1.0, "cm": 10.0, "um": 1e-3}


@dataclass
class _Header:
    name: str
    fields: dict[str, str]
    path: Path
    offset: int

    def numbers(self, *keys: str, count: int) -> list[float] | None:
        """Return the numbers of the first field that is there, None for none."""
        key = next((key for key in keys if key in self.fields), None)
        if key is None:
            return None
        try:
            found = [float(word) for word in self.fields[key].split()]
        except ValueError:
            found = []
        if len(found) != count:
            raise input_error(self.name, f"{count} numbers under {key}", self.fields[key][:40], "correct the header")
        return found

    def flag(self, *keys: str) -> bool | None:
        """Return whether the first field that is there says yes, None for none."""
        key = next((key for key in keys if key in self.fields), None)
        return None if key is None else self.fields[key][:1].lower() in ("t", "1", "y")


def read_metaimage(path: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a MetaImage file.

    Source: ITK's MetaIO; its physical space is LPS.

    Args:
        path: `.mha`, or `.mhd` with the voxels in another file of its folder.

    Returns:
        Voxels, shape (X, Y) or (X, Y, Z), in color (..., 3), and the dictionary of `read_image` with `format`
        "metaimage". Without TransformMatrix and Offset the image has no place in space.

    Raises:
        FusionInputError: missing, empty, truncated, text voxels, vectors or more dimensions, several data files, NaN
            inside the image or infinite values, or more voxels than the file or the memory holds.
    """
    with refuse_damaged(path, _WHAT):
        head = _read_header(path)
        shape, dtype, samples = _layout(head)
        affine, meta = _place(head, len(shape))
        check_grid(path, shape, dtype, affine)
        array, behind = _voxels(head, (samples, *shape) if samples > 1 else shape, dtype)
    meta |= {"format": "metaimage", "dtype": array.dtype.name, "value_range": None, "color": False, "affine": affine}
    meta |= {"background": None, "warnings": [*meta["warnings"], *behind], "modality": _modality(head)}
    meta |= stated_person(head.fields)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if samples > 1:
        pixels, told = colour_pixels(np.moveaxis(array, 0, -1).reshape((*shape, samples), order="F"))
        white = float(np.iinfo(array.dtype).max)
        meta |= {"color": pixels.ndim > len(shape), "value_range": white, "notes": [*meta["notes"], *told]}
        return pixels, meta
    array, meta["background"], told = fill_background(array.reshape(shape, order="F"), printable(path))
    meta["warnings"] += told
    return array, meta


def metaimage_shape(path: PathLike) -> tuple[int, ...]:
    """Return the shape that a header states, without a look at the voxels; errors as in `read_metaimage`."""
    with refuse_damaged(path, _WHAT):
        return _layout(_read_header(path))[0]


def metaimage_samples(path: PathLike) -> int:
    """Return how many samples a header states for each voxel, 3 or 4 in color; errors as in `read_metaimage`."""
    with refuse_damaged(path, _WHAT):
        return _layout(_read_header(path))[2]


def metaimage_modality(path: PathLike) -> str:
    """Return "CT" or "MR" where a header's Modality says so, "" else; errors as in `read_metaimage`."""
    with refuse_damaged(path, _WHAT):
        return _modality(_read_header(path))


def metaimage_files(path: PathLike) -> list[Path]:
    """Return the files of an image: of its header, and of its voxels."""
    with refuse_damaged(path, _WHAT):
        return [to_path(path), _read_header(path).path]


def _read_header(path: PathLike) -> _Header:
    target, name = check_file(path, "a MetaImage"), printable(path)
    with open(target, "rb") as file:
        start = file.read(_MAX_HEADER)
    if not re.match(rb"\s*(ObjectType|NDims|Comment|ObjectSubType)\s*=", start):
        raise input_error(name, "a MetaImage", f"a file that starts with {start[:8]!r}", "correct its name")
    last = re.search(rb"^\s*ElementDataFile\s*=[^\n]*(\n|$)", start, re.MULTILINE)
    if last is None:
        raise input_error(name, "the field ElementDataFile", "none", "copy or export the file again")
    fields = {}
    for line in start[: last.end()].decode("utf-8", "replace").splitlines():
        key, separator, value = line.partition("=")
        if separator:
            fields[key.strip()] = value.strip()
    head = _Header(name, fields, target, last.end())
    named = fields["ElementDataFile"]
    if named.upper() == "LOCAL":
        return head
    if named.split()[:1] == ["LIST"] or "%" in named:
        raise input_error(name, "all voxels in one data file", f"{named[:40]!r}", "save it as one .mha file")
    folder = target.absolute().parent
    inside = Path(os.path.realpath(folder / named)).is_relative_to(os.path.realpath(folder))
    if not inside or "\0" in named:
        raise input_error(name, "a data file in the folder of its header", printable(named), "move it there")
    head.path, head.offset = check_file(folder / named, f"the data file of {name}"), 0
    return head


def _modality(head: _Header) -> str:
    return _MODALITIES.get(head.fields.get("Modality", ""), "")


def _layout(head: _Header) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return size, type (with byte order) and samples of a voxel."""
    dims = head.fields.get("NDims", "none")
    if dims not in ("2", "3", "4"):
        raise input_error(head.name, "a 2D or 3D image", f"NDims {dims[:20]}", "save one volume of it")
    sizes = head.numbers("DimSize", count=int(dims)) or []
    if not sizes or not all(side == int(side) and side >= 1 for side in sizes):
        found = head.fields.get("DimSize", "none")[:40]
        raise input_error(head.name, "an image with voxels", f"DimSize {found}", "correct the header")
    shape = tuple(int(side) for side in sizes)
    if len(shape) == 4 and shape[3] > 1:
        raise input_error(head.name, "a 2D or 3D image", f"4D ({' x '.join(map(str, shape))})", "save one volume of it")
    kind = _TYPES.get(head.fields.get("ElementType", "none").removesuffix("_ARRAY"))
    if kind is None:
        found = head.fields.get("ElementType", "none")[:40]
        raise input_error(head.name, "voxels of a number type", found, "convert them")
    if head.flag("BinaryData") is False:
        raise input_error(head.name, "binary voxels", "text", "save it as binary")
    samples = int((head.numbers("ElementNumberOfChannels", count=1) or [1])[0])
    if samples != 1 and (samples not in (3, 4) or kind not in ("uint8", "uint16")):
        found = f"{samples} samples of {kind} in each voxel"
        raise input_error(head.name, "grey voxels, or 8 or 16-bit colors", found, "save one sample of it")
    for key, plain in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if (head.numbers(key, count=1) or [plain])[0] != plain:
            found = f"{key} {head.fields[key][:20]}, which readers apply or not"
            raise input_error(head.name, "voxels stored as they are meant", found, "save the scaled values")
    big = head.flag("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    return shape, np.dtype(kind).newbyteorder(">" if big else "<"), samples


def _place(head: _Header, dims: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the affine in mm, and what is to be told about the place."""
    unit = head.fields.get("DistanceUnits", "")
    if unit not in _UNITS:
        raise input_error(head.name, "DistanceUnits of mm, cm or um", unit[:20], "correct the header")
    sides = head.numbers("ElementSpacing", "ElementSize", count=dims)
    turn = head.numbers("TransformMatrix", "Rotation", "Orientation", count=dims * dims)
    origin = head.numbers("Offset", "Position", "Origin", count=dims)
    if sides is not None and min(sides) <= 0:
        found = " ".join(f"{side:g}" for side in sides)
        raise input_error(head.name, "an ElementSpacing above 0", found, "correct the header: directions have the sign")
    space = min(dims, 3)
    affine = np.eye(4)
    matrix = np.eye(dims) if turn is None else np.array(turn).reshape(dims, dims).T  # stored axis by axis
    lengths = np.linalg.norm(matrix, axis=0)
    if lengths.min() > 0 and np.abs(lengths - 1).max() > _UNIT:
        found = f"axes of length {', '.join(f'{side:.3g}' for side in lengths)}"
        raise input_error(head.name, "a TransformMatrix of unit vectors", found, "put lengths into ElementSpacing")
    affine[:space, :space] = (matrix * np.array(sides or [1.0] * dims))[:space, :space] * _UNITS[unit]
    meta: dict[str, Any] = {"coordinates": "patient", "notes": [], "warnings": []}
    if sides is None:
        meta["warnings"].append("no distance of its voxels (ElementSpacing): 1 mm assumed")
    if _UNITS[unit] != 1:
        meta["notes"].append(f"lengths in {unit} read in mm")
    if turn is None and origin is None:
        meta["coordinates"] = "none"
        meta["warnings"].append("header without orientation (no TransformMatrix, no Offset): place in space not known")
        return affine, meta
    _compare_orientation(head, matrix, meta)
    affine[:space, 3] = np.array(origin or [0.0] * dims)[:space] * _UNITS[unit]
    affine[:2] *= -1  # LPS to RAS
    if origin is None:
        meta["coordinates"] = "directions"
        meta["warnings"].append("header without Offset: position not known")
    return affine, meta


def _compare_orientation(head: _Header, matrix: np.ndarray, meta: dict[str, Any]) -> None:
    """Warn where AnatomicalOrientation and TransformMatrix say two things: only the latter is used.

    ITK names the sides that the axes come from, RAI for LPS; some writers name those that they run to.
    """
    letters = head.fields.get("AnatomicalOrientation", "").upper()
    if len(matrix) < 3 or sorted(_FROM.get(letter, (-1, 0))[0] for letter in letters) != [0, 1, 2]:
        return
    places = [_FROM[letter] for letter in letters]
    along = np.array([matrix[axis, column] * sign for column, (axis, sign) in enumerate(places)])
    least = np.abs(matrix[:3, :3]).max(axis=0) - _LESS
    if (along >= least).all():
        return
    if (-along >= least).all():
        meta["notes"].append(f"AnatomicalOrientation {letters} taken as the sides that the axes run to")
        return
    names = {place: letter for letter, place in _FROM.items()}
    axes = np.abs(matrix[:3, :3]).argmax(axis=0)
    read = "".join(names.get((int(axis), int(np.sign(matrix[axis, column]))), "?") for column, axis in enumerate(axes))
    told = f"AnatomicalOrientation {letters} contradicts TransformMatrix, which says {read} and is used"
    meta["warnings"].append(f"{told}: check which side is left, and which way is up")


def _voxels(head: _Header, shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, list[str]]:
    """Read the voxels as stored, and tell what lies behind them."""
    packed = bool(head.flag("CompressedData"))
    skipped = (head.numbers("HeaderSize", count=1) or [0])[0]
    if skipped not in (-1, int(skipped)) or skipped < -1 or (packed and skipped):
        raise input_error(head.name, "a HeaderSize that can be skipped", f"{skipped:g}", "correct the header")
    start = head.offset + int(skipped)
    if skipped == -1:
        start = head.path.stat().st_size - voxel_bytes(shape, dtype)
    check_size(head.path, shape, dtype, max(start, 0), packed)
    with open(head.path, "rb") as plain:
        plain.seek(start)
        with open_stream(plain, "zlib" if packed else "") as file:
            return read_voxels(file, shape, dtype), bytes_behind(file, head.path)
