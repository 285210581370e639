"""T2 and FLAIR shown with brains of one brightness: what is brighter in one of them alone is brighter in a mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from clinicalfmamba_nets.functional.voi import linear_knots, percentile
from clinicalfmamba_nets.transforms.limits import Limits

TASKS = ("t2_flair", "t2_flair_planar")  # of these both images show tissues by one order of brightness
DARKEST = 5.0  # percent of the brain: so much may become black, as fluid is in a FLAIR
MOST = 3.0  # times as far the upper end lies at most
_LIKE = 1.1  # brains of less than this ratio are alike
_FEWEST = 64  # voxels that tell the brightness of a brain


class _Brain(NamedTuple):
    """What is not background in either image, in one of them, in units of its range."""

    middle: float  # median
    spread: float  # from the lower quartile to the upper one
    dark: float  # what `DARKEST` percent are darker than


def match_levels(found: Sequence[Limits], samples: Sequence[Tensor], inside: Sequence[Tensor]) -> list[Limits]:
    """Move the range of the image whose brain is brighter until both brains are equally bright.

    The brightness of a brain is the median over what is not background in either image. The upper end of the brighter
    one's range rises, at most to three times as far, and the lower end of the second image as far as the spreads of
    both brains (from the lower quartile to the upper one) become alike, so that both images have a say; it leaves no
    more than a twentieth of the brain black. The lower end of the first image is the background of the result: it
    stays. What was not cut off above is not. Where brains differ, a mix of both cannot show what is brighter in the
    darker image alone without a halo. Source: ours; one brightness and one spread are what normalization by the mean
    and deviation of the brain gives to MR images.

    Args:
        found: the ranges of both images.
        samples: values of both at the same places, (N,) each, in the units of the files.
        inside: which of them are not background, (N,) bool each.

    Returns:
        The ranges, those given where the brains are alike or cannot be told.

    Example:
        >>> ranges = [Limits(linear_knots(0, 100), "a"), Limits(linear_knots(0, 100), "b")]
        >>> values = [Tensor([30.0] * 100), Tensor([60.0] * 100)]
        >>> [limits.ends for limits in match_levels(ranges, values, [values[0] > 0] * 2)]
        [(0.0, 100.0), (0.0, 200.0)]
    """
    both = inside[0] & inside[1]
    if int(both.sum()) < _FEWEST or any(not limits.ends[1] > limits.ends[0] for limits in found):
        return list(found)
    brains = [_brain(limits, values[both]) for limits, values in zip(found, samples, strict=True)]
    brighter = int(brains[1].middle > brains[0].middle)
    darker_one, brighter_one = brains[1 - brighter], brains[brighter]
    if darker_one.middle <= 0 or brighter_one.middle < _LIKE * darker_one.middle:
        return list(found)
    low, high = found[brighter].ends
    first, last = _range(darker_one, brighter_one, rises=brighter == 1)
    knots = linear_knots(low + first * (high - low), low + last * (high - low))
    name = f"{found[brighter].name}, moved until its brain is as bright as that of image {'BA'[brighter]}"
    matched = list(found)
    matched[brighter] = replace(found[brighter], knots=knots, name=name)
    return matched


def _brain(limits: Limits, values: Tensor) -> _Brain:
    low, high = limits.ends
    dark, lower, middle, upper = ((percentile(values, at) - low) / (high - low) for at in (DARKEST, 25, 50, 75))
    return _Brain(middle, upper - lower, dark)


def _range(darker: _Brain, brighter: _Brain, rises: bool) -> tuple[float, float]:
    """Return the ends of the brighter image's range, in units of that it has, for the level of the darker one.

    Args:
        darker: the brain whose level is wanted.
        brighter: that of the image.
        rises: whether the lower end may.
    """
    level, middle, first = darker.middle, brighter.middle, 0.0
    if rises and darker.spread > 0:
        alike = middle - level * brighter.spread / darker.spread
        whole = (middle - level) / (1 - level)  # from where on the upper end would fall
        first = max(0.0, min(alike, brighter.dark, whole))
    return first, min(first + (middle - first) / level, MOST)
