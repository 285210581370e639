"""What the files of a series tell of its values: windows, units, body weight and dose, as they lie in the headers.

Source: DICOM PS3.3, C.11.2 (VOI LUT module), C.11.1 (modality LUT), C.8.9.1 (PET series).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.dicom.elements import Elements
from clinicalfmamba_nets.io.dicom.header import Slice, quiet_pydicom
from clinicalfmamba_nets.io.dicom.suv import Acquisition, acquisition_of, suv_factor
from clinicalfmamba_nets.io.files import printable
from clinicalfmamba_nets.io.raw import refuse_damaged

Window = tuple[float, float, str]
_UNITS = {"BQML": "Bq/ml", "CNTS": "counts", "GML": "g/ml", "PROPCNTS": "counts", "PROPCPS": "counts"}
# What must be the same in all slices of a PET for one factor to its SUV.
_ALIKE = {
    "Units": "(0054,1001)",
    "SUVType": "(0054,1006)",
    "DecayCorrection": "(0054,1102)",
    "PatientWeight": "(0010,1030)",
}
# The same of what was given, in the first item of RadiopharmaceuticalInformationSequence.
_GIVEN = {
    "RadionuclideTotalDose": "(0018,1074)",
    "RadionuclideHalfLife": "(0018,1075)",
    "RadiopharmaceuticalStartTime": "(0018,1072)",
    "RadiopharmaceuticalStartDateTime": "(0018,1078)",
}
_BROKEN = "\ufffd"
# Of Philips, by group, creator and element: what gives the signal, times RescaleSlope, as divisor of displayed values.
_SCALE_SLOPE = (0x2005, "Philips MR Imaging DD 001", 0x0E)
_SAME_SCALE = 0.01


class SeriesFacts:
    """Facts of a series, gathered while its files pass by, because no file is kept.

    Args:
        modality: of the series.
        description: of the series, as its header tells it.
    """

    def __init__(self, modality: str, description: str) -> None:
        self.modality = modality
        self.description = description
        self._windows: list[tuple[Window, ...]] = []
        self._scales: set[float] = set()
        self._acquisitions: list[Acquisition] = []
        self._of_slices: dict[str, dict[str, str]] = {keyword: {} for keyword in (*_ALIKE, *_GIVEN)}
        self._first: Any = None
        self._item: Any = None
        self._path: Any = None

    def add(self, dataset: Any, item: Slice) -> None:
        """Note what the file of one slice says; only what is small is kept.

        Raises:
            FusionInputError: a header that is damaged where it is looked at.
        """
        with refuse_damaged(item.path, "DICOM image"), quiet_pydicom():
            self._windows.append(_windows(dataset, item.frame))
            if self._first is None:
                self._first, self._item = _small(dataset), item
            if self.modality == "MR":
                self._scales |= _philips_scale(dataset, item)
            if self.modality == "PT" and item.path != self._path:
                self._acquisitions.append(acquisition_of(dataset))
                given = next(iter(dataset.get("RadiopharmaceuticalInformationSequence") or []), None)
                for keyword, files in self._of_slices.items():
                    holder = given if keyword in _GIVEN else dataset
                    files.setdefault(_word(holder, keyword), printable(item.path.name))
        self._path = item.path

    def as_info(self) -> tuple[dict[str, Any], list[str]]:
        """Return `description`, `windows`, `units`, `suv_factor` and `suv_reason`, and notes.

        Raises:
            FusionInputError: a header that is damaged where it is looked at.
        """
        with refuse_damaged(self._path or "", "DICOM image"), quiet_pydicom():
            return self._info()

    @property
    def warnings(self) -> list[str]:
        """What changes the meaning of the picture: slices of several scales that the rescaled values do not remove."""
        if not self._scales or max(self._scales) <= (1 + _SAME_SCALE) * min(self._scales):
            return []
        share = max(self._scales) / min(self._scales)
        return [
            f"Philips's Scale Slope (2005,100E) differs up to {share:.3g} times from slice to slice and is not used: "
            "brightness may step between slices"
        ]

    def _info(self) -> tuple[dict[str, Any], list[str]]:
        notes: list[str] = []
        description = self.description
        if _BROKEN in str(self._first.get("SeriesDescription") or ""):
            description = ""
            notes.append("SeriesDescription (0008,103E) is no text of its character set: left out")
        windows = self._series_windows(notes)
        factor, reason = None, ""
        if self.modality == "PT":
            self._refuse_units()
            factor, reason = suv_factor(self._first, self._acquisitions)
            unlike = [keyword for keyword, files in self._of_slices.items() if len(files) > 1]
            if unlike:
                factor, reason = None, f"{unlike[0]} {(_ALIKE | _GIVEN)[unlike[0]]} differs from slice to slice"
        units = self._units()
        notes += [*_lossy(self._first), *self._mapped()]
        return {
            "description": description,
            "windows": list(windows),
            "units": units,
            "suv_factor": factor,
            "suv_reason": reason,
        }, notes

    def _refuse_units(self) -> None:
        """Refuse slices of several units, whose values are no one volume."""
        found = [f"{units or 'none'} ({name})" for units, name in self._of_slices["Units"].items()]
        if len(found) > 1:
            expected, remedy = f"one Units {_ALIKE['Units']} of all slices", "export the series again"
            raise input_error(printable(self._path.parent), expected, " and ".join(found[:2]), remedy)

    def _series_windows(self, notes: list[str]) -> tuple[Window, ...]:
        stated = [windows for windows in self._windows if windows]
        if len(set(stated)) > 1:
            notes.append("WindowCenter (0028,1050) differs between slices: the windows of the middle slice are named")
        return stated[len(stated) // 2] if stated else ()

    def _mapped(self) -> list[str]:
        """Tell of a mapping to real-world values (PS3.3 C.7.6.16.2.11) other than the rescaled ones: it is not used."""
        item = self._item
        rescaled = [1.0 if item.slope is None else item.slope], [item.intercept or 0.0]
        places = (*_groups(self._first, item.frame), self._first)
        mappings = [mapping for place in places for mapping in place.get("RealWorldValueMappingSequence") or []]
        stated = [
            (_floats(one.get("RealWorldValueSlope")), _floats(one.get("RealWorldValueIntercept"))) for one in mappings
        ]
        if not mappings or rescaled in stated:
            return []
        codes = [next(iter(mapping.get("MeasurementUnitsCodeSequence") or []), None) for mapping in mappings]
        units = dict.fromkeys(unit for unit in (_word(code, "CodeValue") for code in codes) if unit)
        return [f"a mapping of the stored values to {', '.join(units) or 'other values'} (0040,9096) is not used"]

    def _units(self) -> str:
        units = _word(self._first, "Units")
        if self.modality in ("PT", "NM"):
            return _UNITS.get(units, units) or ("counts" if self.modality == "NM" else "")
        kind = _word(self._first, "RescaleType")
        if self.modality == "CT":
            if kind in ("", "US") and is_windowed(self._first, self._item):
                return ""
            return "HU" if kind in ("", "HU", "US", "HU_MOD") else kind  # HU_MOD: of one energy, computed from two
        return "" if kind in ("", "US") else kind


def is_windowed(header: Any, item: Slice) -> bool:
    """Tell whether a CT holds a picture of 0 to 255 that somebody has windowed, by bits, sign and rescale: no HU.

    Args:
        header: a dataset.
        item: a slice.

    Example:
        >>> from pathlib import Path
        >>> from pydicom.dataset import Dataset
        >>> made = Dataset()
        >>> made.BitsStored, made.PixelRepresentation = 8, 0
        >>> is_windowed(made, Slice(Path("a"))), is_windowed(made, Slice(Path("a"), slope=8.0, intercept=-1024.0))
        (True, False)
    """
    bits, signed = header.get("BitsStored"), header.get("PixelRepresentation")
    plain = item.slope in (None, 1) and not item.intercept
    return isinstance(bits, int) and bits <= 8 and not signed and plain


def _philips_scale(dataset: Any, item: Slice) -> set[float]:
    """Return what rescaled values are divided by to give the signal, in a set; an empty one where it is not told."""
    tag = Elements.of(dataset).private(*_SCALE_SLOPE)
    if tag not in dataset:
        return set()
    found = _floats(dataset[tag].value)
    scale = found[0] * (1.0 if item.slope is None else item.slope) if len(found) == 1 else 0.0
    return {scale} if math.isfinite(scale) and scale > 0 else set()


def _small(dataset: Any) -> Any:
    """Copy the elements that are asked for at the end: not the pixels."""
    from pydicom.dataset import Dataset

    kept = Dataset()
    for tag in list(dataset.keys()):
        if tag != 0x7FE00010:
            kept[tag] = dataset.get_item(tag)  # as raw bytes: most are never looked at
    return kept


def _word(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword) if dataset is not None else None
    return printable(str(value).strip("\0 ")) if value else ""


def _lossy(dataset: Any) -> list[str]:
    """Tell that the pixels were once compressed with loss (PS3.3 C.7.6.1.1.5), and how much."""
    if _word(dataset, "LossyImageCompression") != "01":
        return []
    ratios = _floats(dataset.get("LossyImageCompressionRatio"))
    told = f", {math.prod(ratios):.3g} times smaller" if ratios and all(map(math.isfinite, ratios)) else ""
    return [f"compressed with loss (0028,2110){told}: small contrasts may be gone"]


def _windows(dataset: Any, frame: int) -> tuple[Window, ...]:
    """Return center, width and explanation of each window that is stated for a frame."""
    holder = _voi(dataset, frame)
    centers, widths = _floats(holder.get("WindowCenter")), _floats(holder.get("WindowWidth"))
    texts = _list(holder.get("WindowCenterWidthExplanation"))
    found = []
    for place, (center, width) in enumerate(zip(centers, widths, strict=False)):
        if math.isfinite(center) and math.isfinite(width) and width > 0:
            text = printable(str(texts[place]).strip("\0 ")) if place < len(texts) else ""
            found.append((center, width, "" if _BROKEN in text else text))
    return tuple(found)


def _groups(dataset: Any, frame: int) -> list[Any]:
    """Return the functional groups of a frame and the shared ones, as far as there are any."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    return [*groups[frame : frame + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]]


def _voi(dataset: Any, frame: int) -> Any:
    for group in _groups(dataset, frame):
        items = group.get("FrameVOILUTSequence")
        if items and items[0].get("WindowCenter") not in (None, ""):
            return items[0]
    return dataset


def _list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float | bytes) else list(value)


def _floats(value: Any) -> list[float]:
    """Return numbers; what is none (an empty text between backslashes) becomes NaN, which no window has."""
    found = []
    for item in _list(value):
        try:
            found.append(float(item))
        except (TypeError, ValueError):
            found.append(math.nan)
    return found


def pixel_warnings(overflow: Counter[str], wrapped: Counter[str]) -> list[str]:
    """Tell about pixels that the header describes wrongly.

    Args:
        overflow: how many pixels of each file, by its printable name, use bits above BitsStored.
        wrapped: how many bright ones the header calls negative.
    """
    texts = (
        "BitsStored (0028,0101) is too small for {}: their higher bits are cut off, so that bright pixels may be dark, "
        "until the series is exported with its true bits",
        "PixelRepresentation (0028,0103) gives a sign to {}, which are dark by it among bright ones: it seems wrong; "
        "export the series again",
    )
    warnings = []
    for counts, text in zip((+overflow, +wrapped), texts, strict=True):
        if counts:
            name, _ = counts.most_common(1)[0]
            warnings.append(text.format(f"{sum(counts.values())} pixels (such as in {name})"))
    return warnings
