"""DICOM series as volumes: `read_dicom` and `write_dicom` are what `read_image` and `write_image` call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.facts import SeriesFacts, pixel_warnings
from clinicalfmamba_nets.io.dicom.files import split_selector
from clinicalfmamba_nets.io.dicom.kinds import MODEL
from clinicalfmamba_nets.io.dicom.opened import OpenedSeries
from clinicalfmamba_nets.io.dicom.padding import far_below_air, fill_padding
from clinicalfmamba_nets.io.dicom.pixel_format import INVERTED, is_color
from clinicalfmamba_nets.io.dicom.pixels import stored_slices
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.dicom.study import open_study
from clinicalfmamba_nets.io.dicom.write import write_dicom
from clinicalfmamba_nets.io.files import PathLike, check_memory, printable

_DENSEST = 32767  # HU, more than any scanner's extended scale of CT numbers

__all__ = ["read_dicom", "read_series", "write_dicom"]


def read_dicom(path: PathLike | Sequence[PathLike], series: str = "") -> tuple[np.ndarray, dict[str, Any]]:
    """Read one DICOM series as a volume.

    Slices are placed by ImagePositionPatient and ImageOrientationPatient; a series that is no volume is refused.

    Args:
        path: a folder, DICOMDIR, file or list of files; `::` and a selector may follow a path.
        series: what chooses the series (see `choose_series`) instead of the selector in `path`; not needed where the
            path holds one.

    Returns:
        Voxels with slope and intercept applied (HU for CT), shape (columns, rows, slices), for color
        (columns, rows, slices, 3) in [0, 255]; integers where slope 1 allows, else float32. And the dictionary of
        `read_image` with `format` "dicom", `affine` (4 x 4, index to RAS mm, with a shear where the gantry was tilted),
        `modality`, `frame_of_reference`, `description`, `windows` (center, width and explanation of each that the
        header names, in the units of the voxels), `units` ("HU", "Bq/ml", "counts" or what the header says), for PET
        `suv_factor` or `suv_reason`, and `background` (True where there are no data, which hold the least value).

    Raises:
        FusionInputError: nothing that is one volume, or it cannot be decoded; the message names the file and the tag.
    """
    selector = "" if _is_list(path) else split_selector(path)[1]  # type: ignore[arg-type]
    if isinstance(path, OpenedSeries):
        study, chosen = path.study, path.series
    else:
        study = open_study(path)
        chosen = study.choose(series or selector)
    array, info = read_series(chosen)
    if not getattr(path, "told", False):
        info["notes"] = [*study.notes, *info["notes"]]
        info["warnings"] = [*study.warnings, *info["warnings"]]
    return array, info


def _is_list(path: Any) -> bool:
    return isinstance(path, Sequence) and not isinstance(path, str | bytes)


def read_series(series: Series) -> tuple[np.ndarray, dict[str, Any]]:
    """Read the pixels of a series that `choose_series` gave; see `read_dicom`."""
    header, color = series.header, is_color(series.header)
    kind = np.dtype(np.uint8) if color else _result_type(series)
    shape = series.shape + ((3,) if color else ())
    check_memory(header.path, int(np.prod(shape, dtype=np.int64)) * (kind.itemsize + 13))
    volume = np.empty(shape[::-1] if not color else (*shape[2::-1], 3), dtype=kind)  # (slices, rows, columns)
    facts = SeriesFacts(series.modality, series.description)
    spilled, wrapped = Counter[str](), Counter[str]()
    background = None
    for place, stored in enumerate(stored_slices(series.slices, series.headers)):
        item = series.slices[place]
        volume[place] = _rescaled(stored.values, item, color).astype(kind)
        spilled[printable(item.path.name)] += stored.overflow
        wrapped[printable(item.path.name)] += stored.wrapped
        facts.add(stored.dataset, item)
        if stored.padding is not None:
            background = np.zeros(volume.shape, dtype=bool) if background is None else background
            background[place] = stored.padding
    info, notes = facts.as_info()
    background, found = _without_padding(volume, background, info["units"] == "HU")
    notes = [*series.notes, *notes, *found, *_upright(volume, background, header, info)]
    array = np.moveaxis(volume, (0, 1, 2), (2, 1, 0))
    if color and all((volume[place] == volume[place, ..., :1]).all() for place in range(len(volume))):
        array, color = array[..., 0], False
        notes.append("equal red, green and blue read as grey")
    return array, {
        "format": "dicom",
        "dtype": kind.name,
        "value_range": 255.0 if kind == np.uint8 and (color or is_color(header)) else None,
        "color": color,
        "affine": series.affine,
        "modality": series.modality,
        "frame_of_reference": series.frame_of_reference,
        "taken": series.taken,
        "fused": header.model == MODEL,
        **{key: series.stated(key) for key in ("patient", "issuer", "birth_date", "patient_name", "sex", "study")},
        **info,
        "background": None if background is None else np.moveaxis(background, (0, 1, 2), (2, 1, 0)),
        "notes": notes,
        "warnings": [
            *series.warnings,
            *facts.warnings,
            *pixel_warnings(spilled, wrapped),
            *_too_dense(volume, info["units"] == "HU"),
        ],
    }


def _scale(slices: list[Any]) -> set[tuple[float, float]]:
    return {(1.0 if item.slope is None else item.slope, item.intercept or 0.0) for item in slices}


def _result_type(series: Series) -> np.dtype:
    """Return the smallest integer type for the values of all slices where every slope is 1, float32 for others."""
    scales = _scale(series.slices)
    if any(slope != 1 or intercept != int(intercept) for slope, intercept in scales):
        return np.dtype(np.float32)
    ends = []
    for item in series.slices:  # each file has bits and a sign of its own
        header, shift = series.headers[item.path], int(item.intercept or 0)
        bits, least = header.bits_stored, -(2 ** (header.bits_stored - 1)) if header.signed else 0
        ends += [least + shift, least + 2**bits - 1 + shift]
    fitting = [
        kind
        for kind in ("int16", "uint16", "int32", "uint32")
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max
    ]
    return np.dtype(fitting[0] if fitting else np.float64)


def _rescaled(stored: np.ndarray, item: Any, color: bool) -> np.ndarray:
    slope, intercept = (1.0 if item.slope is None else item.slope), item.intercept or 0.0
    if color or (slope == 1 and intercept == 0):
        return stored
    wide = np.int64 if slope == 1 and intercept == int(intercept) and stored.dtype.kind in "iu" else np.float64
    return stored.astype(wide) * wide(slope) + wide(intercept)


def _without_padding(
    volume: np.ndarray, tagged: np.ndarray | None, hounsfield: bool
) -> tuple[np.ndarray | None, list[str]]:
    """Give voxels without data the least value of the others; return where they are, and notes."""
    notes: list[str] = []
    masks: list[np.ndarray | None] = []
    if tagged is not None:
        filled = fill_padding(volume, tagged)
        if filled is None:
            return None, ["PixelPaddingValue (0028,0120) is the value of every voxel: of no effect"]
        masks.append(filled[2])
        if filled[0]:
            notes.append(f"PixelPaddingValue (0028,0120): {filled[0]} voxels without data set to {filled[1]:g}")
    far = far_below_air(volume) if hounsfield else None
    filled = None if far is None else fill_padding(volume, far if tagged is None else far | tagged)
    if far is not None and filled is not None:
        masks.append(far)
        what = "far below air, without PixelPaddingValue"
        notes.append(f"{what}: {filled[0]} voxels without data set to {filled[1]:g} HU")
    known = [mask for mask in masks if mask is not None]
    return (np.logical_or.reduce(known) if known else None), notes


def _too_dense(volume: np.ndarray, hounsfield: bool) -> list[str]:
    """Tell of values that no matter has in a CT: negative ones that the header calls unsigned."""
    if not hounsfield or volume.max() <= _DENSEST:
        return []
    count, share = np.count_nonzero(volume > _DENSEST), f"above {_DENSEST} HU"
    return [f"{count} voxels {share}: PixelRepresentation (0028,0103) is wrong, or they are no data"]


def _upright(volume: np.ndarray, background: np.ndarray | None, header: Any, info: dict[str, Any]) -> list[str]:
    """Turn MONOCHROME1, in which high values are dark, around in place, unless its values are a measured quantity."""
    if header.photometric != INVERTED:
        return []
    if info["units"]:
        return [f"MONOCHROME1: shown inverted by its header, but the values are {info['units']} and stay so"]
    data = volume if background is None else volume[~background]
    low, high = data.min(), data.max()
    kind = np.int64 if volume.dtype.kind in "iu" else np.float64
    for plane in volume:  # slice by slice, for the memory
        plane[...] = (kind(low) + kind(high) - plane.astype(kind)).astype(volume.dtype)
    if background is not None:
        volume[background] = low
    info["windows"] = [(float(low) + float(high) - center, width, text) for center, width, text in info["windows"]]
    return [f"MONOCHROME1: values turned around, so that high is bright ({low:g} to {high:g})"]
