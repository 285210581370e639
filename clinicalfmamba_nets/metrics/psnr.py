"""Peak signal-to-noise ratio of a fused image against each source."""

from __future__ import annotations

import torch
from torch import Tensor

from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, constant_in, prepare, region_mean


def _decibels(fused: Tensor, source: Tensor, regions: Tensor) -> Tensor:
    error = region_mean((fused - source).square(), regions)
    return (-10 * torch.log10(error)).masked_fill((error == 0) & constant_in(source, regions), torch.nan)


@scored
def compute_psnr(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute 10 log10(1 / MSE) in dB against each source, and its mean over the two.

    A copy of one source has an infinite value: look at the minimum. Source: the definition of ITU-R BT.500 and the
    tables of the fusion literature, which average over the sources.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in dB, each (B, R); higher is better. NaN for a fused image and source of one same value.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> black = torch.zeros(1, 1, 8, 8)
        >>> round(compute_psnr(black + 0.2, black, black + 0.4).value.item(), 2)
        13.98
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    to_a, to_b = (_decibels(inputs.fused, source, inputs.regions) for source in (inputs.image_a, inputs.image_b))
    return Scores((to_a + to_b) / 2, to_a, to_b)


class PSNRMetric(FusionMetric):
    """Cumulates `compute_psnr` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_psnr)
