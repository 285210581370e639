"""NIfTI images in 2D and 3D: the header is judged before any voxel is read, and kept when the result is written."""

from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import PathLike, atomic_file, check_file, check_values, printable, to_path
from clinicalfmamba_nets.io.raw import (
    GZIP_MAGIC,
    check_grid,
    check_size,
    damage_told,
    open_maybe_gzip,
    read_voxels,
    stored_values,
)

_WHAT = "NIfTI image"
# Size of the header, its first number, and the mark of a single file: NIfTI-1 and NIfTI-2.
_MAGIC = {348: b"n+1\0", 540: b"n+2\0\r\n\x1a\n"}


def _first_bytes(path: Path) -> tuple[bytes, bool]:
    """Compare the name with the first bytes; return the (uncompressed) first bytes and whether it is compressed."""
    named = path.name.lower().endswith(".gz")
    with open(path, "rb") as file:
        start = file.read(352)
    if start.startswith(GZIP_MAGIC) != named:
        expected = "a gzip-compressed NIfTI image" if named else "an uncompressed NIfTI image"
        found = f"a file that starts with {start[:8]!r}"
        raise input_error(printable(path), expected, found, "export it as NIfTI, or correct its name")
    if named:
        with damage_told(path, _WHAT), gzip.open(path, "rb") as file:
            start = file.read(352)
    return start, named


def _read_header(path: PathLike) -> tuple[Any, np.ndarray, bool]:
    """Return the nibabel header, the 4 x 4 affine and whether the file is compressed."""
    import nibabel

    start, compressed = _first_bytes(check_file(path, "a NIfTI image"))
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if not sizes & set(_MAGIC):
        found = f"{start[:8]!r} where its header should be"
        raise input_error(printable(path), "a NIfTI image", found, "export it as NIfTI")
    size = min(sizes & set(_MAGIC))
    magic = start[344:348] if size == 348 else start[4:12]
    if magic != _MAGIC[size]:  # Analyze, or a header whose voxels lie in another file
        found = f"the mark {magic!r} where {_MAGIC[size]!r} should be"
        raise input_error(printable(path), "a NIfTI image in one file", found, "export it as .nii")
    kind = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
    with damage_told(path, _WHAT), open_maybe_gzip(path, compressed) as file:
        header = kind.from_fileobj(file)
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    return header, affine, compressed


def _check_dims(shape: tuple[int, ...], path: PathLike, two_channels: bool) -> None:
    """Refuse time series, vectors and, where a pair is wanted, single images."""
    size = " x ".join(map(str, shape))
    if two_channels and (len(shape) < 3 or shape[-1] != 2 or max(shape[3:-1], default=1) > 1):
        raise input_error(printable(path), "two images", f"one of {size} voxels", "name the second image too")
    if not two_channels and (len(shape) < 2 or max(shape[3:], default=1) > 1):
        raise input_error(printable(path), "a 2D or 3D image", f"{len(shape)}D ({size})", "save one volume of it")


def _spatial(array: np.ndarray, two_channels: bool) -> np.ndarray:
    """Drop dimensions of size 1 beyond space; of two channels also those between space and them."""
    if not two_channels:
        return array.reshape(array.shape[:3], order="F")
    shape = array.shape[:3] if array.ndim > 3 and array.shape[2] > 1 else array.shape[:2]
    return array.reshape((*shape, 2), order="F")


def _scaled(array: np.ndarray, header: Any) -> np.ndarray:
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope == 1 and intercept == 0):
        return array
    wide = np.dtype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    return array.astype(wide) * wide.type(slope) + wide.type(intercept)


def read_nifti(path: PathLike, two_channels: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a NIfTI image.

    Args:
        path: `.nii` or `.nii.gz`.
        two_channels: expect both images of a pair in the file, along its last dimension.

    Returns:
        Voxels with the header's scale applied, shape (X, Y) or (X, Y, Z) (with `two_channels` (..., 2)), and a
        dictionary with `format` ("nifti"), `dtype` (as stored), `value_range` (None), `color` (False), `affine`
        (4 x 4 float64, voxel index to RAS mm) and `notes`.

    Raises:
        FusionInputError: missing, empty, truncated, not NIfTI, 4D, complex or colored voxels, NaN or infinite
            values, a singular affine, or more voxels than the file or the memory holds.
    """
    header, affine, compressed = _read_header(path)
    with damage_told(path, _WHAT):
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header.get_data_offset())
    check_grid(path, shape, dtype, affine)
    _check_dims(shape, path, two_channels)
    check_size(path, shape, dtype, offset, compressed)
    with damage_told(path, _WHAT), open_maybe_gzip(path, compressed) as file:
        file.seek(offset)
        array = _scaled(read_voxels(file, shape, dtype, compressed), header)
    check_values(array, printable(path))
    placed = bool(header["sform_code"]) or bool(header["qform_code"])
    meta = {
        "format": "nifti",
        "dtype": dtype.newbyteorder("=").name,
        "value_range": None,
        "color": False,
        "affine": affine,
        "notes": [] if placed else ["header without orientation: place in space not known"],
    }
    return _spatial(array, two_channels), meta


def nifti_shape(path: PathLike) -> tuple[int, ...]:
    """Return the shape that a header states, without a look at the voxels; errors as in `read_nifti`."""
    return tuple(_read_header(path)[0].get_data_shape())


def _new_header(array: np.ndarray, affine: np.ndarray | None, dtype: Any) -> Any:
    import nibabel

    place = np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)
    header = nibabel.Nifti1Image(np.broadcast_to(np.float32(0), array.shape), place).header
    header.set_data_dtype(dtype or np.float32)
    header.set_xyzt_units("mm")
    return header


def _kept_header(array: np.ndarray, like: PathLike, affine: np.ndarray | None, dtype: Any) -> Any:
    """Return the header of `like`, with another size, place or type only where the result has one."""
    stored, stored_affine, _ = _read_header(like)
    header = stored.copy()
    header.extensions.clear()
    if [side for side in header.get_data_shape() if side > 1] != [side for side in array.shape if side > 1]:
        header.set_data_shape(array.shape)
    if affine is not None and not np.allclose(affine, stored_affine, atol=1e-4):
        header.set_sform(affine, 1)
        header.set_qform(affine, 1)
    header["cal_min"] = header["cal_max"] = 0
    if dtype is not None and np.dtype(dtype) != header.get_data_dtype().newbyteorder("="):
        header.set_data_dtype(dtype)
        header.set_slope_inter(1, 0)
    return header


def write_nifti(
    path: PathLike,
    array: np.ndarray,
    like: PathLike | None = None,
    affine: np.ndarray | None = None,
    dtype: Any = None,
    description: str = "",
) -> None:
    """Write voxels as NIfTI, whole or not at all.

    Args:
        path: file to be written, compressed when its name ends in `.gz`.
        array: values in the units that `read_nifti` gives, shape (X, Y) or (X, Y, Z).
        like: NIfTI file whose header is kept: size, affine (qform and sform), units, type and scale.
        affine: 4 x 4, voxel index to RAS mm, where it is not that of `like`; None for the latter, or for 1 mm voxels.
        dtype: type to store instead of that of `like` (float32 without one).
        description: up to 79 characters for the header; empty leaves what is there.

    Raises:
        FusionInputError: `like` cannot be read.
    """
    header = _new_header(array, affine, dtype) if like is None else _kept_header(array, like, affine, dtype)
    if description:
        header["descrip"] = description.encode("ascii", "replace")[:79]
    header.set_data_offset(int(header["sizeof_hdr"]) + 4)
    slope, intercept = header.get_slope_inter()
    scale = (slope or 1.0, intercept or 0.0)
    start = io.BytesIO()
    header.write_to(start)
    voxels = array.reshape(header.get_data_shape(), order="F")
    with atomic_file(path) as partial, open(partial, "wb") as plain, contextlib.ExitStack() as stack:
        compressed = to_path(path).name.lower().endswith(".gz")
        file: Any = stack.enter_context(gzip.GzipFile("", "wb", 6, plain, 0)) if compressed else plain
        file.write(start.getvalue().ljust(int(header.get_data_offset()), b"\0"))
        for place in range(voxels.shape[-1]):  # slice by slice, so that a large volume is not copied
            file.write(stored_values(voxels[..., place], header.get_data_dtype(), *scale).tobytes(order="F"))
