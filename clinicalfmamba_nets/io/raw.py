"""Voxels that lie in a file one after another, as they are or compressed by gzip: sizes judged before they are read."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.files import PathLike, check_file, check_memory, check_values, printable

GZIP_MAGIC = b"\x1f\x8b"
# Deflate packs at most 1032 bytes into one.
MAX_COMPRESSION = 1032
_CHUNK = 2**24


@contextlib.contextmanager
def damage_told(path: PathLike, what: str) -> Iterator[None]:
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
        compressed: whether the voxels are compressed by gzip.

    Raises:
        FusionInputError: the file is too short, or the memory too small.
    """
    needed = dtype.itemsize
    for side in shape:
        needed *= int(side)
    stored = check_file(path).stat().st_size
    if needed > (stored * MAX_COMPRESSION if compressed else stored - offset):
        found = f"{stored} bytes for {' x '.join(map(str, shape))} voxels of {dtype.name}"
        remedy = "the file is truncated: copy or export it again"
        raise input_error(printable(path), "a whole image", found, remedy)
    check_memory(path, needed + 12 * (needed // dtype.itemsize))


def open_maybe_gzip(path: PathLike, compressed: bool) -> IO[bytes]:
    """Open a file for reading, through gzip where it is compressed."""
    target: Path = check_file(path)
    return gzip.open(target, "rb") if compressed else open(target, "rb")  # type: ignore[return-value]


def read_voxels(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, compressed: bool) -> np.ndarray:
    """Read voxels from where a file stands; a compressed one to its end, so that a wrong checksum does not pass.

    Args:
        file: what `open_maybe_gzip` gives.
        shape: number of voxels along each axis, the first one fastest.
        dtype: type of the stored voxels, of any byte order.
        compressed: whether the file is compressed.

    Returns:
        The voxels in the machine's byte order, shape `shape`.

    Raises:
        EOFError: the file is too short.
    """
    raw = np.empty(int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
    view, filled = raw.data, 0
    reader: Any = file
    while filled < raw.size:
        got = reader.readinto(view[filled : filled + _CHUNK])
        if not got:
            raise EOFError
        filled += got
    while compressed and file.read(_CHUNK):
        pass
    array = raw.view(dtype).reshape(shape, order="F")
    return array.astype(dtype.newbyteorder("="), copy=False)


def stored_values(array: np.ndarray, dtype: np.dtype, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """Return values as they lie in a file: the header's scale undone, integers rounded and clipped.

    Example:
        >>> stored_values(np.array([-3.2, 7.6, 300.0]), np.dtype("uint8")).tolist()
        [0, 8, 255]
    """
    if dtype.kind not in "iu":
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    values = (np.asarray(array, dtype=np.float64) - intercept) / slope
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
