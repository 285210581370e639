"""How black the fused image is where neither source shows anything."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, head_region, prepare, region_mean

DISTANCE = 3


def far_from(region: Tensor, distance: int) -> Tensor:
    """Mark the pixels more than a Euclidean distance away from a region.

    Args:
        region: (B, 1, *spatial) bool.
        distance: in pixels.

    Returns:
        (B, 1, *spatial) bool.

    Example:
        >>> region = torch.zeros(1, 1, 1, 7, dtype=torch.bool)
        >>> region[..., 0] = True
        >>> far_from(region, 3).sum().item()
        3
    """
    dims = region.dim() - 2
    offsets = torch.meshgrid(*[torch.arange(-distance, distance + 1)] * dims, indexing="ij")
    ball = (torch.stack(offsets).square().sum(dim=0) <= distance**2).float()
    convolve = functional.conv2d if dims == 2 else functional.conv3d
    return convolve(region.float(), ball[None, None].to(region.device), padding=distance) < 0.5


@scored
def compute_background_mean(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the mean of the fused image, in grey levels of 255, more than 3 pixels away from either head.

    A pixel belongs to a head where a source is brighter than 8/255. Both sources are black beyond, and a network that
    greys it loses 0.2 to 0.45 of SSIM and the reader's trust. The image is not rounded: 0.4/255 of veil counts.
    Source: the definition of this project.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores, (B, R), lower is better, without a part per source; NaN where the head fills the frame.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> black = torch.zeros(1, 1, 8, 8)
        >>> round(compute_background_mean(black + 4 / 255, black, black).value.item(), 4)
        4.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions, rounded=False)
    background = far_from(head_region(inputs.image_a, inputs.image_b), DISTANCE)
    return Scores(region_mean(inputs.fused.abs() * 255, inputs.regions & background))


class BackgroundMeanMetric(FusionMetric):
    """Cumulates `compute_background_mean` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_background_mean)
