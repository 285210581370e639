"""Standardized uptake of a PET series: the factor from its stored units to SUV by body weight, or why there is none.

Source: QIBA, "Vendor-neutral pseudo-code for SUV calculation" (SUVbw); DICOM PS3.3, C.8.9.1 and C.8.9.4 (PET series
and image), C.8.9.2 (PET isotope).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from clinicalfmamba_nets.io.files import printable

_WEIGHT = (0.3, 500.0)  # kg
_DOSE = (1e6, 1e12)  # Bq: less is a dose in MBq, kBq or uCi, which the tag does not hold
_HALF_LIFE = (10.0, 1e8)  # s
_DECAYS_AT_MOST = 10.0  # half-lives between injection and scan: a thousandth of the dose is left
# Name, symbol, mass number and half-life in s of what is given for PET.
_NUCLIDES = (
    ("fluorine", "f", 18, 6586.2),
    ("carbon", "c", 11, 1221.7),
    ("nitrogen", "n", 13, 597.9),
    ("oxygen", "o", 15, 122.2),
    ("gallium", "ga", 68, 4062.6),
    ("copper", "cu", 64, 45723.0),
    ("rubidium", "rb", 82, 76.4),
    ("zirconium", "zr", 89, 282276.0),
    ("iodine", "i", 124, 360806.0),
)
_ALIKE = 0.02
_PHILIPS = 0x70530010
_GE = 0x00090010


class _NoSuv(Exception):
    """Why there is no SUV, naming the tag."""


@dataclass(frozen=True)
class Acquisition:
    """When a slice was acquired, and what is needed to find the start of the scan from it (seconds)."""

    start: datetime | None = None
    reference: float | None = None
    duration: float | None = None


def acquisition_of(dataset: Any) -> Acquisition:
    """Take the times of one slice from its dataset; what is absent or no number is None."""
    reference, duration = (_float(dataset.get(name)) for name in ("FrameReferenceTime", "ActualFrameDuration"))
    return Acquisition(
        _moment(dataset, "Acquisition"),
        None if reference is None else reference / 1000,
        None if duration is None else duration / 1000,
    )


def suv_factor(dataset: Any, acquisitions: Sequence[Acquisition] = ()) -> tuple[float | None, str]:
    """Return what the values of a PET series are multiplied with to give SUVbw (g/ml).

    Args:
        dataset: header of one slice.
        acquisitions: times of all slices; those of `dataset` alone where none are given.

    Returns:
        The factor and ""; or None and the reason, which names the tag.

    Example:
        >>> from pydicom.dataset import Dataset
        >>> made = Dataset()
        >>> made.Units = "GML"
        >>> suv_factor(made)
        (1.0, '')
    """
    try:
        return _factor(dataset, acquisitions or [acquisition_of(dataset)]), ""
    except _NoSuv as reason:
        return None, str(reason)


def _factor(dataset: Any, acquisitions: Sequence[Acquisition]) -> float:
    units = str(dataset.get("Units") or "").strip()
    if units == "GML":
        kind = str(dataset.get("SUVType") or "BW").strip()
        if kind != "BW":
            raise _NoSuv(f"SUVType (0054,1006) is {printable(kind)}, not BW")
        return 1.0
    if units == "CNTS":
        direct, activity = _philips(dataset)
        if direct:
            return direct
        if not activity:
            raise _NoSuv("Units (0054,1001) is CNTS, without a factor in (7053,xx00) or (7053,xx09)")
        return activity * _per_becquerel(dataset, acquisitions)
    if units != "BQML":
        raise _NoSuv(f"Units (0054,1001) is {printable(units) or 'absent'}, not BQML")
    return _per_becquerel(dataset, acquisitions)


def _philips(dataset: Any) -> tuple[float | None, float | None]:
    """Return the factors of Philips: counts to SUV, and counts to Bq/ml."""
    block = _private(dataset, 0x7053, "Philips PET Private Group")
    found = [_float(_value(dataset, block | element)) for element in (0x00, 0x09)]
    direct, activity = (value if value and value > 0 and math.isfinite(value) else None for value in found)
    return direct, activity


def _private(dataset: Any, group: int, creator: str) -> int:
    """Return the first tag of a private block; the usual place where its creator is not named."""
    for block in range(0x10, 0x100):
        if str(_value(dataset, (group << 16) | block) or "").strip().upper() == creator.upper():
            return (group << 16) | (block << 8)
    return (group << 16) | 0x1000


def _value(dataset: Any, tag: int) -> Any:
    value = dataset[tag].value if tag in dataset else None
    return value.decode("ascii", "ignore") if isinstance(value, bytes) else value


def _per_becquerel(dataset: Any, acquisitions: Sequence[Acquisition]) -> float:
    """Return weight over the dose that is left at the time to which the pixels are decay-corrected."""
    corrections = dataset.get("CorrectedImage") or []
    corrections = [corrections] if isinstance(corrections, str) else [str(word) for word in corrections]
    for word in ("ATTN", "DECY"):
        if word not in corrections:
            raise _NoSuv(f"CorrectedImage (0028,0051) does not hold {word}")
    weight = _within(dataset, "PatientWeight", "PatientWeight (0010,1030)", _WEIGHT, "kg")
    items = dataset.get("RadiopharmaceuticalInformationSequence") or []
    if len(items) != 1:
        raise _NoSuv(f"RadiopharmaceuticalInformationSequence (0054,0016) has {len(items)} items, not one")
    dose = _within(items[0], "RadionuclideTotalDose", "RadionuclideTotalDose (0018,1074)", _DOSE, "Bq")
    kind = str(dataset.get("DecayCorrection") or "").strip()
    if kind == "ADMIN":
        return weight * 1000 / dose
    if kind != "START":
        raise _NoSuv(f"DecayCorrection (0054,1102) is {printable(kind) or 'absent'}, neither START nor ADMIN")
    half_life = _within(items[0], "RadionuclideHalfLife", "RadionuclideHalfLife (0018,1075)", _HALF_LIFE, "s")
    _check_nuclide(items[0], half_life)
    elapsed = _elapsed(items[0], _scan_start(dataset, acquisitions, half_life), dataset)
    if not 0 <= elapsed <= _DECAYS_AT_MOST * half_life:
        what = f"{elapsed:.0f} s before the scan, at a half-life of {half_life:.0f} s"
        raise _NoSuv(f"RadiopharmaceuticalStartTime (0018,1072 or 1078) lies {what}")
    return weight * 1000 / (dose * 2 ** (-elapsed / half_life))


def _check_nuclide(item: Any, half_life: float) -> None:
    """Refuse a half-life that is not that of the radionuclide that the header names, such as "^18^Fluorine"."""
    codes = item.get("RadionuclideCodeSequence") or []
    words = " ".join(str(code.get("CodeMeaning") or "") for code in codes).lower()
    for name, symbol, mass, seconds in _NUCLIDES:
        named = re.search(rf"(?<!\d){mass}(?!\d)", words) and re.search(rf"\b({name}|{symbol})\b", words)
        if named and abs(half_life - seconds) > _ALIKE * seconds:
            told = f"RadionuclideHalfLife (0018,1075) is {half_life:g} s, not the {seconds:g} s of {name}-{mass}"
            raise _NoSuv(told)


def _within(dataset: Any, keyword: str, name: str, limits: tuple[float, float], unit: str) -> float:
    value = _float(dataset.get(keyword))
    if value is None or not limits[0] <= value <= limits[1]:
        raise _NoSuv(f"{name} is {'absent' if value is None else f'{value:g} {unit}'}")
    return value


def _scan_start(dataset: Any, acquisitions: Sequence[Acquisition], half_life: float) -> datetime:
    """Return the time to which the pixels are corrected: that of the series unless it was made after the scan."""
    known = sorted((item for item in acquisitions if item.start), key=lambda item: item.start or datetime.max)
    series = _moment(dataset, "Series")
    if series and (not known or series <= known[0].start):  # type: ignore[operator]
        return series
    own = _parsed(str(_value(dataset, _private(dataset, 0x0009, "GEMS_PETD_01") | 0x0D) or ""))
    if own and _value(dataset, _GE) is not None:
        return own
    if not known:
        raise _NoSuv("SeriesDate, SeriesTime (0008,0021 and 0031), AcquisitionDate and AcquisitionTime are absent")
    first = known[0]
    assert first.start is not None
    if not first.reference or not first.duration or first.reference < 0 or first.duration < 0:
        return first.start
    decay = math.log(2) / half_life
    share = decay * first.duration
    average = math.log(share / -math.expm1(-share)) / decay
    return first.start + timedelta(seconds=average - first.reference)


def _elapsed(item: Any, scan: datetime, dataset: Any) -> float:
    """Return the seconds from injection to scan; a time without a date may lie on the day before."""
    injected = _parsed(str(item.get("RadiopharmaceuticalStartDateTime") or ""), dataset)
    if injected:
        return (scan - injected).total_seconds()
    text = str(item.get("RadiopharmaceuticalStartTime") or "").strip()
    injected = _parsed(f"{scan:%Y%m%d}{text}") if text else None
    if injected is None:
        raise _NoSuv("RadiopharmaceuticalStartTime (0018,1072) is absent or no time")
    if injected > scan:
        injected -= timedelta(days=1)
    return (scan - injected).total_seconds()


def _moment(dataset: Any, prefix: str) -> datetime | None:
    day, time = (str(dataset.get(f"{prefix}{end}") or "").strip() for end in ("Date", "Time"))
    return _parsed(day + time) if day and time else None


def _parsed(text: str, dataset: Any = None) -> datetime | None:
    """Read a date and time of DICOM, down to its fraction of a second; None for what is none.

    An offset from UTC moves the time to that of the file's other times, where the file tells theirs.
    """
    text = text.strip("\0 ").replace(":", "")
    sign = next((mark for mark in "+-" if mark in text), "")
    text, _, offset = text.partition(sign) if sign else (text, "", "")
    whole, _, fraction = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and len(whole) in (10, 12, 14) and (fraction or "0").isdigit()):
        return None
    try:
        found = datetime.strptime(whole.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    found += timedelta(seconds=float(f"0.{fraction or 0}"))
    there = str(dataset.get("TimezoneOffsetFromUTC") or "").strip() if dataset is not None else ""
    if offset and there:
        found += _offset(there) - _offset(sign + offset)
    return found


def _offset(text: str) -> timedelta:
    digits = text.lstrip("+-")
    if len(digits) != 4 or not digits.isdigit():
        return timedelta(0)
    size = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -size if text.startswith("-") else size


def _float(value: Any) -> float | None:
    try:
        found = None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None
    return found if found is not None and math.isfinite(found) else None
