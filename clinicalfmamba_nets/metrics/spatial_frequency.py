"""Spatial frequency of a fused image."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_size
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, prepare, region_mean


@scored
def compute_sf(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the spatial frequency of the fused image in grey levels of 255 per pixel.

    The root of the sum over the axes of the mean squared difference of neighbors. It rises with noise: no measure of
    quality by itself. Source: Eskicioglu and Fisher, "Image quality measures and their performance", IEEE Trans.
    Commun. 1995.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape (only checked).
        image_b: second source (only checked).
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame. A difference counts where both its pixels do.

    Returns:
        Scores, at least 0, (B, R), without a part per source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.
        UndefinedScore: for fewer than 2 pixels along an axis.

    Example:
        >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> compute_sf(image, image, image).value.item()
        255.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    check_size("SF", inputs.fused, 2)
    total = torch.zeros(inputs.regions.shape[:2], dtype=torch.float64, device=fused.device)
    for axis in range(2, fused.dim()):
        length = fused.shape[axis] - 1
        inside = inputs.regions.narrow(axis, 0, length) & inputs.regions.narrow(axis, 1, length)
        total = total + region_mean((inputs.fused * 255).diff(dim=axis).square(), inside)
    return Scores(total.sqrt())


class SpatialFrequencyMetric(FusionMetric):
    """Cumulates `compute_sf` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_sf)
