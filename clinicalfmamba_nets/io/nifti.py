"""NIfTI images in 2D and 3D, in one file or two; a result keeps the header without its free text."""

from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.background import fill_background
from clinicalfmamba_nets.io.colour import colour_pixels
from clinicalfmamba_nets.io.files import PathLike, atomic_file, printable, to_path
from clinicalfmamba_nets.io.nifti_header import WHAT, NiftiHeader, halves, qform_affine, read_header
from clinicalfmamba_nets.io.persons import person_in_text
from clinicalfmamba_nets.io.raw import (
    bytes_behind,
    check_grid,
    check_size,
    open_stream,
    read_voxels,
    refuse_damaged,
    skip,
    stored_values,
)

_FREE_TEXT = ("data_type", "db_name", "descrip", "aux_file", "intent_name")


def _free_text(head: NiftiHeader, name: str) -> str:
    return bytes(head.raw[name]).decode("utf-8", "replace").strip(" \0") if name in head.raw.keys() else ""  # noqa: SIM118


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


def _scaled(array: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    if scale == (1.0, 0.0):
        return array
    wide = np.dtype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by its values
        return array.astype(wide) * wide.type(scale[0]) + wide.type(scale[1])


def _read_stored(head: NiftiHeader) -> tuple[np.ndarray, list[str]]:
    """Read the voxels as stored, samples of a colour first; and what is to be told about what lies behind them."""
    shape = (head.samples, *head.shape) if head.samples > 1 else head.shape
    check_size(head.path, shape, head.dtype, head.offset, head.compressed)
    with refuse_damaged(head.path, WHAT), open_stream(head.path, "gzip" if head.compressed else "") as file:
        skip(file, head.offset)
        array = read_voxels(file, shape, head.dtype)
        return array, bytes_behind(file, head.path)


def read_nifti(path: PathLike, two_channels: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a NIfTI image.

    Args:
        path: `.nii` or `.nii.gz`, or one of a pair `.hdr` and `.img`.
        two_channels: expect both images of a pair in the file, along its last dimension.

    Returns:
        Voxels with the header's scale applied, shape (X, Y) or (X, Y, Z) (with `two_channels` (..., 2); RGB24 and
        RGBA32 in color (..., 3)), and the dictionary of `read_image` with `format` "nifti".

    Raises:
        FusionInputError: missing, empty, truncated, not NIfTI, 4D, complex voxels, NaN inside the image or infinite
            values, a singular affine, or more voxels than the file or the memory holds.
    """
    head = read_header(path)
    check_grid(path, head.shape, head.dtype, head.affine)
    _check_dims(head.shape, path, two_channels)
    array, behind = _read_stored(head)
    meta: dict[str, Any] = {
        "format": "nifti",
        "dtype": head.dtype.newbyteorder("=").name,
        "value_range": None,
        "color": False,
        "affine": head.affine,
        "coordinates": head.coordinates,
        "space": head.space,
        "background": None,
        "notes": list(head.notes),
        "warnings": [*head.warnings, *behind],
        "label": _free_text(head, "db_name"),
        **person_in_text(*(_free_text(head, name) for name in _FREE_TEXT)),
    }
    if head.samples > 1:
        if two_channels:
            raise input_error(printable(path), "two images", "one in color", "name the second image too")
        pixels, told = colour_pixels(np.moveaxis(array, 0, -1).reshape((*head.shape[:3], head.samples), order="F"))
        meta |= {"color": pixels.ndim > len(head.shape[:3]), "value_range": 255.0, "notes": [*meta["notes"], *told]}
        return pixels, meta
    array, background, told = fill_background(_scaled(array, head.scale), printable(path))
    if background is not None:
        background = _spatial(background, two_channels)
        meta["background"] = background.any(axis=-1) if two_channels else background
    meta["warnings"] += told
    return _spatial(array, two_channels), meta


def nifti_shape(path: PathLike) -> tuple[int, ...]:
    """Return the shape that a header states, without a look at the voxels; errors as in `read_nifti`."""
    return read_header(path).shape


def nifti_samples(path: PathLike) -> int:
    """Return how many samples a header states for each voxel, 3 or 4 in color; errors as in `read_nifti`."""
    return read_header(path).samples


def nifti_files(path: PathLike) -> list[Path]:
    """Return the files of an image: one, or a pair `.hdr` and `.img`."""
    return list(halves(path))


def _new_header(array: np.ndarray, affine: np.ndarray | None, dtype: Any, coordinates: str) -> Any:
    import nibabel

    place = np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)
    header = nibabel.Nifti1Image(np.broadcast_to(np.float32(0), array.shape), place).header
    header.set_data_dtype(dtype or np.float32)
    header.set_xyzt_units("mm")
    if coordinates in ("none", "other"):
        header.set_sform(None, 0)
        header.set_qform(None, 0)
    return header


def _stored_affine(affine: np.ndarray, head: NiftiHeader, array: np.ndarray) -> np.ndarray:
    """Return an affine with its axes as those of a header: a slice read from (1, Y, Z) has its normal last."""
    sides = [*head.shape[:3], 1][:3]
    if array.ndim == 2 and len(head.shape) > 2 and sides[2] != 1 and 1 in sides:
        flat = sides.index(1)
        return np.insert(affine[:, [0, 1, 3]], flat, affine[:, 2], axis=1)
    return affine


def _kept_header(array: np.ndarray, like: PathLike, affine: np.ndarray | None, dtype: Any) -> tuple[Any, tuple]:
    """Return the header of `like` and its scale, with another size, place or type only where the result has one."""
    head = read_header(like)
    header = head.raw.copy()
    header["magic"] = b"n+1" if int(header["sizeof_hdr"]) == 348 else b"n+2\0\r\n\x1a\n"
    for name in set(_FREE_TEXT) & set(header.keys()):  # converters write names and numbers of patients there
        header[name] = b""
    scale = head.scale
    header["scl_slope"], header["scl_inter"] = scale
    if [side for side in head.shape if side > 1] != [side for side in array.shape if side > 1]:
        header.set_data_shape(array.shape)
    elif affine is not None:
        affine = _stored_affine(np.asarray(affine, dtype=np.float64), head, array)
    if affine is not None and not np.allclose(affine, head.affine, atol=1e-4):
        header.set_xyzt_units("mm", header.get_xyzt_units()[1])
        header.set_sform(affine, 1)
        header.set_qform(affine, 1)
    elif int(header["qform_code"]) > 0:
        code, sides = int(header["qform_code"]), np.array(header["pixdim"])
        header.set_qform(qform_affine(header), code)  # a quaternion that every reader takes
        header["pixdim"] = sides
        header["pixdim"][0] = -1 if sides[0] < 0 else 1
    header["cal_min"] = header["cal_max"] = 0
    if head.samples > 1 or (dtype is not None and np.dtype(dtype) != head.dtype.newbyteorder("=")):
        header.set_data_dtype(dtype or np.float32)
        header["scl_slope"], header["scl_inter"] = scale = (1.0, 0.0)
    return header, scale


def write_nifti(
    path: PathLike,
    array: np.ndarray,
    like: PathLike | None = None,
    affine: np.ndarray | None = None,
    dtype: Any = None,
    description: str = "",
    coordinates: str = "patient",
) -> None:
    """Write voxels as NIfTI, whole or not at all.

    Args:
        path: file to be written, compressed when its name ends in `.gz`.
        array: values in the units that `read_nifti` gives, shape (X, Y) or (X, Y, Z).
        like: NIfTI file whose header is kept: size, affine (qform and sform), units, type and scale. Its free texts
            (db_name, descrip, aux_file, intent_name) and extensions are not, since patients are named there.
        affine: 4 x 4, voxel index to RAS mm, where it is not that of `like`; None for the latter, or for 1 mm voxels.
        dtype: type to store instead of that of `like` (float32 without one).
        description: up to 79 characters for the header.
        coordinates: what the affine leads to where there is no `like`; without a place in the patient, sform and qform
            stay without a code.

    Raises:
        FusionInputError: `like` cannot be read.
    """
    if like is None:
        header, scale = _new_header(array, affine, dtype, coordinates), (1.0, 0.0)
    else:
        header, scale = _kept_header(array, like, affine, dtype)
    header["descrip"] = description.encode("ascii", "replace")[:79]
    header.set_data_offset(int(header["sizeof_hdr"]) + 4)
    start = io.BytesIO()
    header.write_to(start)
    voxels = array.reshape(header.get_data_shape(), order="F")
    with atomic_file(path) as partial, open(partial, "wb") as plain, contextlib.ExitStack() as stack:
        compressed = to_path(path).name.lower().endswith(".gz")
        file: Any = stack.enter_context(gzip.GzipFile("", "wb", 6, plain, 0)) if compressed else plain
        file.write(start.getvalue().ljust(int(header.get_data_offset()), b"\0"))
        for place in range(voxels.shape[-1]):  # slice by slice, so that a large volume is not copied
            file.write(stored_values(voxels[..., place], header.get_data_dtype(), *scale).tobytes(order="F"))
