"""Visual information fidelity of a fused image towards its sources, in the pixel domain."""

from __future__ import annotations

import torch
from torch import Tensor

from ..functional.windows import filter_separable, gaussian_window, local_moments
from .checks import check_size
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, crop_border, prepare, region_sum

NOISE_VARIANCE = 2.0
EPSILON = 1e-10
WINDOWS = (17, 9, 5, 3)


def _information(source: Tensor, fused: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """Information that the fused image keeps, and that the source has, per pixel (up to one common factor)."""
    moments = local_moments(source, fused, window)
    gain = moments.covariance / (moments.variance_a + EPSILON)
    rest = moments.variance_b - gain * moments.covariance
    flat_source, flat_fused = moments.variance_a < EPSILON, moments.variance_b < EPSILON
    gain = gain.masked_fill(flat_source | flat_fused, 0)
    rest = torch.where(flat_source, moments.variance_b, rest).masked_fill(flat_fused, 0)
    rest = torch.where(gain < 0, moments.variance_b, rest).clamp(min=EPSILON)
    gain = gain.clamp(min=0)
    variance = moments.variance_a.masked_fill(flat_source, 0)
    kept = torch.log1p(gain.square() * variance / (rest + NOISE_VARIANCE))
    return kept, torch.log1p(variance / NOISE_VARIANCE)


def _every_second(image: Tensor) -> Tensor:
    """Keep every second pixel along each spatial axis, starting with the first."""
    step = slice(None, None, 2)
    return image[..., step, step] if image.dim() == 4 else image[..., step, step, step]


def _fidelity(source: Tensor, fused: Tensor, regions: Tensor) -> Tensor:
    """VIF towards one source, (B, R): kept over present information, summed over the scales that fit."""
    kept = present = torch.zeros(regions.shape[:2], dtype=torch.float64, device=fused.device)
    parts = regions.double()
    for scale, size in enumerate(WINDOWS):
        window = gaussian_window(size, size / 5, torch.float64, fused.device)
        needed = size if scale == 0 else 3 * size - 2
        if min(fused.shape[2:]) < needed:
            break
        if scale:
            source, fused = (_every_second(filter_separable(image, window)) for image in (source, fused))
            parts = _every_second(crop_border(parts, size // 2))
        maps = _information(source, fused, window)
        centers = crop_border(parts, size // 2) > 0
        kept, present = kept + region_sum(maps[0], centers), present + region_sum(maps[1], centers)
    return kept / present


@scored
def compute_vif(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute visual information fidelity towards each source (VIFp, pixel domain), and its sum over the two.

    Intensities 0..255, noise variance 2, four scales with Gaussian windows of 17, 9, 5, 3 pixels (sigma a fifth),
    whole windows only; small images are scored at the scales that fit.

    Source: Sheikh and Bovik, "Image information and visual quality", IEEE TIP 2006; the sum over the sources is the
    convention of the fusion literature. A copy of one source reaches 1 plus little: look at the minimum.

    Args:
        fused: (B, 1, *spatial), each axis at least 17.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores, each (B, R): 1 per source for identical images, above 1 for more contrast. NaN for a flat source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.
        UndefinedScore: for fewer than 17 pixels along an axis.

    Example:
        >>> image = torch.rand(1, 1, 64, 64)
        >>> round(compute_vif(image, image, 1 - image).a.item(), 4)
        1.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    check_size("VIF", inputs.fused, WINDOWS[0])
    to_a, to_b = (
        _fidelity(source * 255, inputs.fused * 255, inputs.regions) for source in (inputs.image_a, inputs.image_b)
    )
    return Scores(to_a + to_b, to_a, to_b)


class VIFMetric(FusionMetric):
    """Cumulates `compute_vif` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_vif)
