"""NIfTI images in 2D and 3D: the header is judged before any voxel is read, and kept when the result is written."""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.files import PathLike, atomic_file, check_file, check_memory, check_values, printable

_GZIP_MAGIC = b"\x1f\x8b"
# Deflate packs at most 1032 bytes into one.
_MAX_COMPRESSION = 1032
_CHUNK = 2**24


@contextlib.contextmanager
def _damage_told(path: PathLike) -> Iterator[None]:
    """Tell in one line whatever a library says about a damaged file."""
    try:
        yield
    except FusionInputError:
        raise
    except Exception as error:  # damaged headers reach many corners of nibabel, zlib and numpy
        found = f"a truncated or damaged one ({type(error).__name__})"
        raise input_error(printable(path), "a whole NIfTI image", found, "copy or export the file again") from error


def _open_start(path: Path) -> tuple[bytes, bool]:
    """Compare the name with the first bytes; return the (uncompressed) first bytes and whether it is compressed."""
    named = path.name.lower().endswith(".gz")
    with open(path, "rb") as file:
        start = file.read(352)
    if start.startswith(_GZIP_MAGIC) != named:
        expected = "a gzip-compressed NIfTI image" if named else "an uncompressed NIfTI image"
        found = f"a file that starts with {start[:8]!r}"
        raise input_error(printable(path), expected, found, "export it as NIfTI, or correct its name")
    if named:
        with _damage_told(path), gzip.open(path, "rb") as file:
            start = file.read(352)
    return start, named


def _read_header(path: PathLike) -> tuple[Any, np.ndarray, bool]:
    """Return the nibabel header, the 4 x 4 affine and whether the file is compressed."""
    import nibabel

    target = check_file(path, "a NIfTI image")
    start, compressed = _open_start(target)
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if not sizes & {348, 540}:
        found = f"{start[:8]!r} where its header should be"
        raise input_error(printable(path), "a NIfTI image", found, "export it as NIfTI")
    kind = nibabel.Nifti1Header if 348 in sizes else nibabel.Nifti2Header
    with _damage_told(path), (gzip.open if compressed else open)(target, "rb") as file:
        header = kind.from_fileobj(file)
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    return header, affine, compressed


def _check_header(path: PathLike, header: Any, affine: np.ndarray, compressed: bool) -> None:
    """Refuse headers that announce more than the file or the memory can hold, or a place that is none."""
    name, shape, dtype = printable(path), header.get_data_shape(), header.get_data_dtype()
    size = " x ".join(map(str, shape))
    if not shape or min(shape) < 1:
        raise input_error(name, "an image with voxels", f"size {size or 'none'}", "export the file again")
    check_values(np.ones(1, dtype=dtype), name)
    count = int(np.prod([int(side) for side in shape], dtype=object))
    stored = check_file(path).stat().st_size
    limit = stored * _MAX_COMPRESSION if compressed else stored - int(header.get_data_offset())
    if count * dtype.itemsize > limit:
        found = f"{stored} bytes for {size} voxels of {dtype.name}"
        raise input_error(name, "a whole NIfTI image", found, "the file is truncated: copy or export it again")
    check_memory(path, count * (dtype.itemsize + 12))
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise input_error(
            name, "an affine that can be inverted", "a singular one", "correct the header's sform or qform"
        )


def _read_voxels(path: PathLike, header: Any, compressed: bool) -> np.ndarray:
    """Read the stored voxels, and the file to its end so that a wrong checksum does not pass."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    raw = np.empty(int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
    with _damage_told(path), (gzip.open if compressed else open)(check_file(path), "rb") as file:
        file.seek(int(header.get_data_offset()))
        view, filled = memoryview(raw), 0
        while filled < raw.size:
            got = file.readinto(view[filled : filled + _CHUNK])
            if not got:
                raise EOFError
            filled += got
        while compressed and file.read(_CHUNK):
            pass
    array = raw.view(dtype).reshape(shape, order="F")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _scaled(array: np.ndarray, header: Any) -> np.ndarray:
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope == 1 and intercept == 0):
        return array
    wide = np.float32 if array.dtype.itemsize < 4 else np.float64
    return array.astype(wide) * wide(slope) + wide(intercept)


def _spatial(array: np.ndarray, path: PathLike, two_channels: bool) -> np.ndarray:
    """Drop trailing dimensions of size 1 beyond space; refuse time series and vectors."""
    size = " x ".join(map(str, array.shape))
    if two_channels:
        while array.ndim > 3 and array.shape[-2] == 1:
            array = array[..., 0, :]
        if array.ndim in (3, 4) and array.shape[-1] == 2:
            return array
        raise input_error(printable(path), "two images", f"one of {size} voxels", "name the second image too")
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3):
        raise input_error(printable(path), "a 2D or 3D image", f"{array.ndim}D ({size})", "save one volume of it")
    return array


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
    with _damage_told(path):
        _check_header(path, header, affine, compressed)
    if len(header.get_data_shape()) > 3:  # judged on a view of nothing, before the voxels are read
        _spatial(np.broadcast_to(np.int8(0), header.get_data_shape()), path, two_channels)
    array = _read_voxels(path, header, compressed)
    with _damage_told(path):
        array = _scaled(array, header)
    check_values(array, printable(path))
    notes = [] if header["sform_code"] or header["qform_code"] else ["header without orientation: place not known"]
    meta = {
        "format": "nifti",
        "dtype": header.get_data_dtype().newbyteorder("=").name,
        "value_range": None,
        "color": False,
        "affine": affine,
        "notes": notes,
    }
    return _spatial(array, path, two_channels), meta


def _result_header(array: np.ndarray, like: PathLike | None, affine: np.ndarray | None, dtype: Any) -> Any:
    """Build the header of a result: that of the file it is like, or a new one, at the place of the affine."""
    if like is None:
        import nibabel

        place = np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)
        header = nibabel.Nifti1Image(np.broadcast_to(np.float32(0), array.shape), place).header
        header.set_data_dtype(dtype or np.float32)
        header.set_xyzt_units("mm")
        return header
    stored, stored_affine, _ = _read_header(like)
    header = stored.copy()
    header.extensions.clear()
    if tuple(side for side in header.get_data_shape() if side > 1) != tuple(side for side in array.shape if side > 1):
        header.set_data_shape(array.shape)
    if affine is not None and not np.allclose(affine, stored_affine, atol=1e-4):
        header.set_sform(affine, 1)
        header.set_qform(affine, 1)
    header["cal_min"] = header["cal_max"] = 0
    if dtype is not None and np.dtype(dtype) != header.get_data_dtype().newbyteorder("="):
        header.set_data_dtype(dtype)
        header.set_slope_inter(1, 0)
    return header


def _stored(array: np.ndarray, dtype: np.dtype, slope: float | None, intercept: float | None) -> np.ndarray:
    """Return values as they lie in the file: scale undone, integers rounded and clipped."""
    if dtype.kind not in "iu":
        return array.astype(dtype)
    values = (np.asarray(array, dtype=np.float64) - (intercept or 0)) / (slope or 1)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def write_nifti(
    path: PathLike,
    array: np.ndarray,
    like: PathLike | None = None,
    affine: np.ndarray | None = None,
    dtype: Any = None,
) -> None:
    """Write voxels as NIfTI, whole or not at all.

    Args:
        path: file to be written, compressed when its name ends in `.gz`.
        array: values in the units that `read_nifti` gives, shape (X, Y) or (X, Y, Z).
        like: NIfTI file whose header is kept: size, affine (qform and sform), units, type and scale.
        affine: 4 x 4, voxel index to RAS mm, where it is not that of `like`; None for the latter, or for 1 mm voxels.
        dtype: type to store instead of that of `like` (float32 without one).

    Raises:
        FusionInputError: `like` cannot be read.
    """
    header = _result_header(array, like, affine, dtype)
    header.set_data_offset(int(header["sizeof_hdr"]) + 4)
    slope, intercept = header.get_slope_inter()
    voxels = array.reshape(header.get_data_shape(), order="F") if array.shape != header.get_data_shape() else array
    with atomic_file(path) as partial, open(partial, "wb") as plain, contextlib.ExitStack() as stack:
        file: Any = plain
        if printable(path).lower().endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, plain, 0))
        start = io.BytesIO()
        header.write_to(start)
        file.write(start.getvalue().ljust(int(header.get_data_offset()), b"\0"))
        for place in range(voxels.shape[-1]):  # slice by slice, so that a large volume is not copied
            file.write(_stored(voxels[..., place], header.get_data_dtype(), slope, intercept).tobytes(order="F"))
