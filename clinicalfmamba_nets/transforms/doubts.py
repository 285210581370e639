"""Values that speak against what they are taken for: warnings, because the range that is chosen hides tissue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from clinicalfmamba_nets.functional.ranges import value_text

_RAW_CT = (1500.0, 8191.0)  # span of stored values from air to bone or metal
_AIR = (-1100.0, -900.0)  # HU
_AIR_SHARE, _BONE = 0.05, 300.0
_DARK_WINDOW = 0.6  # greatest value of a CT that is neither HU nor a picture from 0 to 1
_SATURATED = 0.6  # of the head: more is bone and air in no slab of a head


def doubts(
    sample: Tensor, head: Tensor, ends: tuple[float, float], source: Mapping[str, Any], modality: str, kind: str
) -> list[str]:
    """Tell where the values of a source speak against the range that was chosen for it.

    Args:
        sample: (N,) some of its values.
        head: (N,) bool, which of them show the first image's head.
        ends: the values that become 0 and 1.
        source: an entry of `meta["sources"]`.
        modality: what it is taken as: "CT", "MR", "PT", "NM" or "".
        kind: how its range was chosen: "hu" (the brain window), "plain" (least to greatest value) or "robust"
            (percentiles).
    """
    low, high = float(sample.min()), float(sample.max())
    told = f"values of {value_text(low)} to {value_text(high)}"
    if modality == "CT":
        if kind == "hu":
            return _saturated(sample[head] if bool(head.any()) else sample, ends)
        return _no_hu(low, high, told, source, kind)
    named = bool(source.get("modality")) or modality not in ("MR", "") or kind != "robust"
    air = _AIR[0] <= low <= _AIR[1] and float((sample <= _AIR[1]).float().mean()) >= _AIR_SHARE
    if named or not air or high < _BONE:
        return []
    return [f"{told} look like a CT in HU, but are taken for no CT: check order and task, or name a window"]


def _saturated(inside: Tensor, ends: tuple[float, float]) -> list[str]:
    for share, side in (((inside > ends[1]).float().mean(), "above"), ((inside < ends[0]).float().mean(), "below")):
        if float(share) > _SATURATED:
            what = f"{100 * float(share):.0f} % of the head lies {side} the window"
            return [f"{what}: its values are no HU, or it shows no brain; name a window by its values"]
    return []


def _no_hu(low: float, high: float, told: str, source: Mapping[str, Any], kind: str) -> list[str]:
    """Warn of a CT that spans air to bone in values that are no HU: soft tissue is flat without its window."""
    flat = f"{told} are no HU: soft tissue is flat without its window"
    if kind == "plain":
        faint = str(source.get("dtype") or "").startswith("float") and 0 < high <= _DARK_WINDOW
        return [f"{flat}; convert them to HU, or name a window in its values"] if faint else []
    if source.get("units") == "HU" or high - low < _RAW_CT[0]:
        return []
    if low < 0:
        return [f"{flat}; scale them, or name a window in its values"]
    if high - low > _RAW_CT[1]:  # a picture of 16 bits
        return []
    return [f"{flat}; subtract the offset of air (often 1024), or name a window in its values"]
