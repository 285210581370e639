"""The header of an NRRD image judged before any voxel is read: size, type, samples, where its voxels are, its space."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import PathLike, check_file, printable
from clinicalfmamba_nets.io.nrrd_space import find_affine

MAX_HEADER = 2**20
TYPES = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "float32": ("float",),
    "float64": ("double",),
}
ENCODINGS = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_ALIASES = {"centerings": "centers", "centering": "centers"}
_HARMLESS = {"content", "number", "min", "max", "labels", "thicknesses", "measurementframe", "sampleunits", "blocksize"}
_USED = {
    "type", "dimension", "sizes", "encoding", "endian", "space", "spacedimension", "spacedirections", "spaceorigin",
    "spaceunits", "spacings", "axismins", "axismaxs", "centers", "kinds", "units", "datafile", "lineskip", "byteskip",
    "oldmin", "oldmax",
}  # fmt: skip
_SPATIAL = ("domain", "space", "none", "???", "")
_COLORS = ("vector", "3-vector", "4-vector", "3-color", "4-color", "rgb-color", "rgba-color")


@dataclass
class NrrdHeader:
    """What the reader needs of a header."""

    name: str
    fields: dict[str, str]
    path: Path
    offset: int
    stored: tuple[int, ...] = ()
    axes: list[int] = field(default_factory=list)
    component: int | None = None
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.uint8))
    encoding: str = ""
    skips: tuple[int, int] = (0, 0)
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    coordinates: str = "patient"
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # keys and values that NRRD gives no meaning

    @property
    def shape(self) -> tuple[int, ...]:
        """Size in space, (X, Y) or (X, Y, Z)."""
        return tuple(self.stored[axis] for axis in self.axes)


def read_header(path: PathLike) -> NrrdHeader:
    """Read and judge a header.

    Args:
        path: `.nrrd` with the voxels behind the header, or `.nhdr` with them in another file of its folder.

    Raises:
        FusionInputError: whatever is wrong with it, in one line.
    """
    target = check_file(path, "an NRRD image")
    texts: dict[str, str] = {}
    fields, offset, unknown = _read_fields(target, texts)
    head = NrrdHeader(printable(path), fields, target, offset, texts=texts)
    if unknown:
        head.warnings.append(f"fields that NRRD does not know left out: {', '.join(unknown[:5])}")
    _find_data(head)
    _judge_voxels(head)
    _judge_axes(head)
    find_affine(head)
    if "oldmin" in fields or "oldmax" in fields:
        told = f"{fields.get('oldmin', '?')} to {fields.get('oldmax', '?')}"
        head.warnings.append(f"values were quantized (old min, old max: {told}): read as stored")
    return head


def _read_fields(path: Path, texts: dict[str, str]) -> tuple[dict[str, str], int, list[str]]:
    """Return the fields by their names without spaces, where the voxels start, names of unknown fields; fill texts."""
    with open(path, "rb") as file:
        start = file.read(MAX_HEADER)
    if not start.startswith(b"NRRD"):
        found = f"a file that starts with {start[:8]!r}"
        raise input_error(printable(path), "an NRRD image", found, "export it as NRRD")
    end = re.search(rb"\r?\n\r?\n", start)
    if end is None and len(start) == MAX_HEADER:
        found = f"none in its first {MAX_HEADER} bytes"
        raise input_error(printable(path), "an empty line behind the header", found, "export it as NRRD")
    lines = start[: end.start() if end else len(start)].decode("utf-8", "replace").splitlines()
    fields: dict[str, str] = {}
    unknown = []
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if line.startswith("#") or not separator:
            continue
        if value.startswith("="):
            texts[name.strip()] = value[1:].strip()
            continue
        key = name.replace(" ", "").lower()
        key = _ALIASES.get(key, key)
        if key in fields:
            raise input_error(printable(path), f"the field {name.strip()!r} once", "it twice", "correct the header")
        if key in _USED:
            fields[key] = value.strip()
        elif key not in _HARMLESS:
            unknown.append(printable(name.strip()[:40]))
    if end is None and "datafile" not in fields:
        raise input_error(printable(path), "an empty line behind the header", "none", "copy or export the file again")
    return fields, end.end() if end else len(start), unknown


def _find_data(head: NrrdHeader) -> None:
    """Find the file of the voxels: the header's own, or one of its folder."""
    named = head.fields.get("datafile")
    if named is None:
        return
    if re.match(r"LIST\b", named) or "%" in named:
        raise input_error(head.name, "all voxels in one data file", f"{named!r}", "save it as one file")
    folder = head.path.absolute().parent
    target = folder / named
    inside = Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder))
    if not inside or "\0" in named:
        found = printable(named)
        raise input_error(head.name, "a data file in the folder of its header", found, "move it there")
    head.path, head.offset = check_file(target, f"the data file of {head.name}"), 0


def _numbers(head: NrrdHeader, key: str) -> list[int]:
    words = head.fields.get(key, "").split()
    try:
        numbers = [int(word) for word in words]
    except ValueError as error:
        raise input_error(head.name, f"whole numbers under {key}", head.fields[key][:40], "correct it") from error
    return numbers


def _judge_voxels(head: NrrdHeader) -> None:
    """Find size, type, byte order, encoding and what is to be skipped."""
    fields = head.fields
    sizes, dimension = _numbers(head, "sizes"), _numbers(head, "dimension")
    if not sizes or len(dimension) != 1 or len(sizes) != dimension[0] or min(sizes) < 1 or len(sizes) > 16:
        found = f"dimension {fields.get('dimension', 'none')!r} and sizes {fields.get('sizes', 'none')[:60]!r}"
        raise input_error(head.name, "sizes as many as dimensions", found, "correct the header")
    head.stored = tuple(sizes)
    kinds = [kind for kind, aliases in TYPES.items() if fields.get("type", "").lower() in aliases]
    if not kinds:
        found = fields.get("type", "none")[:40]
        raise input_error(head.name, "voxels of a number type", found, "convert them")
    endian = fields.get("endian", "").lower()
    head.dtype = np.dtype(kinds[0])
    if head.dtype.itemsize > 1 and endian not in ("little", "big"):
        found = fields.get("endian", "none")[:40]
        raise input_error(head.name, "endian: little or big", found, "correct the header")
    head.dtype = head.dtype.newbyteorder(">" if endian == "big" else "<")
    encoding = fields.get("encoding", "none").lower()
    if encoding not in ENCODINGS:
        raise input_error(head.name, "the encoding raw, gzip or bzip2", encoding[:40], "save it with gzip")
    head.encoding = ENCODINGS[encoding]
    lines, count = (sum(_numbers(head, key)) for key in ("lineskip", "byteskip"))
    if not 0 <= lines < 100_000 or count < (0 if head.encoding else -1):
        raise input_error(head.name, "a number of lines and bytes to skip", f"{lines} and {count}", "correct it")
    head.skips = (lines, count)


def _judge_axes(head: NrrdHeader) -> None:
    """Tell axes in space from those of samples, lists and times by kinds and directions."""
    dims = len(head.stored)
    kinds = head.fields.get("kinds", "").lower().split() or [""] * dims
    placed = _directions(head)
    if len(kinds) != dims:
        raise input_error(head.name, f"{dims} kinds", f"{len(kinds)}", "correct the header")
    size = " x ".join(map(str, head.stored))
    other = []
    for axis, kind in enumerate(kinds):
        if kind in _SPATIAL and placed[axis] is not False:
            head.axes.append(axis)
        elif kind not in _SPATIAL and placed[axis]:
            found = f"kind {kind} with a direction"
            raise input_error(head.name, "directions of axes in space alone", found, "correct the header")
        elif head.stored[axis] > 1:
            other.append(axis)
    if other:
        _judge_samples(head, other, kinds, size)
    if len(head.axes) not in (2, 3):
        raise input_error(head.name, "a 2D or 3D image", f"{len(head.axes)}D ({size})", "save one volume of it")
    bare = "kinds" not in head.fields and "spacedirections" not in head.fields
    if bare and head.stored[0] in (3, 4) and dims == 3 and head.dtype == np.uint8:
        found = f"sizes {size} without kinds: {head.stored[0]} colors of a slice, or a thin volume"
        raise input_error(head.name, "kinds that tell samples from places", found, "write kinds into the header")


def _directions(head: NrrdHeader) -> list[bool | None]:
    """Return for each axis whether it has a direction; None for all where the header has none."""
    text = head.fields.get("spacedirections")
    if text is None:
        return [None] * len(head.stored)
    words = re.findall(r"none|\([^)]*\)", text)
    if len(words) != len(head.stored):
        found = f"{len(words)} space directions"
        raise input_error(head.name, f"{len(head.stored)} of them, one an axis", found, "correct the header")
    return [word != "none" for word in words]


def _judge_samples(head: NrrdHeader, other: list[int], kinds: list[str], size: str) -> None:
    """Take one axis of three or four samples as color; refuse lists, times, vectors and tensors."""
    axis = other[0]
    kind = kinds[axis]
    if len(other) > 1 or kind in ("list", "time", "point", "stub", "scalar", *_SPATIAL):
        told = f"{len(head.stored)}D ({size}, kinds {' '.join(kinds).strip() or 'none'})"
        raise input_error(head.name, "a 2D or 3D image", told, "save one volume of it")
    color = kind in _COLORS and head.stored[axis] in (3, 4) and head.dtype.kind == "u" and head.dtype.itemsize <= 2
    if not color:
        found = f"{head.stored[axis]} samples of kind {kind} and type {head.dtype.name} in each voxel ({size})"
        raise input_error(head.name, "grey voxels, or 8 or 16-bit colors", found, "save one sample of it")
    head.component = axis
