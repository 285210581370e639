"""Where images have structures that a fused image should keep: flat bright regions, spots that stand alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.functional.windows import filter_separable

FLAT_WINDOW, FLAT_RANGE, APART = 5, 0.02, 0.3
CROWD_WINDOW, CROWDED = 31, 0.12  # spots that fill this share of the window are texture, or the skull


def dilated(image: Tensor, size: int) -> Tensor:
    """Maximum over a square or cubic window, one axis after the other.

    Args:
        image: (B, C, *S), 2D or 3D.
        size: side of the window, odd.

    Returns:
        The same shape.

    Example:
        >>> dilated(torch.eye(3).view(1, 1, 3, 3), 3).sum().item()
        9.0
    """
    if not (torch.is_grad_enabled() and image.requires_grad):
        for axis in range(2, image.dim()):
            image = _greatest_along(image, axis, size)
        return image
    pool = F.max_pool2d if image.dim() == 4 else F.max_pool3d
    dims = image.dim() - 2
    for axis in range(dims):
        window = [size if other == axis else 1 for other in range(dims)]
        image = pool(image, window, 1, [extent // 2 for extent in window])
    return image


def _greatest_along(image: Tensor, axis: int, size: int) -> Tensor:
    """Maximum over windows of `size` pixels along an axis, from windows of 2, 4, 8: a tenth of a pooling's time."""
    beyond = list(image.shape)
    beyond[axis] = size // 2
    border = image.new_full(beyond, -torch.inf)
    image, width = torch.cat([border, image, border], axis), 1
    while width < size:
        step = min(width, size - width)
        rest = image.shape[axis] - step
        image = torch.maximum(image.narrow(axis, 0, rest), image.narrow(axis, step, rest))
        width += step
    return image


def opened(image: Tensor, size: int) -> Tensor:
    """Opening with a square or cubic window: the image without bright spots that are narrower than it.

    Args:
        image: (B, C, *S), 2D or 3D.
        size: side of the window, odd.

    Returns:
        The same shape.

    Example:
        >>> opened(torch.eye(3).view(1, 1, 3, 3), 3).sum().item()
        0.0
    """
    return dilated(-dilated(-image, size), size)


def alone(places: Tensor) -> Tensor:
    """Tell how far marked places are alone: the more there are within 31 pixels, the less, and not at 12 percent.

    Args:
        places: (B, C, *S), 1 where there is one, else 0.

    Returns:
        The same shape, from 0 to 1; equal to the bit over the mirror image.

    Example:
        >>> alone(torch.eye(41).view(1, 1, 41, 41))[0, 0, 20, 20].item() > 0.7
        True
    """
    count = filter_separable(places, torch.ones(CROWD_WINDOW), "replicate")
    most = CROWDED * CROWD_WINDOW ** (places.dim() - 2)
    return (1 - count / most).clamp_min(0)


def plateaus(image: Tensor) -> Tensor:
    """Mark where the brighter source is flat and the other one far darker: inside of bone, a bleeding, tracer.

    Flat is a range below 0.02 within 5 pixels along each axis, far a difference above 0.3.

    Args:
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        (B, 1, *S) bool.

    Example:
        >>> plateaus(torch.stack([torch.zeros(9, 9), torch.ones(9, 9)]).unsqueeze(0)).all().item()
        True
    """
    brighter, which = image.max(1, keepdim=True)
    extent = dilated(image, FLAT_WINDOW) + dilated(-image, FLAT_WINDOW)  # maximum - minimum
    return (extent.gather(1, which) < FLAT_RANGE) & (brighter - image.amin(1, keepdim=True) > APART)
