"""Whether flat bright regions of one source stay flat and bright in the fused image."""

from __future__ import annotations

import torch
from torch import Tensor

from ..functional.structures import plateaus
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Inputs, Scores, prepare, region_mean


@scored
def compute_plateau_error(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the mean distance to the brighter source where that source is flat and the other one far darker.

    The inside of bone, of a bleeding, of tracer: a fused image that is hollow or rimmed there invents structure. Flat
    is a range below 0.02 within 5 pixels along each axis, far a difference above 0.3. Source: ours.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source, the same shape.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [0, 1], (B, R), without a part per source; 0 is best, NaN where the sources have no such place.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> bright, dark = torch.ones(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
        >>> compute_plateau_error(bright, dark, bright).value.item()
        0.0
    """
    return Scores(mean_on_plateaus(prepare(fused, image_a, image_b, data_range, regions)))


def mean_on_plateaus(inputs: Inputs) -> Tensor:
    """The error of checked images, (B, R)."""
    sources = torch.cat([inputs.image_a, inputs.image_b], dim=1)
    distance = (inputs.fused - sources.amax(1, keepdim=True)).abs()
    return region_mean(distance, inputs.regions & plateaus(sources))


class PlateauErrorMetric(FusionMetric):
    """Cumulates `compute_plateau_error` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_plateau_error)
