"""Values of interest (VOI): windows by name or number, and monotone curves to [0, 1] and back."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from torch import Tensor

# Center and width in HU.
WINDOWS = {"brain": (40.0, 80.0), "stroke": (35.0, 40.0), "subdural": (75.0, 215.0), "soft": (50.0, 400.0)}
WINDOWS |= {"bone": (600.0, 2800.0)}
SOFT_TISSUE, BONE_ABOVE = 40.0, 260.0  # HU: the middle of the brain's window; so far above it a voxel is bone
# Air, water, the upper end of soft tissue and dense bone: 0..80 HU over the middle half, bone over the upper third.
HEAD_CURVE = ((-1000.0, 0.0), (0.0, 1 / 6), (80.0, 2 / 3), (1500.0, 1.0))
SPELLINGS = (
    f"auto, {', '.join(WINDOWS)}, head, CENTER/WIDTH such as 40/80, LOW-HIGH such as 0-15, percentiles such as p1/p99, "
    "suv, suv LOW-HIGH, counts, header, minmax"
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_CENTER_WIDTH = re.compile(rf"({_NUMBER})\s*/\s*({_NUMBER})")
_PERCENTILES = re.compile(rf"p\s*({_NUMBER})\s*/\s*p\s*({_NUMBER})")
_RANGE = re.compile(rf"(suv|counts)?[\s:]*({_NUMBER})\s*(?:-|\.\.|:)\s*({_NUMBER})")


class VOI(NamedTuple):
    """What is asked of an image's range.

    Attributes:
        kind: "auto", "minmax", "header", "head", "suv", "counts" (limits from the image); "window" or "range" (limits
            given); "percentiles".
        low: lower limit, or percentile; 0 where the image decides.
        high: upper limit, or percentile.
        name: words for it, such as "brain 40/80".
        unit: "SUVbw" or "counts" where a range names it.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    name: str = ""
    unit: str = ""


def parse_voi(text: str) -> VOI:
    """Read what a user asks for.

    Args:
        text: one of `SPELLINGS`; upper case and blanks do not matter.

    Returns:
        What it means.

    Raises:
        ValueError: no known name and no numbers, a width that is not above 0, or percentiles outside 0 to 100; the
            message tells what was expected.

    Example:
        >>> parse_voi("brain").low, parse_voi("600/2800").high, parse_voi("p1/p99").kind
        (0.0, 2000.0, 'percentiles')
    """
    words = " ".join(str(text).lower().split())
    if words in ("auto", "minmax", "header", "head", "suv", "counts"):
        return VOI(words, name=words)
    if words in WINDOWS:
        center, width = WINDOWS[words]
        return VOI("window", center - width / 2, center + width / 2, f"{words} {center:g}/{width:g}")
    if found := _CENTER_WIDTH.fullmatch(words):
        center, width = map(float, found.groups())
        if width > 0:
            return VOI("window", center - width / 2, center + width / 2, f"{center:g}/{width:g}")
    elif found := _PERCENTILES.fullmatch(words):
        low, high = map(float, found.groups())
        if 0 <= low < high <= 100:
            return VOI("percentiles", low, high, f"p{low:g}/p{high:g}")
    elif found := _RANGE.fullmatch(words):
        low, high = float(found[2]), float(found[3])
        if low < high:
            return VOI("range", low, high, f"{low:g} to {high:g}", {"suv": "SUVbw"}.get(found[1], found[1] or ""))
    raise ValueError(f"{SPELLINGS} (widths above 0, the lower limit first)")


def apply_curve(values: Tensor, knots: Tensor) -> Tensor:
    """Map values by straight lines between knots; beyond the ends they are clipped.

    Args:
        values: any shape, floating point.
        knots: (K, 2) of value and result, both rising.

    Returns:
        The same shape and dtype.

    Example:
        >>> apply_curve(torch.tensor([-3000.0, 40.0, 3071.0]), torch.tensor(HEAD_CURVE)).tolist()
        [0.0, 0.4166666865348816, 1.0]
    """
    place, result = knots.to(device=values.device, dtype=values.dtype).T.contiguous()
    below = torch.bucketize(values.contiguous(), place[1:-1].contiguous())  # interval of each value
    slope = (result[1:] - result[:-1]) / (place[1:] - place[:-1])
    mapped = result[below] + (values - place[below]) * slope[below]
    return mapped.clamp_(float(result[0]), float(result[-1]))


def invert_curve(values: Tensor, knots: Tensor) -> Tensor:
    """Undo `apply_curve`: bring results back to values; what was clipped comes back as the limit.

    Args:
        values: any shape, floating point, in the range of the knots' results.
        knots: (K, 2), as given to `apply_curve`.

    Returns:
        The same shape and dtype.
    """
    return apply_curve(values, knots.flip(1))


def linear_knots(low: float, high: float) -> Tensor:
    """Return a straight line from low to high as four knots, (4, 2), so that it stacks with other curves."""
    share = torch.linspace(0, 1, len(HEAD_CURVE), dtype=torch.float64)
    return torch.stack([low + share * (high - low), share], dim=1)


def sample_values(image: Tensor, most: int = 2**21) -> Tensor:
    """Return the values of an image, of a large one an even sample that meets every row and column.

    Args:
        image: any shape.
        most: about how many values at most.

    Returns:
        (N,) of the image's dtype.
    """
    flat = image.flatten()
    step = max(1, -(-flat.numel() // most))
    while step > 1 and any(side > 1 and (step % side == 0 or side % step == 0) for side in image.shape):
        step += 1
    return flat[::step]


def percentile(values: Tensor, percent: float) -> float:
    """Return a percentile of a sample: the nearest value that is not above it, so that no other one is made up.

    Args:
        values: (N,), N at least 1.
        percent: in [0, 100].

    Example:
        >>> percentile(torch.tensor([1.0, 2.0, 3.0, 900.0]), 99.5)
        3.0
    """
    rank = 1 + int(percent / 100 * (values.numel() - 1))
    return float(values.kthvalue(rank).values)


def background_value(channel: Tensor) -> tuple[float | None, float]:
    """Return the value that all corners of an image share, None where they differ, and the share of others below it.

    Args:
        channel: (*spatial).
    """
    corners = channel
    for axis in range(channel.dim()):
        corners = corners.index_select(axis, torch.tensor([0, channel.shape[axis] - 1], device=channel.device))
    value = corners.flatten()[0]
    if not bool((corners == value).all()):
        return None, 0.0
    others = channel.numel() - int(torch.count_nonzero(channel == value))
    return float(value), int(torch.count_nonzero(channel < value)) / max(others, 1)
