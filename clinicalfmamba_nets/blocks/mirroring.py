"""Images of any size for layers that need sizes divisible by a number: the padding of all comparison networks."""

from __future__ import annotations

import torch
from torch import Tensor


def reflect_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Mirror an image about its last row and column, border included, up to a multiple of a size.

    Args:
        image: (B, C, H, W) of any size.
        multiple: what both sizes shall be divisible by.

    Returns:
        (B, C, H', W'), the image itself where nothing is missing.

    Example:
        >>> reflect_to_multiple(torch.arange(3.0).view(1, 1, 1, 3), 4)[0, 0, 0]
        tensor([0., 1., 2., 2.])
    """
    for axis in (2, 3):
        size = image.shape[axis]
        padded = (size + multiple - 1) // multiple * multiple
        if padded != size:
            place = torch.arange(padded, device=image.device) % (2 * size)
            image = image.index_select(axis, torch.minimum(place, 2 * size - 1 - place))  # this axis: padded
    return image
