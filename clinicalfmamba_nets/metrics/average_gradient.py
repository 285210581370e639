"""Average gradient of a fused image."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .checks import check_size
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, prepare, region_mean


def _drop_last(image: Tensor, axes: Iterable[int]) -> Tensor:
    """The image without its last element along each of some axes."""
    for axis in axes:
        image = image.narrow(axis, 0, image.shape[axis] - 1)
    return image


@scored
def compute_ag(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the average gradient of the fused image in grey levels of 255 per pixel.

    The mean of the root mean square, over the axes, of the forward differences. It rises with noise: no measure of
    quality by itself. Source: Cui et al., "Detail preserved fusion of visible and infrared images using regional
    saliency extraction and multi-scale image decomposition", Optics Communications 2015.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape (only checked).
        image_b: second source (only checked).
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame. A pixel's gradient belongs to the region of the pixel.

    Returns:
        Scores, at least 0, (B, R), without a part per source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.
        UndefinedScore: for fewer than 2 pixels along an axis.

    Example:
        >>> ramp = torch.arange(4.0).view(1, 1, 4, 1).expand(1, 1, 4, 4)
        >>> round(compute_ag(ramp, ramp, ramp, data_range=255).value.item(), 4)
        0.7071
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    check_size("AG", inputs.fused, 2)
    axes = range(2, fused.dim())
    levels = inputs.fused * 255
    squares = [_drop_last(levels.diff(dim=axis).square(), [other for other in axes if other != axis]) for axis in axes]
    gradient = torch.stack(squares).mean(dim=0).sqrt()  # (B, 1, *(spatial - 1))
    return Scores(region_mean(gradient, _drop_last(inputs.regions, axes)))


class AverageGradientMetric(FusionMetric):
    """Cumulates `compute_ag` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_ag)
