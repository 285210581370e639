"""A fused volume written as a derived DICOM series, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.dicom.copying import keep_element
from clinicalfmamba_nets.io.dicom.encoding import SeriesEncoder
from clinicalfmamba_nets.io.dicom.files import is_dicom, split_selector
from clinicalfmamba_nets.io.dicom.header import Slice, quiet_pydicom, read_dataset
from clinicalfmamba_nets.io.dicom.modules import (
    LOSSY,
    MODEL,
    MR,
    NewSeries,
    add_references,
    decimal,
    new_series,
)
from clinicalfmamba_nets.io.dicom.multiframe import frames_in_one
from clinicalfmamba_nets.io.dicom.opened import OpenedSeries
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.dicom.study import open_study
from clinicalfmamba_nets.io.files import PathLike, check_values, printable, to_path
from clinicalfmamba_nets.io.raw import stored_values

# Values that are no integers get at least this many steps, with a slope of their own if need be.
_FEWEST_STEPS = 127
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_dicom(
    path: PathLike,
    array: np.ndarray,
    like: PathLike | None = None,
    affine: np.ndarray | None = None,
    *,
    dtype: Any = None,
    references: Sequence[PathLike] = (),
    multiframe: bool = False,
    settings: str = "",
) -> None:
    """Write a volume as a DICOM series that is derived from another one.

    Patient and study, Frame of Reference and grid are those of `like`; series and images get new UIDs. MR and CT are
    kept; other kinds and color become Secondary Capture.

    Args:
        path: folder to be written, one file for each slice; an earlier result of this software is replaced.
        array: values in the units of `like`, shape (columns, rows, slices), or (columns, rows, slices, 3) in [0, 255].
        like: the DICOM series (`folder::selector`) whose patient and place are kept.
        affine: 4 x 4, index to RAS mm; of no effect, unless it is not that of `like`, which is refused.
        dtype: of no effect: values are stored with 16 bits (color with 8) and the rescale of `like` where they fit.
        references: other series that went into the volume.
        multiframe: write an image in color as one file of many frames instead of a file for each slice.
        settings: what the values depend on, such as windows and palette, for DerivationDescription.

    Raises:
        FusionInputError: no DICOM series to derive from, another grid than it has, NaN or infinite values, or a folder
            with other files in it.

    Example:
        >>> write_dicom("fused", volume, "study::MR", references=["study::CT"])  # doctest: +SKIP
    """
    source, others = source_series(like, path), [source_series(item, path) for item in references]
    check_values(array, printable(path))
    _check_grid(path, array, affine, source)
    from clinicalfmamba_nets import __version__

    color = array.ndim == 4
    if multiframe and not color:
        raise ValueError("multiframe: expected an image in color, found a grey one")
    new = new_series(source, others, color, __version__, settings)
    stored, scale = (np.clip(np.rint(array), 0, 255).astype(np.uint8), None) if color else _quantized(array, source)
    window = None if color else _window(array)
    place, lossy, burned = _TO_LPS @ np.asarray(source.affine), _lossy(others), _burned((source, *others))
    with atomic_folder(path) as folder, quiet_pydicom():
        if multiframe:
            made = frames_in_one(
                next(_source_headers(source))[1], new, place, np.moveaxis(stored, (0, 1, 2), (2, 1, 0))
            )
            _tell_loss(made, lossy)
            made.BurnedInAnnotation = burned or "NO"  # an object of many frames must tell
            add_references(made, [(series, series.slices) for series in (source, *others)])
            save_object(made, folder / "IM0001.dcm")
            return

        def complete(made: Any, pixels: np.ndarray) -> None:
            _tell_loss(made, lossy)
            if burned:
                made.BurnedInAnnotation = burned
            _describe_pixels(made, pixels, new, scale, window)

        encoder = SeriesEncoder(new, place, complete)
        for number, (item, header) in enumerate(_source_headers(source)):
            pixels = np.swapaxes(stored[:, :, number] if color else stored(array[:, :, number]), 0, 1)
            used = [(source, [item]), *((other, _near(other, source, number)) for other in others)]
            with open(folder / f"IM{number + 1:04d}.dcm", "xb") as file:
                file.write(encoder.encode(header, number, pixels, used))


def _lossy(others: Sequence[Series]) -> Any:
    """Return the header of a series that was compressed with loss, None where none was."""
    headers = [read_dataset(other.slices[0].path) for other in others]
    return next((header for header in headers if header.get("LossyImageCompression") == "01"), None)


def _tell_loss(made: Any, lossy: Any) -> None:
    """Say of a result that pixels of one of its sources have lost something."""
    if lossy is not None and made.get("LossyImageCompression") != "01":
        for keyword in LOSSY:
            keep_element(made, lossy, keyword, told=False)


def _burned(used: Sequence[Series]) -> str:
    """Return whether text is burned into a result: "YES" or "NO" as its sources say, "" where they do not tell."""
    stated = {header.burned.upper() for series in used for header in series.headers.values()}
    return "YES" if "YES" in stated else "NO" if stated == {"NO"} else ""


def save_object(made: Any, path: Path) -> None:
    """Write an object as a file of a folder that `atomic_folder` gave."""
    with open(path, "xb") as file:
        made.save_as(file, enforce_file_format=True)


def source_series(path: PathLike | Series | None, target: PathLike) -> Series:
    """Return the series that an object is made from.

    Args:
        path: `folder::selector`, or a series that was opened already.
        target: what is to be written, for the message.

    Raises:
        FusionInputError: no DICOM series, or not one alone.
    """
    if isinstance(path, Series):
        return path
    if path is None or not is_dicom(path):
        found = "none" if path is None else printable(path)
        raise input_error(printable(target), "a DICOM series to derive from", found, "write NIfTI or PNG instead")
    if isinstance(path, OpenedSeries):
        return path.series
    base, selector = split_selector(path)
    return open_study(base).choose(selector)


def _check_grid(path: PathLike, array: np.ndarray, affine: np.ndarray | None, source: Series) -> None:
    if array.shape[:3] != source.shape or array.shape[3:] not in ((), (3,)):
        found = " x ".join(map(str, array.shape))
        expected = f"{' x '.join(map(str, source.shape))} voxels as the source series has"
        raise input_error(printable(path), expected, found, "write it as NIfTI")
    if affine is not None and source.affine is not None and not np.allclose(affine, source.affine, atol=1e-3):
        raise input_error(printable(path), "the grid of the source series", "another affine", "write it as NIfTI")


def _source_headers(source: Series) -> Iterator[tuple[Slice, Any]]:
    path, header = None, None
    for item in source.slices:
        if item.path != path:
            path, header = item.path, read_dataset(item.path)
        yield item, header


def _quantized(array: np.ndarray, source: Series) -> tuple[Any, tuple[float, float]]:
    """Choose 16-bit storage: the source's slope and intercept where all values fit, else ones that span the range."""
    low, high = float(array.min()), float(array.max())
    scales = {(1.0 if item.slope is None else item.slope, item.intercept or 0.0) for item in source.slices}
    slope, intercept = scales.pop() if len(scales) == 1 else (0.0, 0.0)
    slope, intercept = float(decimal(slope)), float(decimal(intercept))
    ends = sorted((value - intercept) / slope for value in (low, high)) if slope else [-1e9, 1e9]
    kinds = [kind for kind in ("uint16", "int16") if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max]
    if slope and ends[1] - ends[0] < _FEWEST_STEPS and not np.array_equal(array, np.rint(array)):
        kinds = []
    kind = np.dtype(kinds[-1] if source.header.signed and kinds else kinds[0] if kinds else "uint16")
    if not kinds:
        slope, intercept = float(decimal((high - low) / 65535 or 1.0)), float(decimal(low))
    return lambda values: stored_values(values, kind, slope, intercept), (slope, intercept)


def _window(array: np.ndarray) -> tuple[float, float]:
    """Return center and width of the display: the middle 99 % of a sample of the values."""
    low, high = np.percentile(array[::3, ::3], [0.5, 99.5])
    return float(low + high) / 2, max(float(high - low), 1.0)


def _describe_pixels(
    made: Any, pixels: np.ndarray, new: NewSeries, scale: tuple[float, float] | None, window: tuple[float, float] | None
) -> None:
    made.Rows, made.Columns = pixels.shape[:2]
    bits = 8 * pixels.dtype.itemsize
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if pixels.ndim == 3 else (1, "MONOCHROME2")
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    if scale and (new.sop_class != MR or scale != (1.0, 0.0)):
        made.RescaleSlope, made.RescaleIntercept, made.RescaleType = decimal(scale[0]), decimal(scale[1]), "US"
    if window:
        made.WindowCenter, made.WindowWidth = decimal(round(window[0], 3)), decimal(round(window[1], 3))


def _near(other: Series, source: Series, number: int) -> list[Slice]:
    """Return the slices of another series between which a slice of the source lies."""
    columns, rows, _ = source.shape
    corners = np.array([[x, y, number, 1] for x in (0, columns - 1) for y in (0, rows - 1)], dtype=float)
    depth = (corners @ np.asarray(source.affine).T @ np.linalg.inv(np.asarray(other.affine)).T)[:, 2]
    first, last = int(np.floor(depth.min() + 0.05)), int(np.ceil(depth.max() - 0.05))
    return other.slices[max(first, 0) : max(last + 1, 0)]


@contextlib.contextmanager
def atomic_folder(path: PathLike) -> Iterator[Path]:
    """Give a hidden folder beside `path`; it takes the place of `path` only when all went well and is on the disk.

    The files go to the disk together behind the last of them: the system then writes many at once, and one by one
    each would wait for the disk.

    Args:
        path: the folder to be written; what this software wrote there before is replaced.

    Yields:
        The hidden folder.

    Raises:
        FusionInputError: something else is there.
    """
    target = to_path(path)
    check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (target.parent / f".{secrets.token_hex(8)}.{end}" for end in ("tmp", "old"))
    partial.mkdir()
    try:
        yield partial
        for written in (*partial.iterdir(), partial):
            _to_disk(written)
        if target.is_dir():
            os.replace(target, old)
        os.replace(partial, target)
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_replaceable(target: Path) -> None:
    """Refuse to replace anything but a series that this software wrote.

    Raises:
        FusionInputError: something else is there.
    """
    if not target.exists() and not target.is_symlink():
        return
    items = sorted(target.iterdir()) if target.is_dir() and not target.is_symlink() else [target]
    for item in items:
        if not item.is_file() or read_dataset(item).get("ManufacturerModelName") != MODEL:
            raise input_error(printable(target), "a new folder", f"it with {printable(item.name)}", "name another one")
