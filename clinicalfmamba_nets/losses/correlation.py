"""What each source adds to the fused image, as a loss term: a differentiable SCD."""

from __future__ import annotations

from torch import Tensor

LEAST_VARIANCE = 1e-4  # of images in [0, 1]: less is no difference, and its correlation noise


def difference_correlation(fused: Tensor, image: Tensor) -> Tensor:
    """Sum of the correlations between one source and what the fused image has beyond the other one: a smooth SCD.

    Variances get 1e-4, so that a copy of one source has the correlation 0 and a finite slope. Elsewhere the values are
    those of `metrics.compute_scd` up to rounding.

    Source: Aslantas and Bendes, "A new image quality metric for image fusion: the sum of the correlations of
    differences", AEU 2015.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        (B,) in [-2, 2].

    Example:
        >>> import torch
        >>> image = torch.rand(1, 2, 32, 32)
        >>> difference_correlation(image.mean(1, keepdim=True), image).item() > 1
        True
    """
    added, source = (fused - image.flip(1)).flatten(2), image.flatten(2)  # (B, 2, N)
    added, source = (values - values.mean(2, keepdim=True) for values in (added, source))
    variances = added.square().mean(2) + LEAST_VARIANCE, source.square().mean(2) + LEAST_VARIANCE
    return ((added * source).mean(2) / (variances[0] * variances[1]).sqrt()).sum(1)
