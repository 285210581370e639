"""NRRD images in 2D and 3D, grey or in color, with the voxels behind the header or in a file beside it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.io.background import fill_background
from clinicalfmamba_nets.io.colour import colour_pixels
from clinicalfmamba_nets.io.files import PathLike, atomic_file, printable, to_path
from clinicalfmamba_nets.io.nrrd_header import MAX_HEADER, TYPES, NrrdHeader, read_header
from clinicalfmamba_nets.io.persons import stated_person
from clinicalfmamba_nets.io.raw import (
    bytes_behind,
    check_grid,
    check_size,
    open_stream,
    read_voxels,
    refuse_damaged,
    skip,
    stored_values,
    voxel_bytes,
)

_WHAT = "NRRD image"


def nrrd_shape(path: PathLike) -> tuple[int, ...]:
    """Return the shape in space that a header states, without a look at the voxels; errors as in `read_nrrd`."""
    with refuse_damaged(path, _WHAT):
        return read_header(path).shape


def nrrd_samples(path: PathLike) -> int:
    """Return how many samples a header states for each voxel, 3 or 4 in color; errors as in `read_nrrd`."""
    with refuse_damaged(path, _WHAT):
        head = read_header(path)
        return 1 if head.component is None else head.stored[head.component]


def nrrd_files(path: PathLike) -> list[Path]:
    """Return the files of an image: of its header, and of its voxels."""
    with refuse_damaged(path, _WHAT):
        return [to_path(path), read_header(path).path]


def _start_of_voxels(head: NrrdHeader) -> int:
    """Return the byte of the data file at which its (compressed) voxels start: lines are skipped before bytes."""
    lines, count = head.skips
    if count == -1:
        return head.path.stat().st_size - voxel_bytes(head.stored, head.dtype)
    place = head.offset
    if lines:
        with open(head.path, "rb") as file:
            file.seek(place)
            for _ in range(lines):
                line = file.readline(MAX_HEADER)
                if not line.endswith(b"\n"):
                    raise EOFError
            place = file.tell()
    return place if head.encoding else place + count


def _read_stored(head: NrrdHeader) -> tuple[np.ndarray, list[str]]:
    """Read the voxels as stored, and tell what lies behind them."""
    start = _start_of_voxels(head)
    check_size(head.path, head.stored, head.dtype, max(start, 0), bool(head.encoding))
    with open(head.path, "rb") as plain:
        plain.seek(start)
        with open_stream(plain, head.encoding) as file:
            skip(file, head.skips[1] if head.encoding else 0)
            return read_voxels(file, head.stored, head.dtype), bytes_behind(file, head.path)


def read_nrrd(path: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Read an NRRD image.

    Source: "Definition of NRRD File Format", teem.sourceforge.net/nrrd/format.html.

    Args:
        path: `.nrrd`, or `.nhdr` with the voxels in another file of its folder.

    Returns:
        Voxels, shape (X, Y) or (X, Y, Z), in color (..., 3), and the dictionary of `read_image` with `format` "nrrd".

    Raises:
        FusionInputError: missing, empty, truncated, not NRRD, vectors or more dimensions, another encoding, NaN inside
            the image or infinite values, or more voxels than the file or the memory holds.
    """
    with refuse_damaged(path, _WHAT):
        head = read_header(path)
        check_grid(path, head.stored, head.dtype, head.affine)
        array, behind = _read_stored(head)
    meta: dict[str, Any] = {
        "format": "nrrd",
        "dtype": array.dtype.name,
        "value_range": None,
        "color": False,
        "affine": head.affine,
        "coordinates": head.coordinates,
        "background": None,
        "notes": list(head.notes),
        "warnings": [*head.warnings, *behind],
        **stated_person(head.texts),
    }
    if head.component is not None:
        samples = np.moveaxis(array, head.component, -1)
        pixels, told = colour_pixels(samples.reshape((*head.shape, samples.shape[-1]), order="F"))
        white = float(np.iinfo(array.dtype).max)
        meta |= {"color": pixels.ndim > len(head.shape), "value_range": white, "notes": [*meta["notes"], *told]}
        return pixels, meta
    array, meta["background"], told = fill_background(array.reshape(head.shape, order="F"), printable(path))
    meta["warnings"] += told
    return array, meta


def _vector(numbers: Any) -> str:
    return f"({','.join(repr(float(number)) for number in numbers)})"


def _affine_lines(place: np.ndarray, head: NrrdHeader | None, dims: int, known: str) -> list[str]:
    """Return the fields that place an image: in LPS, or in the space of a header that knows no anatomy."""
    known = known if head is None else head.coordinates
    if known == "none":
        return [f"spacings: {' '.join(repr(float(side)) for side in np.linalg.norm(place[:3, :dims], axis=0))}"]
    if known == "other":
        space = head.fields.get("space", "") if head is not None else ""
        named = f"space: {space}" if space else "space dimension: 3"
    else:
        place, named = np.diag([-1, -1, 1, 1]) @ place, "space: left-posterior-superior"
    directions = " ".join(_vector(place[:3, axis]) for axis in range(dims))
    origin = [] if known == "directions" else [f"space origin: {_vector(place[:3, 3])}"]
    return [named, f"space directions: {directions}", *origin]


def write_nrrd(
    path: PathLike,
    array: np.ndarray,
    like: PathLike | None = None,
    affine: np.ndarray | None = None,
    dtype: Any = None,
    coordinates: str = "patient",
) -> None:
    """Write voxels as NRRD, compressed by gzip, whole or not at all; comments and key/value pairs are not kept.

    Args:
        path: file to be written.
        array: shape (X, Y) or (X, Y, Z).
        like: NRRD file whose type and place are kept.
        affine: 4 x 4, index to RAS mm, where it is not that of `like`; None for the latter, or for 1 mm voxels.
        dtype: type to store instead of that of `like` (float32 without one).
        coordinates: what the affine leads to where there is no `like`.

    Raises:
        FusionInputError: `like` cannot be read.
    """
    head = None
    if like is not None:
        with refuse_damaged(like, _WHAT):
            head = read_header(like)
    kind = np.dtype(dtype or (head.dtype.newbyteorder("=") if head is not None else np.float32))
    kept = np.eye(4) if head is None else head.affine
    place = kept if affine is None else np.asarray(affine, dtype=np.float64)
    lines = _affine_lines(place, head, array.ndim, coordinates)
    planes = (stored_values(array[..., index], kind) for index in range(array.shape[-1]))
    _write(path, array.shape, kind, lines, planes)


def write_rgb_nrrd(
    path: PathLike, array: np.ndarray, affine: np.ndarray | None = None, coordinates: str = "patient"
) -> None:
    """Write red, green and blue voxels as NRRD, the samples on its first axis as 3D Slicer has them, whole or not.

    Args:
        path: file to be written.
        array: shape (X, Y, Z, 3) or (X, Y, 3), in [0, 255].
        affine: 4 x 4, index to RAS mm.
        coordinates: what the affine leads to.
    """
    levels = np.moveaxis(np.rint(array).clip(0, 255).astype(np.uint8), -1, 0)
    place = np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)
    dims = levels.ndim - 1
    lines = _affine_lines(place, None, dims, coordinates)
    lines = [line.replace(": ", ": nan ", 1) if line.startswith("spacings") else line for line in lines]
    lines = [line.replace(": ", ": none ", 1) if line.startswith("space directions") else line for line in lines]
    lines.append(f"kinds: RGB-color{' domain' * dims}")
    planes = (levels[..., index] for index in range(levels.shape[-1]))
    _write(path, levels.shape, levels.dtype, lines, planes)


def _write(path: PathLike, shape: tuple[int, ...], kind: np.dtype, lines: list[str], planes: Iterable[Any]) -> None:
    """Write a header and its voxels, plane by plane of the last axis, compressed."""
    head = [
        "NRRD0004",
        f"type: {TYPES[kind.name][0]}",
        f"dimension: {len(shape)}",
        f"sizes: {' '.join(map(str, shape))}",
        *lines,
        "endian: little",
        "encoding: gzip",
    ]
    with atomic_file(path) as partial, open(partial, "wb") as plain:
        plain.write(("\n".join(head) + "\n\n").encode())
        with gzip.GzipFile("", "wb", 6, plain, 0) as file:
            for voxels in planes:
                file.write(voxels.astype(kind.newbyteorder("<")).tobytes(order="F"))
