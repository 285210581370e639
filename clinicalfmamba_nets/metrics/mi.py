"""Mutual information between a fused image and its sources."""

from __future__ import annotations

from torch import Tensor

from ..functional.histograms import mutual_information
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, per_region, prepare


@scored
def compute_mi(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the mutual information with each source from histograms of 256 levels, and its sum over the two.

    A copy of one source has the largest sum: look at the minimum. Source: Qu, Zhang and Yan, "Information measure for
    performance of image fusion", Electronics Letters 2002.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in bits, each (B, R), at least 0; the value is the sum.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> compute_mi(image, image, torch.zeros_like(image)).value.item()
        1.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    to_a, to_b = (
        per_region(mutual_information, inputs.regions, inputs.fused, source)
        for source in (inputs.image_a, inputs.image_b)
    )
    return Scores(to_a + to_b, to_a, to_b)


class MutualInformationMetric(FusionMetric):
    """Cumulates `compute_mi` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_mi)
