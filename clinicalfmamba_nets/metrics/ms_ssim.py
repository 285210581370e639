"""Multi-scale structural similarity of a fused image to each source."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .checks import check_size
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, constant_in, crop_border, prepare, region_mean
from .ssim import WINDOW, similarity_maps

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def _halve(image: Tensor) -> Tensor:
    """Average 2 x 2 (x 2) pixels; an odd axis is padded with a zero, as the pytorch-msssim package does."""
    pool = functional.avg_pool2d if image.dim() == 4 else functional.avg_pool3d
    return pool(image, kernel_size=2, padding=[size % 2 for size in image.shape[2:]])


def _multi_scale(fused: Tensor, source: Tensor, regions: Tensor) -> Tensor:
    """MS-SSIM of one source, (B, R): as many of the five scales as fit, their weights scaled to sum 1."""
    scales = sum(min(fused.shape[2:]) // 2**scale >= WINDOW for scale in range(len(SCALE_WEIGHTS)))
    weights = torch.tensor(SCALE_WEIGHTS[:scales], dtype=torch.float64)
    weights = weights / weights.sum() * sum(SCALE_WEIGHTS)
    product = torch.ones(regions.shape[:2], dtype=torch.float64, device=fused.device)
    parts = regions.double()
    for scale, weight in enumerate(weights.tolist()):
        if scale:
            fused, source, parts = _halve(fused), _halve(source), _halve(parts)
        ssim, contrast = similarity_maps(fused, source)
        similarity = ssim if scale == scales - 1 else contrast
        product = product * region_mean(similarity, crop_border(parts, WINDOW // 2) >= 0.5).clamp(min=0) ** weight
    return product


@scored
def compute_ms_ssim(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute multi-scale SSIM against each source, and its mean over the two.

    Five scales, window 11, sigma 1.5, whole windows only, negative contrast counted as 0: the convention of the package
    pytorch-msssim. An image too small for five scales is scored at those that fit, with their weights
    scaled to the same sum. A region is halved with the image; a coarse pixel belongs to it when half of it does.

    Source: Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003.

    Args:
        fused: (B, 1, *spatial), each axis at least 11.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [0, 1], each (B, R); 1 for identical images. NaN where fused image and source are both constant.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.
        UndefinedScore: for fewer than 11 pixels along an axis.

    Example:
        >>> image = torch.rand(1, 1, 176, 176)
        >>> round(compute_ms_ssim(image, image, 1 - image).a.item(), 5)
        1.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    check_size("MS-SSIM", inputs.fused, WINDOW)
    empty = constant_in(inputs.fused, inputs.regions)
    to_a, to_b = (
        _multi_scale(inputs.fused, source, inputs.regions).masked_fill(
            empty & constant_in(source, inputs.regions), torch.nan
        )
        for source in (inputs.image_a, inputs.image_b)
    )
    return Scores((to_a + to_b) / 2, to_a, to_b)


class MultiScaleSSIMMetric(FusionMetric):
    """Cumulates `compute_ms_ssim` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_ms_ssim)
