"""Pearson correlation of a fused image with each source."""

from __future__ import annotations

import torch
from torch import Tensor

from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, per_region, prepare


def pearson(values_a: Tensor, values_b: Tensor) -> Tensor:
    """Correlate two pixel lists.

    Args:
        values_a: (N,) floating point.
        values_b: (N,).

    Returns:
        Scalar in [-1, 1]; NaN where one of the lists is constant.
    """
    centered_a, centered_b = values_a - values_a.mean(), values_b - values_b.mean()
    scale = (centered_a.square().sum() * centered_b.square().sum()).sqrt()
    return torch.where(
        scale > 1e-12, (centered_a * centered_b).sum() / scale.clamp(min=1e-12), scale.new_tensor(torch.nan)
    )


@scored
def compute_cc(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the Pearson correlation with each source, and its mean over the two.

    Source: the definition of Pearson, as in Ma, Ma and Li, "Infrared and visible image fusion methods and applications:
    a survey", Information Fusion 2019.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [-1, 1], each (B, R). NaN where the fused image or the source is constant.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> image = torch.rand(1, 1, 8, 8)
        >>> round(compute_cc(image, image, 1 - image).a.item(), 6)
        1.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    to_a, to_b = (
        per_region(pearson, inputs.regions, inputs.fused, source) for source in (inputs.image_a, inputs.image_b)
    )
    return Scores((to_a + to_b) / 2, to_a, to_b)


class CorrelationMetric(FusionMetric):
    """Cumulates `compute_cc` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_cc)
