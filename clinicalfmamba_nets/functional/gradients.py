"""Sobel gradients of 2D and 3D images, written as shifted sums so that they are cheap on a CPU and differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}


def pad_edges(image: Tensor, margin: int, padding_mode: str = "zeros") -> Tensor:
    """Pad every spatial axis of an image by the same margin on both sides.

    Args:
        image: (B, C, *spatial), 2D or 3D.
        margin: number of pixels to add on each side.
        padding_mode: "zeros", "reflect" (the border pixel is not repeated) or "replicate".

    Returns:
        (B, C, *(spatial + 2 * margin)), the dtype of the input.

    Raises:
        ValueError: for another number of axes, an unknown padding mode, or a reflection wider than the image.

    Example:
        >>> pad_edges(torch.ones(1, 1, 4, 5), 1).shape
        torch.Size([1, 1, 6, 7])
    """
    if image.dim() not in (4, 5):
        raise ValueError(f"image must be (B, C, H, W) or (B, C, H, W, D), got shape {tuple(image.shape)}")
    if padding_mode not in _PAD_MODES:
        raise ValueError(f"padding_mode must be one of {sorted(_PAD_MODES)}, got {padding_mode!r}")
    if padding_mode == "reflect" and min(image.shape[2:]) <= margin:
        raise ValueError(f"an image of {tuple(image.shape[2:])} is too small to reflect {margin} pixels at its border")
    return torch.nn.functional.pad(image, [margin] * (2 * (image.dim() - 2)), mode=_PAD_MODES[padding_mode])


def _difference(image: Tensor, axis: int) -> Tensor:
    """Central difference [-1, 0, 1] along one axis, which becomes two pixels shorter."""
    length = image.shape[axis] - 2
    return image.narrow(axis, 2, length) - image.narrow(axis, 0, length)


def _smoothing(image: Tensor, axis: int) -> Tensor:
    """Binomial sum [1, 2, 1] along one axis, which becomes two pixels shorter."""
    length = image.shape[axis] - 2
    return image.narrow(axis, 0, length) + 2 * image.narrow(axis, 1, length) + image.narrow(axis, 2, length)


def sobel_gradients(image: Tensor, padding_mode: str = "zeros") -> Tensor:
    """Compute the Sobel derivative of an image along each spatial axis.

    The kernel is the separable product of [-1, 0, 1] along the axis and [1, 2, 1] along the others (correlation, so an
    image that rises along an axis has a positive gradient there), not normalized: a ramp of slope 1 has the value 8 in
    2D and 32 in 3D.

    Source: I. Sobel and G. Feldman, "A 3x3 isotropic gradient operator for image processing", 1968.

    Args:
        image: (B, C, *spatial), 2D or 3D, floating point.
        padding_mode: what lies beyond the border: "zeros" (as a padded convolution), "reflect" or "replicate".

    Returns:
        (B, C, spatial_dims, *spatial): index 0 is the derivative along the first spatial axis; dtype of the input.

    Raises:
        ValueError: for another number of axes or an unknown padding mode.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> sobel_gradients(ramp)[0, 0, :, 2, 2]
        tensor([0., 8.])
    """
    padded = pad_edges(image, 1, padding_mode)
    axes = range(2, image.dim())
    gradients = []
    for along in axes:
        gradient = _difference(padded, along)
        for across in axes:
            if across != along:
                gradient = _smoothing(gradient, across)
        gradients.append(gradient)
    return torch.stack(gradients, dim=2)  # (B, C, spatial_dims, *spatial)


def gradient_magnitude(image: Tensor, padding_mode: str = "zeros", norm: int = 2, eps: float = 0.0) -> Tensor:
    """Compute the size of the Sobel gradient.

    Args:
        image: (B, C, *spatial), 2D or 3D, floating point.
        padding_mode: see `sobel_gradients`.
        norm: 1 for the sum of the absolute derivatives (the fusion losses), 2 for the Euclidean length (the metrics).
        eps: added under the square root of norm 2: above 0 the derivative is finite where the image is flat.

    Returns:
        (B, C, *spatial), at least 0.

    Raises:
        ValueError: for a norm other than 1 and 2, or as `sobel_gradients`.

    Example:
        >>> gradient_magnitude(torch.arange(5.0).expand(1, 1, 5, 5))[0, 0, 2, 2]
        tensor(8.)
    """
    if norm not in (1, 2):
        raise ValueError(f"norm must be 1 or 2, got {norm!r}")
    gradients = sobel_gradients(image, padding_mode)
    if norm == 1:
        return gradients.abs().sum(dim=2)
    return gradients.square().sum(dim=2).add(eps).sqrt()
