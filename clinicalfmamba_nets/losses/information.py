"""Visual information fidelity as a loss term: a differentiable VIFp towards each source."""

from __future__ import annotations

import torch
from torch import Tensor

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.windows import filter_separable, gaussian_window, local_moments
from clinicalfmamba_nets.losses.shapes import check_pair

NOISE_VARIANCE = 2.0
WINDOWS = (17, 9, 5, 3)
FLAT = 1e-2  # squared levels of 255: below rounding in float32
LEAST_FIDELITY = 1e-3  # below it the square root is too steep


def kept_information(variance: Tensor, fused_variance: Tensor, covariance: Tensor) -> Tensor:
    """Return the information of sources that a fused image keeps at one scale, (B, C).

    Args:
        variance: of the sources in each window, (B, C, *S), in squared levels of 255.
        fused_variance: of the fused image, (B, 1 or C, *S).
        covariance: of both, (B, C, *S).

    Example:
        >>> variance = torch.full((1, 1, 2, 2), 14.0)
        >>> kept = kept_information(variance, variance, variance)  # of a copy
        >>> round((kept / present_information(variance)).item(), 2)
        1.0
    """
    gain = (covariance / (variance + FLAT)).clamp_min(0)
    rest = (fused_variance - gain * covariance).clamp_min(0)
    return torch.log1p(gain.square() * variance / (rest + NOISE_VARIANCE)).flatten(2).sum(2)


def present_information(variance: Tensor) -> Tensor:
    """Return the information that is in sources of a variance, (B, C); see `kept_information`."""
    return torch.log1p(variance / NOISE_VARIANCE).flatten(2).sum(2)


def _halved(image: Tensor, size: int) -> Tensor:
    smooth = filter_separable(image, gaussian_window(size, size / 5).to(image))
    step = slice(None, None, 2)
    return smooth[..., step, step] if image.dim() == 4 else smooth[..., step, step, step]


def information_fidelity(fused: Tensor, image: Tensor) -> Tensor:
    """Visual information fidelity (VIFp) of fused images towards both sources, in float32 and differentiable.

    Four scales with Gaussian windows of 17, 9, 5 and 3 pixels, as far as the image allows. The values are those of
    `metrics.compute_vif` up to rounding; the sum over the sources can be raised by following one source alone, so a
    loss needs terms of both beside it.

    Source: Sheikh and Bovik, "Image information and visual quality", IEEE TIP 2006.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D, each side at least 17.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        (B, 2), the fidelity towards each source, about 1 for a copy.

    Raises:
        FusionInputError: shapes that do not fit, or a side below 17.

    Example:
        >>> image = torch.rand(1, 2, 32, 32)
        >>> information_fidelity(image[:, :1], image)[0, 0].item() > 0.99
        True
    """
    check_pair(fused, image)
    source, fused = image.float() * 255, (fused.float() * 255).expand_as(image)
    if min(source.shape[2:]) < WINDOWS[0]:
        found = " x ".join(map(str, source.shape[2:]))
        remedy = "give larger images (patch_size, val_size), or the weight 0 to this term"
        raise input_error("loss term information", f"at least {WINDOWS[0]} pixels along each axis", found, remedy)
    kept = present = source.new_zeros(source.shape[:2])
    for scale, size in enumerate(WINDOWS):
        if scale:
            if min(source.shape[2:]) < 3 * size - 2:
                break
            source, fused = _halved(source, size), _halved(fused, size)
        moments = local_moments(source, fused, gaussian_window(size, size / 5).to(source))
        kept = kept + kept_information(moments.variance_a, moments.variance_b, moments.covariance)
        present = present + present_information(moments.variance_a)
    return kept / present.clamp_min(1e-6)
