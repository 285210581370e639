"""Values that speak against what they are taken for: warnings, because the range that is chosen hides tissue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.functional.ranges import value_text
from clinicalfmamba_nets.functional.voi import percentile

_RAW_CT = (1500.0, 8191.0)  # span of stored values from air to bone or metal
_AIR = (-1100.0, -900.0)  # HU
_AIR_SHARE, _BONE = 0.05, 300.0
_FLOOR, _ROUND = (-600.0, -50.0), 10.0  # HU that air and fat were clipped to, and what it is a multiple of
_SOFT, _SOFT_SHARE = 150.0, 0.5  # HU on both sides of water, and the share of what is no air that lies there
_OFFSET, _SOFT_HU = 1024.0, 50.0  # of stored values; HU within which the middle half of soft tissue lies
_SOFT_SPREAD = 0.005  # of the range from air to bone: the middle half of soft tissue lies within
_DARK_WINDOW = 0.6  # greatest value of a CT that is neither HU nor a picture from 0 to 1
# Labels: at most so many values, whole numbers, and most neighbors of one region alike. Few of them lie close together
# from 0 on, as no gray levels do; many jump from region to region, as no slope does, and the last of them is not the
# usual one, as white is.
_MASKS = ((0.0, 1.0), (0.0, 255.0))
_FEW, _MOST, _LEVELS = 24, 128, 2
_ALIKE, _MORE_ALIKE, _JUMP, _WHITE = 0.7, 0.82, 3.0, 0.3
_THIN = 2**16  # values that are looked at first
_WRAPPED, _UPPER_SHARE = (8192.0, 60000.0), 0.01  # values, and the share of those that were negative
_WHITEST = 65535.0
_BRIGHT, _WHITE_BORDER = 0.9, 0.9  # of the range, and the share of the border that is above
# A picture of a CT in a wide window: bone is grey, so little of what is not black is near white, and soft tissue is
# flat, so the brightest twentieth of the rest lies many spreads above its middle. Where the skull is white, or taken
# off, one of the two does not hold (`python -m benchmarks.grey_bone`).
_BLACK, _NEAR_WHITE, _WHITE_SHARE = 0.02, 0.9, 0.05  # of the range, of the range, of what is not black
_SPREADS, _LEVEL, _FEWEST = 5.0, 2 / 255, 400  # from the middle to the brightest twentieth; least spread; values
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
    if _is_wrapped(sample, high):
        return [f"{told}, and none in the middle: negative values were read without their sign; save them as signed"]
    if modality == "CT":
        if kind == "hu":
            return _saturated(sample[head] if bool(head.any()) else sample, ends)
        return _no_hu(sample, told, source, kind)
    named = bool(source.get("modality")) or modality not in ("MR", "") or kind != "robust"
    if named:
        return []
    if holds_air_and_bone(sample):
        return [f"{told} look like a CT in HU, but are taken for no CT: check order and task, or name a window"]
    if _is_ct_with_offset(sample):
        remedy = "subtract the offset of air (often 1024), check order and task"
        return [f"{told} look like a CT in HU plus an offset, but are taken for no CT: {remedy}"]
    return []


def holds_air_and_bone(sample: Tensor) -> bool:
    """Tell whether values are those of a CT in HU: a twentieth or more of air, nothing below it but a filler, and bone.

    Args:
        sample: (N,) values of an image; NaN counts as filler.

    Example:
        >>> holds_air_and_bone(torch.tensor([-3024.0, -1000.0, 40.0, 900.0]))
        True
    """
    sample = _without_filler(sample)
    if not sample.numel():
        return False
    air = _AIR[0] <= float(sample.min()) <= _AIR[1] and float((sample <= _AIR[1]).float().mean()) >= _AIR_SHARE
    return air and float(sample.max()) >= _BONE


def is_ct_in_hu(sample: Tensor) -> bool:
    """Tell whether values can be of nothing but a CT in HU: most of what is no air is soft tissue besides.

    An MR that was scaled to -1000 to 1000, or a map of frequencies, has air and bone too. Where air is clipped, as to
    -200, soft tissue must lie closer together than that of an MR less a constant.

    Args:
        sample: as in `holds_air_and_bone`.

    Example:
        >>> air = torch.full((9,), -1000.0)
        >>> is_ct_in_hu(torch.cat([air, torch.tensor([-80, 20, 30, 40, 900.0])]))
        True
        >>> is_ct_in_hu(torch.cat([air, torch.linspace(-800, 1000, 9)]))
        False
        >>> is_ct_in_hu(torch.cat([air, torch.tensor([10, 20, 30, 40, 900.0])]).clamp(min=-200))
        True
    """
    clipped = _is_clipped(sample)
    if not clipped and not holds_air_and_bone(sample):
        return False
    tissue = sample[sample > (sample.min() if clipped else _AIR[1])]
    if float((tissue.abs() <= _SOFT).float().mean()) < _SOFT_SHARE:
        return False
    return not clipped or _is_dense(tissue)


def _is_clipped(sample: Tensor) -> bool:
    """Tell whether a twentieth or more of the values are the least one, a round number between air and water."""
    floor = float(sample.min()) if sample.numel() else 0.0
    if not _FLOOR[0] <= floor <= _FLOOR[1] or floor % _ROUND or float(sample.max()) < _BONE:
        return False
    return float((sample == floor).float().mean()) >= _AIR_SHARE


def _is_ct_with_offset(sample: Tensor) -> bool:
    """Tell whether values are those of a CT in HU plus about 1024: its soft tissue is closer together than an MR's."""
    moved = sample - _OFFSET
    if float(sample.min()) < 0 or not is_ct_in_hu(moved):
        return False
    return _is_dense(moved)


def _is_dense(values: Tensor) -> bool:
    """Tell whether the middle half of soft tissue lies within `_SOFT_HU`."""
    soft = values[values.abs() <= _SOFT]
    return percentile(soft, 75) - percentile(soft, 25) <= _SOFT_HU


def _without_filler(sample: Tensor) -> Tensor:
    """Leave out NaN, and the one value below all air that stands outside the field of view, such as -3024."""
    sample = sample[torch.isfinite(sample)]
    below = sample < _AIR[0]
    return sample[~below] if bool(below.any()) and bool((sample[below] == sample.min()).all()) else sample


def _is_wrapped(sample: Tensor, high: float) -> bool:
    """Tell whether whole numbers lie at both ends of 16 bits alone, the upper ones not white alone: a sign was lost."""
    if not _WRAPPED[1] < high <= _WHITEST:
        return False
    upper, middle = sample > _WRAPPED[1], (sample > _WRAPPED[0]) & (sample <= _WRAPPED[1])
    if bool(middle.any()) or float(upper.float().mean()) <= _UPPER_SHARE:
        return False
    return float(sample[upper].min()) < _WHITEST and bool((sample == sample.round()).all())


def _is_normalized(sample: Tensor) -> bool:
    """Tell whether a CT spans air to bone in other numbers, as when scaled to [0, 1] or to mean 0 and deviation 1.

    A third or more of what is no air lies in the middle, within a two-hundredth of the range: soft tissue, which fills
    a tenth of it or more in a window. Tissue of one value alone is a phantom and tells nothing.
    """
    low, span = float(sample.min()), float(sample.max() - sample.min())
    inside = sample[sample > low + 0.1 * span]
    soft = inside[(inside > low + 0.25 * span) & (inside < low + 0.75 * span)]
    if inside.numel() == sample.numel() or soft.numel() < inside.numel() / 3 or not soft.numel():
        return False
    return 0 < percentile(soft, 75) - percentile(soft, 25) < _SOFT_SPREAD * span


def _is_flat(sample: Tensor) -> bool:
    """Tell whether half of what is not air lies within a twentieth of the range."""
    inside = sample[sample > _AIR[1] / 1000]
    spread = percentile(inside, 75) - percentile(inside, 25) if inside.numel() else 0.0
    return spread < 0.05 * float(sample.max() - sample.min())


def labels(channel: Tensor, sample: Tensor) -> list[str]:
    """Tell of an image whose few values are those of a mask or of labels of regions.

    Gray levels of a windowed picture, tissues of a phantom and counts of a scan are not taken for labels: they lie far
    apart, run in slopes, or change from voxel to voxel.

    Args:
        channel: (*spatial).
        sample: (N,) its values, or an even part of them.

    Example:
        >>> labels(torch.eye(4), torch.eye(4).flatten())[0][:21]
        'only the values 0, 1:'
    """
    thin = sample[:: max(1, sample.numel() // _THIN)].unique()
    if thin.numel() > _MOST or not bool((thin == thin.round()).all()):
        return []
    values = sample.unique()
    count, high = values.numel(), float(values[-1])
    if not 2 <= count <= _MOST or float(values[0]) < 0 or not bool((values == values.round()).all()):
        return []
    if count > 2:
        alike, jump = _regions(channel)
        few = count <= _FEW and high <= _LEVELS * count and alike > _ALIKE
        white = float((sample[sample > 0] == high).float().mean())
        many = count > _FEW and float(values[0]) == 0 and alike > _MORE_ALIKE and jump > _JUMP and white < _WHITE
        if not few and not many:
            return []
    elif tuple(values.tolist()) not in _MASKS:
        return []
    told = ", ".join(value_text(float(value)) for value in values[: count if count < 7 else 3])
    told += f" ... {value_text(high)} ({count} of them)" if count >= 7 else ""
    return [f"only the values {told}: a mask or labels of regions, no intensities; name the image they belong to"]


def inverted(channel: Tensor, ends: tuple[float, float]) -> list[str]:
    """Tell of an image with a white border, as PET is shown in inverse grey: air is dark for the network.

    Args:
        channel: (*spatial).
        ends: as in `doubts`; single odd voxels do not move them.

    Example:
        >>> picture = torch.zeros(16, 16)
        >>> picture[4:12, 4:12] = 1
        >>> inverted(picture, (0, 1)), len(inverted(1 - picture, (0, 1)))
        ([], 1)
    """
    low, high = ends
    across = sorted(range(channel.dim()), key=lambda axis: -channel.shape[axis])[:2]  # not over and under a head
    border = torch.cat([channel.select(axis, end).flatten() for axis in across for end in (0, -1)])
    white = low + _BRIGHT * (high - low)
    if not high > low or min(channel.shape) < 2 or float((border >= white).float().mean()) < _WHITE_BORDER:
        return []
    return ["white around the head, as in a picture that was inverted: invert it, so that air is dark"]


def _regions(channel: Tensor) -> tuple[float, float]:
    """Return the share of neighbors inside the regions that are alike, and the mean step between those that are not."""
    alike, unlike, steps = 0, 0, 0.0
    for axis in range(channel.dim()):
        size = channel.shape[axis] - 1
        first, second = channel.narrow(axis, min(size, 1), size), channel.narrow(axis, 0, size)
        inside = torch.maximum(first, second) > 0
        change = (first - second).abs()[inside]
        differ = int(torch.count_nonzero(change))
        alike, unlike, steps = alike + change.numel() - differ, unlike + differ, steps + float(change.sum())
    return alike / max(alike + unlike, 1), steps / max(unlike, 1)


def _saturated(inside: Tensor, ends: tuple[float, float]) -> list[str]:
    told = "its values are no HU, or it shows no brain; name a window by its values"
    return [f"{what}: {told}" for what in _outside(inside, ends)]


def _outside(inside: Tensor, ends: tuple[float, float]) -> list[str]:
    shares = ((inside > ends[1]).float().mean(), "above"), ((inside < ends[0]).float().mean(), "below")
    return [
        f"{100 * float(share):.0f} % of the head lies {side} the window" for share, side in shares if share > _SATURATED
    ]


def flattened(sample: Tensor, head: Tensor, ends: tuple[float, float], modality: str, factor: float = 1.0) -> list[str]:
    """Tell that a window which was asked for turns most of a head into white or black.

    Args:
        sample: as in `doubts`.
        head: as in `doubts`.
        ends: as in `doubts`.
        modality: as in `doubts`; uptake may be cut off below on purpose.
        factor: what a value is multiplied by to have the unit that is told.

    Example:
        >>> flattened(torch.tensor([0.0, 200, 210, 220]), torch.tensor([False, True, True, True]), (0.0, 80.0), "CT")
        ['100 % of the head lies above the window that was asked for: its values are 0 to 220; name a window in them']
    """
    low, high = (value_text(float(end) * factor) for end in (sample.min(), sample.max()))
    told = f"its values are {low} to {high}; name a window in them"
    found = _outside(sample[head] if bool(head.any()) else sample, ends)
    functional = modality in ("PT", "NM")
    return [f"{what} that was asked for: {told}" for what in found if not (functional and "below" in what)]


def _grey_bone(sample: Tensor) -> list[str]:
    """Warn of a picture in a wide window: the networks know bone as white, and grey bone may give way to the MR.

    Example:
        >>> brain, bone = torch.linspace(70, 75, 900), torch.linspace(100, 140, 100)
        >>> len(_grey_bone(torch.cat([torch.zeros(900), brain, bone])))
        1
        >>> _grey_bone(torch.cat([torch.zeros(900), 8 * brain - 500, torch.full((100,), 255.0)]))
        []
    """
    low, span = float(sample.min()), float(sample.max() - sample.min())
    inside = sample[sample > low + _BLACK * span]
    grey = inside[inside < low + _NEAR_WHITE * span]
    if grey.numel() < _FEWEST or inside.numel() - grey.numel() >= _WHITE_SHARE * inside.numel():
        return []
    middle = percentile(grey, 50)
    spread = max(2 * min(percentile(grey, 75) - middle, middle - percentile(grey, 25)), _LEVEL * span)
    if percentile(grey, 95) - middle <= _SPREADS * spread:
        return []
    told = "its bone is grey, as in a wide window, and may be lost where the other image is dark"
    return [f"{told}; give the CT in HU, or a picture of a narrower window such as 40/80"]


def _no_hu(sample: Tensor, told: str, source: Mapping[str, Any], kind: str) -> list[str]:
    """Warn of a CT that spans air to bone in values that are no HU: soft tissue is flat without its window."""
    low, high = float(sample.min()), float(sample.max())
    flat = f"{told} are no HU: soft tissue is flat without its window"
    is_float = str(source.get("dtype") or "").startswith("float")
    if kind != "plain" and _AIR[0] <= 1000 * low <= _AIR[1] and 1000 * high >= _BONE and _is_flat(sample):
        return [f"{flat}; multiply them by 1000 if they are thousands of HU, or name a window in its values"]
    if is_float and source.get("units") != "HU" and _is_normalized(sample):
        return [f"{flat}; name a window in its values, or give the CT in HU"]
    if kind == "plain":
        if is_float and 0 < high <= _DARK_WINDOW:
            return [f"{flat}; convert them to HU, or name a window in its values"]
        return _grey_bone(sample)
    if high - low < _RAW_CT[0] or (source.get("units") == "HU" and not _is_ct_with_offset(sample)):
        return []
    if low < 0:
        return [f"{flat}; scale them, or name a window in its values"]
    if high - low > _RAW_CT[1]:  # a picture of 16 bits
        return []
    return [f"{flat}; subtract the offset of air (often 1024), or name a window in its values"]
