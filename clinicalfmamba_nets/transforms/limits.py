"""Which range of a source the network sees: by what is asked, by modality, by what the file says, by the values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.ranges import value_text
from clinicalfmamba_nets.functional.voi import (
    BONE_ABOVE,
    HEAD_CURVE,
    SOFT_TISSUE,
    VOI,
    WINDOWS,
    apply_curve,
    background_value,
    linear_knots,
    parse_voi,
    percentile,
)
from clinicalfmamba_nets.transforms.doubts import doubts, flattened, inverted, is_ct_in_hu, labels

# A background is the value that all corners of an image share; interpolation undershoots it in at most this share of
# the voxels that are not background.
UNDERSHOOT_SHARE = 0.02
LEAST_HU = -1024.0  # what lies below is no tissue and no air: a filler outside the field of view
_HU_MINIMUM = (-4100.0, -500.0)
_SOFT_TISSUE = 150.0  # greatest median of a head in HU, air left out
_FILLED = 0.35  # share of the greatest value that the 99.5 percentile has: 0.4 to 0.95 in real images without a spike
_OUTSHONE = 0.12  # share of the range that the 95 percentile of PET or SPECT in a head has: .8 as a rule, .06 by glands
_FAINT = 0.05  # of the brightest hundredth: what is darker counts as background
_PLAIN = ("uint8", "int8", "bool")
_MR_TOP, _FUNCTIONAL_TOP = 99.5, 99.9
_MODALITIES = {"ct": "CT", "pet": "PT", "spect": "NM", "generic": ""}  # by the first word of a task; others are MR


@dataclass
class Limits:
    """Which values of a source become 0 and 1.

    Attributes:
        knots: (4, 2) of value and result in [0, 1], float64.
        name: of the window, such as "brain 40/80".
        unit: "HU", "SUVbw", "counts" or "".
        factor: what a value is multiplied by to have the unit.
        text: all of it in words, for notes, captions and records.
        modality: "CT", "MR", "PT", "NM" or "".
        hides: whether a window that was asked for turns most of the head white or black.
        notes: further facts.
        warnings: what changes the meaning of the picture.
    """

    knots: Tensor
    name: str
    unit: str = ""
    factor: float = 1.0
    text: str = ""
    modality: str = ""
    hides: bool = False
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def ends(self) -> tuple[float, float]:
        """Least and greatest value that are told apart."""
        return float(self.knots[0, 0]), float(self.knots[-1, 0])

    @property
    def tissues(self) -> list[float]:
        """What soft tissue, or the least value above it, and bone of a CT in HU become; 0 and 1 of other images."""
        low, high = self.ends
        named = self.name.removeprefix("window ").split()[0] in WINDOWS or self.name == "curve head"  # they count in HU
        if self.modality != "CT" or not (named or self.unit == "HU") or not low < high:
            return [0.0, 1.0]
        soft = max(low, SOFT_TISSUE)
        return apply_curve(torch.tensor([soft, soft + BONE_ABOVE], dtype=torch.float64), self.knots).tolist()

    def facts(self) -> dict[str, Any]:
        """Return what was chosen as plain values, the limits in the unit that is told."""
        low, high = (limit * self.factor for limit in self.ends)
        return {"modality": self.modality, "window": self.name, "low": low, "high": high, "unit": self.unit}


def source_modality(source: Mapping[str, Any], channel: int, task: str | None = None) -> str:
    """Return DICOM's word for what a source is: of its header, else of the task; "MR" for the first image by default.

    Of the first image, and where the task tells nothing of the second, the name of the file may tell that it is a CT.

    Args:
        source: an entry of `meta["sources"]`; keys `modality` and `path` count.
        channel: 0 or 1.
        task: such as "ct_mri".

    Returns:
        "CT", "MR", "PT" or "NM", "" where nothing tells.

    Example:
        >>> source_modality({"modality": "PT"}, 1), source_modality({}, 1, "spect_mri"), source_modality({}, 0)
        ('PT', 'NM', 'MR')
    """
    stated = str(source.get("modality") or "")
    if stated in ("CT", "MR", "PT", "NM"):
        return stated
    if channel == 0:
        return "CT" if _named_ct(source) else "MR"
    first = (task or "").split("_")[0]
    told = _MODALITIES.get(first, "MR" if first else "")
    return told or ("CT" if _named_ct(source) else "")


def _named_ct(source: Mapping[str, Any]) -> bool:
    name = re.split(r"[\\/]", str(source.get("path") or source.get("name") or ""))[-1]
    return "ct" in re.split(r"[^a-z]+", name.lower())


def shown(values: Tensor) -> Tensor:
    """Mark the values of a sample that are not background: above a twentieth of the brightest hundredth.

    Args:
        values: (N,), finite.

    Returns:
        (N,) bool; all values where none stands out.
    """
    dark = percentile(values, 0.5)
    top = percentile(values, 99.5)
    found = values > dark + _FAINT * (top - dark)
    return found if bool(found.any()) else torch.ones_like(found)


def looks_like_hu(sample: Tensor, source: Mapping[str, Any]) -> bool:
    """Tell whether values can be Hounsfield units: air in them, clipped too, or a head whose median is of soft tissue.

    Args:
        sample: (N,) values of the image.
        source: as in `source_modality`.
    """
    usable = sample[sample >= _HU_MINIMUM[0]]
    if usable.numel() and _HU_MINIMUM[0] <= float(usable.min()) <= _HU_MINIMUM[1]:
        return True
    if is_ct_in_hu(sample):
        return True
    if source.get("modality") != "CT" and not _named_ct(source):
        return False
    inside = sample[sample > sample.min()]
    return (
        bool(inside.numel()) and abs(float(inside.median())) <= _SOFT_TISSUE and float(inside.max()) > 2 * _SOFT_TISSUE
    )


def choose_limits(
    channel: Tensor,
    sample: Tensor,
    head: Tensor,
    asked: str = "auto",
    source: Mapping[str, Any] | None = None,
    modality: str = "",
    clip_undershoot: bool = False,
) -> Limits:
    """Choose the range of one source.

    Args:
        channel: (*spatial), finite.
        sample: (N,) some of its values.
        head: (N,) bool, which of them show the first image's head.
        asked: see `functional.voi.parse_voi`.
        source: an entry of `meta["sources"]`.
        modality: see `source_modality`.
        clip_undershoot: for a range from least to greatest value, take the few values below the background as it.

    Raises:
        FusionInputError: `asked` cannot be read, or asks for a header's window where there is none.
    """
    source = source or {}
    name = str(source.get("name") or "image")
    try:
        voi = parse_voi(asked)
    except ValueError as error:
        raise input_error("window", str(error), repr(asked), "choose one of these") from None
    factor = source.get("suv_factor") or None
    hu = modality == "CT" and source.get("units") in (None, "", "HU") and looks_like_hu(sample, source)
    unit = "HU" if hu or (modality == "CT" and source.get("units") == "HU") else str(source.get("units") or "")
    if modality == "PT" and factor and voi.unit != "counts" and voi.kind != "counts":
        unit = "SUVbw"
    else:
        factor = None
    limits = _chosen(
        channel,
        sample,
        head,
        voi,
        source=source,
        modality=modality,
        hu=hu,
        clip_undershoot=clip_undershoot,
        factor=factor,
        name=name,
    )
    if voi.kind in ("window", "range", "header"):
        hidden = flattened(sample, head, limits.ends, modality, factor or 1.0)
        limits.hides = bool(hidden)
        limits.warnings += hidden
    limits.unit, limits.factor, limits.modality = unit, factor or 1.0, modality
    _tell_suv(limits, voi, source, modality, factor)
    low, high = limits.ends
    if not high > low:
        limits.knots = linear_knots(low, low)
    return limits


def _chosen(
    channel: Tensor,
    sample: Tensor,
    head: Tensor,
    voi: VOI,
    *,
    source: Mapping[str, Any],
    modality: str,
    hu: bool,
    clip_undershoot: bool,
    factor: float | None,
    name: str,
) -> Limits:
    if voi.kind == "window":
        return Limits(linear_knots(voi.low, voi.high), f"window {voi.name}")
    if voi.kind == "head":
        return Limits(torch.tensor(HEAD_CURVE, dtype=torch.float64), "curve head")
    if voi.kind == "range" and not (voi.unit == "SUVbw" and factor is None):
        scale = factor or 1.0
        return Limits(linear_knots(voi.low / scale, voi.high / scale), "range")
    if voi.kind == "header":
        return _header_window(source.get("windows") or [], name)
    if voi.kind == "percentiles":
        usable = sample[sample >= LEAST_HU] if hu else sample
        inside = usable[shown(usable)]
        return Limits(
            linear_knots(percentile(inside, voi.low), percentile(inside, voi.high)), f"percentiles {voi.name}"
        )
    plain = str(source.get("dtype") or "") in _PLAIN or _is_windowed(channel, sample, modality)
    if voi.kind == "minmax":
        return _least_to_greatest(channel, clip_undershoot, hu)
    if hu:
        limits, kind = _brain_window(source.get("windows") or []), "hu"
    elif plain and voi.kind == "auto":
        limits, kind = _least_to_greatest(channel, clip_undershoot, hu), "plain"
    else:
        limits, kind = _robust(channel, sample, head, modality, name), "robust"
    found = labels(channel, sample) or doubts(sample, head, limits.ends, source, modality, kind)
    if not found and kind != "hu":
        picture = kind == "plain"
        found = _hidden(channel, sample, modality) if picture else _outshone(sample, head, limits.ends, modality)
    limits.warnings += found or inverted(channel, limits.ends)
    return limits


def _is_windowed(channel: Tensor, sample: Tensor, modality: str) -> bool:
    """Tell whether values lie in [0, 1] as those of a picture do: no spike above all others hides the rest of it."""
    inside = float(sample.min()) >= 0 and float(sample.max()) <= 1
    return inside and (modality == "CT" or _bright_share(channel, sample) >= _FILLED)


def _bright_share(channel: Tensor, sample: Tensor) -> float:
    """Return which share of the greatest value the 99.5 percentile of what is not background has."""
    return percentile(sample[shown(sample)], _MR_TOP) / max(float(channel.amax()), 1e-30)


def _hidden(channel: Tensor, sample: Tensor, modality: str) -> list[str]:
    """Warn of a picture whose few brightest pixels leave the rest dark, as an MR scaled to 8 bits by a spike."""
    share = _bright_share(channel, sample)
    if modality == "CT" or not 0 < share < _FILLED:
        return []
    told = f"99.5 % of what it shows lies below {100 * share:.0f} % of its greatest value"
    return [f"{told}: dark beside the other image; name a window in its values, such as p1/p99"]


def _outshone(sample: Tensor, head: Tensor, ends: tuple[float, float], modality: str) -> list[str]:
    """Warn of PET or SPECT in which a few voxels, as of glands, take up so much that the rest of the head is dark."""
    if modality not in ("PT", "NM") or not bool(head.any()) or not ends[1] > ends[0]:
        return []
    share = (percentile(sample[head], 95) - ends[0]) / (ends[1] - ends[0])
    if not 0 < share < _OUTSHONE:
        return []
    told = f"95 % of the head lies below {100 * share:.0f} % of the range that its greatest uptake asks for"
    return [f"{told}: dark beside the other image; name a window in its values or in SUV"]


def _brain_window(windows: Sequence[Any]) -> Limits:
    voi = parse_voi("brain")
    limits = Limits(linear_knots(voi.low, voi.high), f"window {voi.name}")
    named = [(float(item[0]), float(item[1])) for item in windows]
    if any(item != WINDOWS["brain"] for item in named):
        told = ", ".join(f"{center:g}/{width:g}" for center, width in named)
        limits.notes.append(f"its header names the window{'s' * (len(named) > 1)} {told}, not used unless asked for")
    return limits


def _header_window(windows: Sequence[Any], name: str) -> Limits:
    if not windows:
        raise input_error(name, "a window in its header (0028,1050)", "none", "name one, such as 40/80")
    center, width, *words = windows[0]
    told = f"window of the header {float(center):g}/{float(width):g}"
    others = [f"{float(item[0]):g}/{float(item[1]):g}" for item in windows[1:]]
    limits = Limits(linear_knots(float(center) - float(width) / 2, float(center) + float(width) / 2), told)
    if others:
        limits.notes.append(f"its header names further windows: {', '.join(others)}")
    return limits


def _least_to_greatest(channel: Tensor, clip_undershoot: bool, hu: bool) -> Limits:
    low, high = float(channel.amin()), float(channel.amax())
    limits = Limits(linear_knots(low, high), "least to greatest value")
    if hu and low < LEAST_HU:
        above = channel[channel >= LEAST_HU]
        low = float(above.amin()) if above.numel() else low
        limits.notes.append(f"values below {LEAST_HU:g} HU taken as background")
    elif clip_undershoot:
        background, share = background_value(channel)
        if background is not None and background > low and share <= UNDERSHOOT_SHARE:
            low = background
            limits.notes.append(f"values below the background {background:g} taken as background")
    limits.knots = linear_knots(low, high)
    return limits


def _robust(channel: Tensor, sample: Tensor, head: Tensor, modality: str, name: str) -> Limits:
    """Background to a high percentile: a spike, a vessel or a burnt-in mark does not set the range."""
    background, share = background_value(channel)
    low = background if background is not None and share <= UNDERSHOOT_SHARE else percentile(sample, 0.5)
    functional = modality in ("PT", "NM")
    if functional:
        low = 0.0 if float(sample.min()) >= 0 or low <= 0 else low
    percent = _MR_TOP if modality in ("MR", "") else _FUNCTIONAL_TOP
    inside = sample[head] if functional and bool(head.any()) else sample[shown(sample)]
    high = percentile(inside, percent)
    if not high > low:
        high = float(channel.amax())
    where = "of the head" if functional else "without the background"
    return Limits(linear_knots(low, high), f"{percent:g} percentile {where}")


def _tell_suv(limits: Limits, voi: VOI, source: Mapping[str, Any], modality: str, factor: float | None) -> None:
    asked = voi.kind == "suv" or voi.unit == "SUVbw"
    if factor or voi.unit == "counts" or voi.kind == "counts" or (modality != "PT" and not asked):
        return
    reason = str(source.get("suv_reason") or "") if modality == "PT" else f"{modality or 'it'} is no PET"
    if asked:
        limits.warnings.append(f"no SUV: {reason or 'the file does not tell what it needs'}, its own values instead")
    elif reason:
        limits.notes.append(f"no SUV: {reason}")


def range_text(limits: Limits, sample: Tensor, head: Tensor, source: Mapping[str, Any]) -> str:
    """Return a range in words, for notes, captions and records.

    Args:
        limits: the range.
        sample: as in `choose_limits`.
        head: as in `choose_limits`.
        source: an entry of `meta["sources"]`.
    """
    low, high = (limit * limits.factor for limit in limits.ends)
    unit = f" {limits.unit}" if limits.unit else ""
    words = (
        f"{limits.name}{unit}" if limits.name.startswith("window") else f"{value_text(low)} to {value_text(high)}{unit}"
    )
    if not limits.name.startswith(("window", "range")):
        words = f"{words} ({limits.name})"
    inside = sample[head] if bool(head.any()) else sample
    above = 100 * float((inside > limits.ends[1]).float().mean())
    if limits.name.startswith(("window", "range")):
        words += f", {above:.{0 if above >= 1 else 1}f} % of the head above it"
    known = limits.unit == "HU" or source.get("modality")
    return f"{limits.modality}: {words}" if known and limits.modality else words
