"""Voxels that lie in a file one after another, as they are or compressed: sizes judged before they are read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.files import PathLike, check_file, check_memory, check_values, printable
from clinicalfmamba_nets.io.streams import MemberReader

# Deflate packs at most 1032 bytes into one.
MAX_COMPRESSION = 1032
_SMALL = 2**24  # what is not larger may be packed tighter: bzip2 makes 40 bytes of a million zeros
_CHUNK = 2**24
# More than this behind the voxels of a compressed file: its header is wrong, or it never ends.
MAX_BEHIND = 2**24


@contextlib.contextmanager
def refuse_damaged(path: PathLike, what: str) -> Iterator[None]:
    """Tell in one line whatever a library says about a damaged file.

    Args:
        path: the file.
        what: its kind, for example "NIfTI image".
    """
    try:
        yield
    except FusionInputError:
        raise
    except Exception as error:  # damaged headers reach many corners of the libraries that read them
        found = f"a truncated or damaged one ({type(error).__name__})"
        raise input_error(printable(path), f"a whole {what}", found, "copy or export the file again") from error


def check_grid(path: PathLike, shape: tuple[int, ...], dtype: np.dtype, affine: np.ndarray) -> None:
    """Refuse headers without voxels, with voxels that are no real numbers, or with a place in space that is none.

    Raises:
        FusionInputError: naming what is wrong.
    """
    name = printable(path)
    if not shape or min(shape) < 1:
        size = " x ".join(map(str, shape)) or "none"
        raise input_error(name, "an image with voxels", f"size {size}", "export the file again")
    check_values(np.ones(1, dtype=dtype), name)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise input_error(name, "an affine with an inverse", "a singular one", "correct the orientation in its header")


def check_size(path: PathLike, shape: tuple[int, ...], dtype: np.dtype, offset: int, compressed: bool) -> None:
    """Refuse headers that announce more voxels than the file or the memory can hold, before any is read.

    Args:
        path: the file.
        shape: size that the header announces.
        dtype: type that the header announces.
        offset: where the voxels start; of no effect for compressed files.
        compressed: whether the voxels are compressed.

    Raises:
        FusionInputError: the file is too short, or the memory too small.
    """
    needed = voxel_bytes(shape, dtype)
    stored = check_file(path).stat().st_size
    if needed > (max(stored * MAX_COMPRESSION, _SMALL) if compressed else stored - offset):
        found = f"{stored} bytes for {' x '.join(map(str, shape))} voxels of {dtype.name}"
        remedy = "the file is truncated: copy or export it again"
        raise input_error(printable(path), "a whole image", found, remedy)
    check_memory(path, needed + 12 * (needed // dtype.itemsize))


def voxel_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of a number of voxels, however many: numpy's product would wrap around."""
    needed = int(dtype.itemsize)
    for side in shape:
        needed *= int(side)
    return needed


def open_stream(path: PathLike | IO[bytes], encoding: str = "") -> IO[bytes] | MemberReader:
    """Open a file for reading.

    Args:
        path: the file, or an open one that stands where its voxels start.
        encoding: "gzip", "bzip2" or "zlib"; "" for a file that is not compressed.
    """
    named = isinstance(path, str | bytes | os.PathLike)
    file: Any = open(check_file(path), "rb") if named else path  # type: ignore[arg-type]  # noqa: SIM115
    return MemberReader(file, encoding) if encoding else file


def skip(file: IO[bytes] | MemberReader, count: int) -> None:
    """Go on by a number of bytes, in pieces.

    Raises:
        EOFError: the file is too short.
    """
    while count > 0:
        part = file.read(min(count, _CHUNK))
        if not part:
            raise EOFError
        count -= len(part)


def read_voxels(file: IO[bytes] | MemberReader, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Read voxels from where a file stands.

    Args:
        file: what `open_stream` gives.
        shape: number of voxels along each axis, the first one fastest.
        dtype: type of the stored voxels, of any byte order.

    Returns:
        The voxels in the machine's byte order, shape `shape`.

    Raises:
        EOFError: the file is too short.
    """
    raw = np.empty(voxel_bytes(shape, dtype), dtype=np.uint8)
    view, filled = raw.data, 0
    reader: Any = file
    while filled < raw.size:
        got = reader.readinto(view[filled : filled + _CHUNK])
        if not got:
            raise EOFError
        filled += got
    array = raw.view(dtype).reshape(shape, order="F")
    return array.astype(dtype.newbyteorder("="), copy=False)


def bytes_behind(file: IO[bytes] | MemberReader, path: PathLike) -> list[str]:
    """Read a compressed file to its end, so that a wrong checksum does not pass; tell what lies behind the voxels.

    Args:
        file: what `read_voxels` has read the voxels from.
        path: the file, for messages.

    Returns:
        Warnings: one or none.

    Raises:
        FusionInputError: a compressed file goes on for more than `MAX_BEHIND` bytes.
    """
    if isinstance(file, MemberReader):
        behind = 0
        while part := file.read(2**20):
            behind += len(part)
            if behind > MAX_BEHIND:
                found = f"more than {MAX_BEHIND} bytes behind its voxels"
                raise input_error(printable(path), "as many voxels as the header says", found, "export the image again")
        behind += file.trailing
    else:
        place = file.tell()
        behind = file.seek(0, os.SEEK_END) - place
    return [f"{behind} bytes behind the voxels left out"] if behind else []


def stored_values(array: np.ndarray, dtype: np.dtype, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """Return values as they lie in a file: the header's scale undone, integers rounded and clipped.

    Example:
        >>> stored_values(np.array([-3.2, 7.6, 300.0]), np.dtype("uint8")).tolist()
        [0, 8, 255]
    """
    plain = (slope, intercept) == (1.0, 0.0)
    if dtype.kind not in "iu":
        return array.astype(dtype) if plain else ((np.asarray(array, np.float64) - intercept) / slope).astype(dtype)
    limits = np.iinfo(dtype)
    values = np.asarray(array, dtype=np.float64) if plain else (np.asarray(array, np.float64) - intercept) / slope
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
