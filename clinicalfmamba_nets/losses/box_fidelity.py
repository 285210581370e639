"""Information and structural similarity in box windows: a tenth of the time of their Gaussian forms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clinicalfmamba_nets.losses.information import LEAST_FIDELITY, kept_information, present_information

LEVELS = 255.0  # of an image in [0, 1]: the noise of the visual information fidelity is told in these
SCALES = ((1, 12, 4), (2, 6, 2), (2, 4, 1), (2, 2, 1))  # how far halved, window and its step in pixels of that scale
SIMILAR = 1  # the scale at which structures are compared
LEAST_SIZE = 16  # pixels along each axis
_MEAN, _SPREAD = (0.01 * LEVELS) ** 2, (0.03 * LEVELS) ** 2  # K1, K2 of SSIM


class BoxFidelity:
    """How much of two sources a fused image lost, by visual information fidelity and by SSIM in box windows.

    Windows of 12, 6, 4 and 2 pixels on an image that is halved before each but the first stand for the Gaussians of
    `information_fidelity`, and every fourth, second, ... place is looked at. Structures are compared at half size. What
    belongs to the sources alone is computed once, for images that are changed step by step. Nothing changes with the
    mirror image where the sides are multiples of 8.

    Source: after Sheikh and Bovik, "Image information and visual quality", IEEE TIP 2006, and Wang et al., "Image
    quality assessment: from error visibility to structural similarity", IEEE TIP 2004.

    Args:
        image: the two sources, (B, 2, H, W) in [0, 1], sides of at least 16 pixels.

    Raises:
        ValueError: a side below 16.

    Example:
        >>> image = torch.rand(1, 1, 32, 32).expand(1, 2, 32, 32)
        >>> information, structure = BoxFidelity(image)(image[:, :1])
        >>> information.item() < 0.01, structure.item() < 1e-6
        (True, True)
    """

    def __init__(self, image: Tensor) -> None:
        if min(image.shape[2:]) < LEAST_SIZE:
            raise ValueError(f"expected at least {LEAST_SIZE} pixels along each axis, found {tuple(image.shape[2:])}")
        self._sources = []
        image = image * LEVELS
        for halved, size, step in SCALES:
            image = functional.avg_pool2d(image, halved) if halved > 1 else image
            mean = functional.avg_pool2d(image, size, step)
            variance = (functional.avg_pool2d(image * image, size, step) - mean * mean).clamp_min(0)
            self._sources.append((image, mean, variance))
        present = [present_information(variance) for _, _, variance in self._sources]
        self._present = torch.stack(present).sum(0).clamp_min(1e-6)

    def __call__(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Tell what is lost of both sources.

        Args:
            fused: (B, 1, H, W) in [0, 1].

        Returns:
            1 - the mean of the roots of both fidelities, and 1 - the mean SSIM to both sources; scalars.
        """
        fused, kept, structure = fused * LEVELS, torch.zeros_like(self._present), fused.new_zeros(())
        for place, ((halved, size, step), (source, mean, variance)) in enumerate(
            zip(SCALES, self._sources, strict=True)
        ):
            fused = functional.avg_pool2d(fused, halved) if halved > 1 else fused
            its_mean = functional.avg_pool2d(fused, size, step)
            its_variance = functional.avg_pool2d(fused * fused, size, step) - its_mean * its_mean
            covariance = functional.avg_pool2d(fused * source, size, step) - its_mean * mean
            kept = kept + kept_information(variance, its_variance, covariance)
            if place == SIMILAR:
                alike = (2 * mean * its_mean + _MEAN) / (mean * mean + its_mean * its_mean + _MEAN)
                structure = 1 - (alike * (2 * covariance + _SPREAD) / (variance + its_variance + _SPREAD)).mean()
        return 1 - (kept / self._present).clamp_min(LEAST_FIDELITY).sqrt().mean(), structure
