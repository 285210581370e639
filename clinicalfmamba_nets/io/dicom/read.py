"""DICOM series as volumes: `read_dicom` and `write_dicom` are what `read_image` and `write_image` call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.files import split_selector
from clinicalfmamba_nets.io.dicom.kinds import is_color
from clinicalfmamba_nets.io.dicom.pixels import stored_slices
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.dicom.study import open_study
from clinicalfmamba_nets.io.dicom.write import write_dicom
from clinicalfmamba_nets.io.files import PathLike, check_memory

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
        `modality` and `frame_of_reference`.

    Raises:
        FusionInputError: nothing that is one volume, or it cannot be decoded; the message names the file and the tag.
    """
    selector = "" if _is_list(path) else split_selector(path)[1]  # type: ignore[arg-type]
    study = open_study(path)
    chosen = study.choose(series or selector)
    array, info = read_series(chosen)
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
    check_memory(header.path, int(np.prod(shape, dtype=np.int64)) * (kind.itemsize + 12))
    volume = np.empty(shape[::-1] if not color else (*shape[2::-1], 3), dtype=kind)  # (slices, rows, columns)
    padded: list[tuple[int, np.ndarray]] = []
    for place, stored in enumerate(stored_slices(series.slices, series.headers)):
        mask = _padding(stored, series.headers[series.slices[place].path])
        padded += [(place, mask)] if mask is not None else []
        volume[place] = _rescaled(stored, series.slices[place], color).astype(kind)
    notes = [*series.notes, *_fill_padding(volume, padded)]
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
        "description": series.description,
        "warnings": list(series.warnings),
        "frame_of_reference": header.frame_of_reference,
        "patient": header.patient,
        "notes": notes,
    }


def _scale(slices: list[Any]) -> set[tuple[float, float]]:
    return {(1.0 if item.slope is None else item.slope, item.intercept or 0.0) for item in slices}


def _result_type(series: Series) -> np.dtype:
    """Return the smallest integer type for values whose slope is 1, float32 for others."""
    scales = _scale(series.slices)
    if any(slope != 1 or intercept != int(intercept) for slope, intercept in scales):
        return np.dtype(np.float32)
    bits, signed = series.header.bits_stored, series.header.signed
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    least, most = low + min(item[1] for item in scales), high + max(item[1] for item in scales)
    fitting = [
        kind for kind in ("int16", "uint16", "int32") if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max
    ]
    return np.dtype(fitting[0] if fitting else np.float32)


def _rescaled(stored: np.ndarray, item: Any, color: bool) -> np.ndarray:
    slope, intercept = (1.0 if item.slope is None else item.slope), item.intercept or 0.0
    if color or (slope == 1 and intercept == 0):
        return stored
    wide = np.int64 if slope == 1 and intercept == int(intercept) and stored.dtype.kind in "iu" else np.float64
    return stored.astype(wide) * wide(slope) + wide(intercept)


def _padding(stored: np.ndarray, header: Any) -> np.ndarray | None:
    """Mark pixels that stand for "no data" (PixelPaddingValue), such as corners around a round field of view."""
    if header.padding is None or header.samples == 3:
        return None
    mask = (stored >= header.padding[0]) & (stored <= header.padding[1])
    return np.packbits(mask) if mask.any() else None


def _fill_padding(volume: np.ndarray, padded: list[tuple[int, np.ndarray]]) -> list[str]:
    """Give padding the smallest value of the image itself, so that it does not stretch the range."""
    if not padded:
        return []
    shape, size = volume[0].shape, volume[0].size
    masks = {place: np.unpackbits(mask, count=size).astype(bool).reshape(shape) for place, mask in padded}
    least = [volume[place][~masks[place]] if place in masks else volume[place] for place in range(len(volume))]
    lowest = min((part.min() for part in least if part.size), default=None)
    if lowest is None:
        return []
    changed = 0
    for place, mask in masks.items():
        changed += int((volume[place][mask] != lowest).sum())
        volume[place][mask] = lowest
    return [f"PixelPaddingValue (0028,0120): {changed} voxels without data set to {lowest:g}"] if changed else []
