"""Separable smoothing windows and the local statistics that SSIM, VIF and the guided filter are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .gradients import pad_edges
from .precision import without_autocast


class LocalMoments(NamedTuple):
    """Local means, variances and covariance of two images under one window, each (B, C, *spatial)."""

    mean_a: Tensor
    mean_b: Tensor
    variance_a: Tensor
    variance_b: Tensor
    covariance: Tensor


def gaussian_window(size: int, sigma: float, dtype: torch.dtype = torch.float32, device=None) -> Tensor:
    """Sample a centered one-dimensional Gaussian of unit sum.

    Args:
        size: number of taps, at least 1.
        sigma: standard deviation in pixels, above 0.
        dtype: dtype of the result.
        device: device of the result.

    Returns:
        (size,) with sum 1.

    Raises:
        ValueError: if size or sigma is not positive.

    Example:
        >>> gaussian_window(3, 1.0)
        tensor([0.2741, 0.4519, 0.2741])
    """
    if size < 1 or sigma <= 0:
        raise ValueError(f"a Gaussian window needs a size of at least 1 and a sigma above 0, got {size} and {sigma}")
    distance = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-0.5 * (distance / sigma) ** 2)
    return (window / window.sum()).to(dtype=dtype, device=device)


def box_window(size: int, dtype: torch.dtype = torch.float32, device=None) -> Tensor:
    """Make a one-dimensional window of equal weights and unit sum.

    Args:
        size: number of taps.
        dtype: dtype of the result.
        device: device of the result.

    Returns:
        (size,) with sum 1.

    Example:
        >>> box_window(4)
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return torch.full((size,), 1.0 / size, dtype=dtype, device=device)


@without_autocast
def filter_separable(image: Tensor, window: Tensor, padding_mode: str = "valid") -> Tensor:
    """Correlate an image with one window along every spatial axis.

    Args:
        image: (B, C, *spatial), 2D or 3D, floating point.
        window: (size,) taps, cast to the image's dtype and device.
        padding_mode: "valid" (only whole windows; each axis becomes size - 1 shorter), or "zeros", "reflect",
            "replicate", which keep the size and need an odd window.

    Returns:
        (B, C, *spatial), each axis shorter by size - 1 for "valid".

    Raises:
        ValueError: if the image is smaller than the window ("valid"), or an even window is to keep the size.

    Example:
        >>> filter_separable(torch.ones(1, 1, 8, 9), box_window(3)).shape
        torch.Size([1, 1, 6, 7])
    """
    size = window.numel()
    if padding_mode == "valid":
        if min(image.shape[2:]) < size:
            raise ValueError(f"an image of {tuple(image.shape[2:])} is smaller than the window of {size}")
    elif size % 2 == 0:
        raise ValueError(f"a window of {size} taps has no center: use an odd one or padding_mode='valid'")
    else:
        image = pad_edges(image, size // 2, padding_mode)
    spatial_dims = image.dim() - 2
    convolve = functional.conv2d if spatial_dims == 2 else functional.conv3d
    taps = window.to(dtype=image.dtype, device=image.device)
    filtered = image.flatten(0, 1).unsqueeze(1)  # (B * C, 1, *spatial)
    for axis in range(spatial_dims):
        shape = [1, 1] + [1] * spatial_dims
        shape[2 + axis] = size
        filtered = convolve(filtered, taps.view(shape))
    return filtered.view(*image.shape[:2], *filtered.shape[2:])


def local_moments(image_a: Tensor, image_b: Tensor, window: Tensor, padding_mode: str = "valid") -> LocalMoments:
    """Compute the weighted local means, variances and covariance of two images.

    The variances are the window's second moments about its mean (weights of unit sum, no n - 1), clamped at 0 against
    rounding.

    Args:
        image_a: (B, C, *spatial).
        image_b: the same shape.
        window: (size,) taps of unit sum, applied along every axis.
        padding_mode: see `filter_separable`.

    Returns:
        The five maps.

    Raises:
        ValueError: if the shapes differ, or as `filter_separable`.

    Example:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> moments = local_moments(image, image, gaussian_window(11, 1.5))
        >>> torch.allclose(moments.variance_a, moments.covariance, atol=1e-6)
        True
    """
    if image_a.shape != image_b.shape:
        raise ValueError(f"the two images must agree in shape, got {tuple(image_a.shape)} and {tuple(image_b.shape)}")
    channels = image_a.shape[1]
    products = (image_a, image_b, image_a * image_a, image_b * image_b, image_a * image_b)
    filtered = filter_separable(torch.cat(products, dim=1), window, padding_mode)  # (B, 5 * C, *spatial)
    mean_a, mean_b, square_a, square_b, product = filtered.split(channels, dim=1)
    return LocalMoments(
        mean_a=mean_a,
        mean_b=mean_b,
        variance_a=(square_a - mean_a * mean_a).clamp(min=0),
        variance_b=(square_b - mean_b * mean_b).clamp(min=0),
        covariance=product - mean_a * mean_b,
    )
