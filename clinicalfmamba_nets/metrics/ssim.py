"""Structural similarity of a fused image to each source."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clinicalfmamba_nets.functional.windows import gaussian_window, local_moments

from .checks import check_size
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, constant_in, prepare, region_mean

WINDOW, SIGMA = 11, 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2


def similarity_maps(fused: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the SSIM map and its contrast part over whole windows, in float32.

    The window is applied along one axis after the other: 33 products for a voxel of a volume, not 1331.

    Args:
        fused: (B, 1, *spatial) in [0, 1], each axis at least 11.
        source: the same shape.

    Returns:
        SSIM and contrast, each (B, 1, *(spatial - 10)) float64.
    """
    local = local_moments(fused.float(), source.float(), gaussian_window(WINDOW, SIGMA))
    contrast = (2 * local.covariance + _CONTRAST) / (local.variance_a + local.variance_b + _CONTRAST)
    means = local.mean_a.square() + local.mean_b.square() + _LUMINANCE
    return ((2 * local.mean_a * local.mean_b + _LUMINANCE) / means * contrast).double(), contrast.double()


def _reflect(image: Tensor) -> Tensor:
    margin = WINDOW // 2
    return functional.pad(image, [margin] * (2 * (image.dim() - 2)), mode="reflect")


@scored
def compute_ssim(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute SSIM against each source, and its mean over the two.

    Window 11 x 11 (x 11), Gaussian of sigma 1.5, k1 0.01, k2 0.03, data_range 1, every pixel of the frame with the
    border reflected, which is the convention of torchmetrics. Half of a typical frame is black in both sources and
    counts as similarity 1: read the scores inside the head beside those of the whole frame.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.

    Args:
        fused: (B, 1, *spatial), each axis at least 6.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [-1, 1], each (B, R); 1 for identical images. NaN where fused image and source are both constant.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.
        UndefinedScore: for fewer than 6 pixels along an axis.

    Example:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> round(compute_ssim(image, image, 1 - image).a.item(), 5)
        1.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    check_size("SSIM", inputs.fused, WINDOW // 2 + 1)
    padded, empty = _reflect(inputs.fused), constant_in(inputs.fused, inputs.regions)
    to_a, to_b = (
        region_mean(similarity_maps(padded, _reflect(source))[0], inputs.regions).masked_fill(
            empty & constant_in(source, inputs.regions), torch.nan
        )
        for source in (inputs.image_a, inputs.image_b)
    )
    return Scores((to_a + to_b) / 2, to_a, to_b)


class SSIMMetric(FusionMetric):
    """Cumulates `compute_ssim` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_ssim)
