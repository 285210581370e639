"""Fusion without learning: average, maximum, Laplacian pyramid, guided filter; what a user has anyway, as networks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from clinicalfmamba_nets.functional.ranges import InputCheck


class _Baseline(nn.Module, ABC):
    """Base of the parameter-free fusions: checks the input and limits the output to [0, 1].

    Args:
        spatial_dims: 2 or 3.

    Raises:
        ValueError: for another number of spatial dimensions.
    """

    def __init__(self, spatial_dims: int = 2) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims!r}")
        self.spatial_dims, self.check_input = spatial_dims, InputCheck()

    def forward(self, image: Tensor) -> Tensor:
        """Fuse the two channels of an image.

        Args:
            image: (B, 2, *spatial) in [0, 1].

        Returns:
            (B, 1, *spatial) in [0, 1].

        Raises:
            ValueError: for another shape, or no floating-point values.
        """
        if not isinstance(image, Tensor):
            raise ValueError(f"image: expected a tensor (B, 2, *S), found {type(image)}; torch.as_tensor makes one")
        if image.dim() != self.spatial_dims + 2 or image.shape[1] != 2:
            wanted = "(B, 2, H, W)" if self.spatial_dims == 2 else "(B, 2, H, W, D)"
            raise ValueError(f"image must be {wanted}, got shape {tuple(image.shape)}")
        if not image.is_floating_point():
            raise ValueError(
                f"image: expected floating-point values in [0, 1], found {image.dtype}; divide by its white"
            )
        if not torch.jit.is_scripting():
            self.check_input(image)
        return self._fuse(image[:, :1], image[:, 1:]).clamp(0, 1)

    @abstractmethod
    def _fuse(self, image_a: Tensor, image_b: Tensor) -> Tensor:
        """The rule: twice (B, 1, *spatial) -> (B, 1, *spatial), before clipping."""


class AverageFusion(_Baseline):
    """Mean of the two sources.

    Args:
        spatial_dims: 2 or 3.

    Example:
        >>> AverageFusion()(torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)).item()
        0.5
    """

    def _fuse(self, image_a: Tensor, image_b: Tensor) -> Tensor:
        return (image_a + image_b) / 2


class MaximumFusion(_Baseline):
    """Brighter of the two sources at each pixel.

    Args:
        spatial_dims: 2 or 3.

    Example:
        >>> MaximumFusion()(torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)).item()
        1.0
    """

    def _fuse(self, image_a: Tensor, image_b: Tensor) -> Tensor:
        return torch.maximum(image_a, image_b)


def _reflect(image: Tensor, axis: int, margin: int) -> Tensor:
    """Lengthen one axis by a margin on both sides, reflecting as often as the margin needs."""
    length = image.shape[axis]
    period = max(2 * (length - 1), 1)
    folded = torch.arange(-margin, length + margin, device=image.device).remainder(period)
    return image.index_select(axis, torch.minimum(folded, period - folded).clamp(max=length - 1))


def _smooth(image: Tensor, window: Tensor) -> Tensor:
    """Correlate (B, 1, *spatial) with an odd window along every spatial axis, borders reflected."""
    convolve = functional.conv2d if image.dim() == 4 else functional.conv3d
    for axis in range(2, image.dim()):
        shape = [1] * image.dim()
        shape[axis] = window.numel()
        image = convolve(_reflect(image, axis, window.numel() // 2), window.to(image).view(shape))
    return image


def _box_mean(image: Tensor, radius: int) -> Tensor:
    """Mean over a box of 2 * radius + 1 pixels along every spatial axis, borders reflected, by running sums."""
    size = 2 * radius + 1
    for axis in range(2, image.dim()):
        length = image.shape[axis]
        sums = _reflect(image, axis, radius).cumsum(axis).movedim(axis, -1)
        sums = functional.pad(sums, [1, 0]).movedim(-1, axis)
        image = (sums.narrow(axis, size, length) - sums.narrow(axis, 0, length)) / size
    return image


def _every_second(image: Tensor) -> Tensor:
    """View of every second pixel along each spatial axis."""
    step = slice(None, None, 2)
    return image[..., step, step] if image.dim() == 4 else image[..., step, step, step]


class LaplacianPyramidFusion(_Baseline):
    """Four levels of detail, the stronger coefficient of the two at each; mean (or maximum) of what remains.

    Source: Burt and Adelson, "The Laplacian pyramid as a compact image code", IEEE Trans. Commun. 1983; Burt, "The
    pyramid as a structure for efficient computation", 1984. Window [1, 4, 6, 4, 1] / 16, borders reflected.

    Args:
        spatial_dims: 2 or 3.
        levels: largest number of detail levels; a small image has fewer.
        base: "mean" or "max", how the coarsest images are joined: the maximum keeps bone brighter.

    Raises:
        ValueError: for an unknown base or fewer than 1 level.

    Example:
        >>> LaplacianPyramidFusion()(torch.rand(1, 2, 37, 50)).shape
        torch.Size([1, 1, 37, 50])
    """

    def __init__(self, spatial_dims: int = 2, levels: int = 4, base: str = "mean") -> None:
        super().__init__(spatial_dims)
        if base not in ("mean", "max"):
            raise ValueError(f"base must be 'mean' or 'max', got {base!r}")
        if levels < 1:
            raise ValueError(f"levels must be at least 1, got {levels!r}")
        self.levels = levels
        self.base = base

    @staticmethod
    def _binomial(image: Tensor) -> Tensor:
        return _smooth(image, image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16)

    def _reduce(self, image: Tensor) -> Tensor:
        return _every_second(self._binomial(image))

    def _expand(self, image: Tensor, like: Tensor) -> Tensor:
        spread = torch.zeros_like(like)
        _every_second(spread).copy_(image * 2**self.spatial_dims)
        return self._binomial(spread)

    def _fuse(self, image_a: Tensor, image_b: Tensor) -> Tensor:
        details = []
        for _ in range(self.levels):
            if min(image_a.shape[2:]) < 4:
                break
            coarse_a, coarse_b = self._reduce(image_a), self._reduce(image_b)
            detail_a = image_a - self._expand(coarse_a, image_a)
            detail_b = image_b - self._expand(coarse_b, image_b)
            details.append(torch.where(detail_a.abs() >= detail_b.abs(), detail_a, detail_b))
            image_a, image_b = coarse_a, coarse_b
        fused = torch.maximum(image_a, image_b) if self.base == "max" else (image_a + image_b) / 2
        for detail in reversed(details):
            fused = self._expand(fused, detail) + detail
        return fused


class GuidedFilterFusion(_Baseline):
    """Base and detail layers, each blended with saliency weights that a guided filter fits to the edges.

    Source: Li, Kang and Hu, "Image fusion with guided filtering", IEEE TIP 2013, with its parameters: mean filter 31,
    guided filters of radius 45, 0.3 (base) and 7, 1e-6 (detail), saliency by a Laplacian under a Gaussian of 11 pixels
    and sigma 5. Where both saliencies are 0, as in saturated bone, the brighter source is chosen.

    Args:
        spatial_dims: 2 or 3.

    Example:
        >>> GuidedFilterFusion()(torch.rand(1, 2, 40, 33)).shape
        torch.Size([1, 1, 40, 33])
    """

    def _saliency(self, image: Tensor) -> Tensor:
        """Smoothed size of the Laplacian over all neighbors of a pixel."""
        size = 3**self.spatial_dims
        laplacian = (_smooth(image, image.new_ones(3)) - size * image).abs()
        offsets = torch.arange(11, dtype=torch.float64, device=image.device) - 5
        window = torch.exp(-0.5 * (offsets / 5) ** 2)
        return _smooth(laplacian, (window / window.sum()).float())

    @staticmethod
    def _guided(guide: Tensor, weight: Tensor, radius: int, eps: float) -> Tensor:
        """Local linear fit of a weight map to a guide image (He, Sun and Tang, ECCV 2010)."""
        mean_guide, mean_weight = _box_mean(guide, radius), _box_mean(weight, radius)
        covariance = _box_mean(guide * weight, radius) - mean_guide * mean_weight
        variance = (_box_mean(guide * guide, radius) - mean_guide * mean_guide).clamp(min=0)
        slope = covariance / (variance + eps)
        offset = mean_weight - slope * mean_guide
        return (_box_mean(slope, radius) * guide + _box_mean(offset, radius)).clamp(0, 1)

    def _share(self, image_a: Tensor, image_b: Tensor, chosen: Tensor, radius: int, eps: float) -> Tensor:
        """Weight of the first source after the guided filter, the two weights scaled to sum 1."""
        weight_a = self._guided(image_a, chosen, radius, eps)
        weight_b = self._guided(image_b, 1 - chosen, radius, eps)
        return (weight_a + 1e-6) / (weight_a + weight_b + 2e-6)

    def _fuse(self, image_a: Tensor, image_b: Tensor) -> Tensor:
        a, b = image_a.double(), image_b.double()  # a variance below 1e-6 is lost in single precision
        base_a, base_b = _box_mean(a, 15), _box_mean(b, 15)
        advantage = self._saliency(a) - self._saliency(b)
        brighter = (advantage.abs() < 1e-9) & (a > b)
        chosen = ((advantage >= 1e-9) | brighter).to(a.dtype)
        base = torch.lerp(base_b, base_a, self._share(a, b, chosen, 45, 0.3))
        detail = torch.lerp(b - base_b, a - base_a, self._share(a, b, chosen, 7, 1e-6))
        return (base + detail).to(image_a.dtype)
