"""Reading and writing of image files: `read_image` and `write_image` choose the format, one module knows each."""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.dicom.archive import other_archive
from clinicalfmamba_nets.io.dicom.files import is_dicom
from clinicalfmamba_nets.io.files import (
    ENDINGS,
    PathLike,
    atomic_file,
    available_memory,
    case_name,
    check_file,
    check_memory,
    check_values,
    printable,
    to_path,
)

__all__ = [
    "PathLike",
    "atomic_file",
    "available_memory",
    "case_name",
    "check_file",
    "check_memory",
    "check_values",
    "has_samples",
    "image_extension",
    "image_files",
    "image_format",
    "is_dicom",
    "is_picture",
    "is_volume",
    "printable",
    "read_image",
    "result_extension",
    "stated_modality",
    "to_path",
    "write_image",
]

# What files of a format start with; where nothing is named, the name alone tells.
_STARTS = {"png": (b"\x89PNG",), "nrrd": (b"NRRD",), "jpeg": (b"\xff\xd8\xff",), "tiff": (b"II*\0", b"MM\0*")}
_MODULES = {"jpeg": "pictures", "tiff": "pictures"}
_VOLUMES = ("nifti", "nrrd", "metaimage", "mgh")
_DETACHED = ("nifti", "nrrd", "metaimage")
_PICTURES = ("png", "jpeg", "tiff")
# Results are written in these formats alone; images of others give one of these.
_RESULTS = {".img": ".nii.gz", ".hdr": ".nii.gz", ".img.gz": ".nii.gz", ".hdr.gz": ".nii.gz", ".nhdr": ".nrrd"}
_RESULTS |= {end: ".nii.gz" for name in ("metaimage", "mgh") for end in ENDINGS[name]}
_RESULTS |= {end: ".png" for name in ("jpeg", "tiff") for end in ENDINGS[name]}


def image_extension(path: PathLike) -> str:
    """Return how the name ends (".png", ".nii.gz", ...), in lower case; "" for a name that no format has.

    Example:
        >>> image_extension("scans/T2.NII.GZ")
        '.nii.gz'
    """
    name = os.path.basename(os.fsdecode(path)).lower()
    return next((end for ends in ENDINGS.values() for end in ends if name.endswith(end)), "")


def result_extension(path: PathLike) -> str:
    """Return how the name of a result ends that is made from an image: as its own, or as the format that stands for it.

    Example:
        >>> result_extension("T2.mha"), result_extension("T2.nii"), result_extension("T2")
        ('.nii.gz', '.nii', '')
    """
    ending = image_extension(path)
    return _RESULTS.get(ending, ending)


def image_files(path: PathLike) -> list[Path]:
    """Return the files that hold an image: the one that is named, and where the format has two, the other one."""
    parts = {to_path(path)}
    with contextlib.suppress(FusionInputError, OSError):
        name = image_format(path)
        if name in _DETACHED:
            parts.update(_function(name, f"{name}_files")(path))
    return sorted(parts)


def is_picture(path: PathLike) -> bool:
    """Tell by its name, else by its first bytes, whether a file is a picture: rows from above, no place in space."""
    try:
        return image_format(path) in _PICTURES
    except (FusionInputError, OSError):
        return False


def image_format(path: PathLike) -> str:
    """Return the format of an image by its name, else by its first bytes: a key of `ENDINGS`.

    Args:
        path: an existing file (looked into only where its name does not tell), or a folder, which is DICOM.

    Raises:
        FusionInputError: a format that is not read here.
    """
    ending = image_extension(path)
    if ending:
        return next(name for name, ends in ENDINGS.items() if ending in ends)
    if is_dicom(path):
        return "dicom"
    with open(check_file(path), "rb") as file:
        start = file.read(8)
    for name, known in _STARTS.items():
        if start.startswith(known):
            return name
    known_ends = ", ".join(ends[0] for ends in ENDINGS.values())
    packed = other_archive(path)
    found, remedy = packed or f"{start!r} at its start", "unpack it" if packed else "convert it, or correct its name"
    raise input_error(printable(path), f"an image ({known_ends})", found, remedy)


def is_volume(path: PathLike) -> bool:
    """Tell by its header whether a file of a format for volumes holds more than one slice.

    False for every other format, and for a file that cannot be read: reading it tells the reason.
    """
    try:
        name = image_format(path)
        if name not in _VOLUMES:
            return False
        shape = _function(name, f"{name}_shape")(path)
    except (FusionInputError, OSError):
        return False
    return len(shape) > 2 and min(shape[:3]) > 1


def has_samples(path: PathLike) -> bool:
    """Tell by its header whether a volume may be in color: several samples in each voxel, which may yet be equal.

    False for every other format, and for a file that cannot be read: reading it tells the reason.
    """
    try:
        name = image_format(path)
        return name in _DETACHED and _function(name, f"{name}_samples")(path) > 1
    except (FusionInputError, OSError):
        return False


def stated_modality(path: PathLike) -> str:
    """Return what the header of a file says that it shows, "CT" or "MR"; "" where it has no word for it (as NIfTI)."""
    try:
        return _function("metaimage", "metaimage_modality")(path) if image_format(path) == "metaimage" else ""
    except (FusionInputError, OSError):
        return ""


def _function(name: str, function: str) -> Any:
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, name)}"), function)


def read_image(path: PathLike, two_channels: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """Read one image of any known format.

    Args:
        path: the file; for DICOM a folder, DICOMDIR or file, and `::` with what chooses a series behind it.
        two_channels: expect both images of a pair in the file, along its last dimension (NIfTI only).

    Returns:
        Pixels as stored, with the header's scale applied: (H, W) or (H, W, 3) for PNG, (X, Y) or (X, Y, Z) for formats
        with geometry, (X, Y, Z) or (X, Y, Z, 3) for DICOM; and a dictionary with the keys `format`, `dtype` (as
        stored), `value_range` (white of integer pictures, else None), `color`, `affine` (4 x 4, index to RAS mm, or
        None) and `notes` (harmless facts). Where a format can tell them: `warnings` (what changes the meaning of the
        picture), `modality` ("CT", "MR", "PT", "NM" or ""), `description`, `windows` (center, width, explanation of the
        file's own), `units`, `suv_factor` with `suv_reason` where there is none, `background` (mask of padding).

    Raises:
        FusionInputError: whatever is wrong with the file, in one line.
    """
    name = image_format(path)
    if two_channels and name != "nifti":
        if name != "dicom":
            check_file(path)
        raise input_error(printable(path), "two images", f"one {name.upper()} image", "name the second image too")
    reader = _function(name, f"read_{name}")
    return reader(path, two_channels=True) if two_channels else reader(path)


def write_image(
    path: PathLike,
    array: np.ndarray,
    like: PathLike | None = None,
    affine: np.ndarray | None = None,
    dtype: Any = None,
    coordinates: str = "patient",
) -> None:
    """Write one image in the format of its name, whole or not at all.

    Args:
        path: file to be written.
        array: pixels in the layout and units of `read_image`.
        like: file of the same format whose type (and geometry) is kept.
        affine: index to RAS mm, for formats with geometry, where it is not that of `like`.
        dtype: type to store instead of that of `like`.
        coordinates: what the affine leads to (see `match_grids`), where there is no `like`: without a place in the
            patient, none is written.

    Raises:
        FusionInputError: a name that no format for results has, or `like` cannot be read.
    """
    name = image_format(path)
    if image_extension(path) in _RESULTS:
        remedy = f"name one that ends in {result_extension(path)}"
        raise input_error(printable(path), "a format for results", image_extension(path), remedy)
    known = {"coordinates": coordinates} if like is None and name in ("nifti", "nrrd") else {}
    _function(name, f"write_{name}")(path, array, like, affine, dtype, **known)
