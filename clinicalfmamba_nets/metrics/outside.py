"""How many pixels of the fused image are brighter or darker than both sources."""

from __future__ import annotations

import torch
from torch import Tensor

from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, prepare, region_mean

TOLERANCE = 1.5 / 255  # one level, for rounding to 8 bit


@scored
def compute_outside(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the share of pixels that lie outside the range of their two sources by more than one of 255 levels.

    A weighted mean of the sources has none; whatever lies outside was invented. Source: ours.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source, the same shape.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [0, 1], (B, R), without a part per source; 0 is best.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> bright, dark = torch.full((1, 1, 4, 4), 0.8), torch.full((1, 1, 4, 4), 0.2)
        >>> compute_outside(torch.full((1, 1, 4, 4), 0.9), dark, bright).value.item()
        1.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    low = torch.minimum(inputs.image_a, inputs.image_b) - TOLERANCE
    high = torch.maximum(inputs.image_a, inputs.image_b) + TOLERANCE
    return Scores(region_mean(((inputs.fused < low) | (inputs.fused > high)).double(), inputs.regions))


class OutsideMetric(FusionMetric):
    """Cumulates `compute_outside` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_outside)
