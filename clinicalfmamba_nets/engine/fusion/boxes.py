"""Which part of an image a network must compute: the box around what is no background, and what lies outside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FAINT = 0.08  # share of the range: the mean of 5 x 5 pixels below it is air, with its noise
GRID = 8  # pixels: the greatest stride of our networks
_WINDOW = 5
Box = tuple[slice, ...]


def head_mask(image: Tensor) -> Tensor:
    """Mark what is no background: where the mean of 5 x 5 pixels of a source exceeds 0.08 of the range.

    Args:
        image: slices of pairs, (B, 2, *S, H, W) in [0, 1].

    Returns:
        (*S, H, W) bool, on the CPU: marked in any pair of the batch.

    Example:
        >>> image = torch.zeros(1, 2, 9, 9)
        >>> image[0, 1, 4, 4] = 1.0  # a single bright pixel is noise
        >>> head_mask(image).any().item(), head_mask(2 * image + 0.1).all().item()
        (False, True)
    """
    planes = image.amax(0).reshape(2, -1, *image.shape[-2:])  # (2, S, H, W)
    smooth = F.avg_pool2d(planes.float(), _WINDOW, 1, _WINDOW // 2, count_include_pad=False)
    return (smooth > FAINT).any(0).reshape(image.shape[2:]).cpu()


def box_around(mask: Tensor, margins: Sequence[int], grid: int = 1) -> Box:
    """Return the box around what is marked, with margins.

    A network with strides gives other results where their grid lies otherwise over the image, by up to half the range
    at single pixels. So the box begins and ends at multiples of `grid`, as far as the image goes. A side has at least
    four margins: a network needs some.

    Args:
        mask: (*S) bool.
        margins: pixels around the box that are taken as well, for each axis; 0 takes the axis as it is marked.
        grid: pixels, of every axis that has a margin.

    Returns:
        A slice for each axis; the whole axes where nothing is marked.

    Example:
        >>> mask = torch.zeros(100, dtype=torch.bool)
        >>> mask[40:70] = True
        >>> box_around(mask, [10]), box_around(mask, [10], GRID)
        ((slice(30, 80, None),), (slice(24, 80, None),))
    """
    seen, box = mask.numpy(), []  # whose `any` over axes of any order takes a seventh of torch's time
    for axis, (size, margin) in enumerate(zip(seen.shape, margins, strict=True)):
        places = np.flatnonzero(seen.any(axis=tuple(other for other in range(seen.ndim) if other != axis)))
        first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, size)
        if margin:
            around = max(margin, math.ceil((4 * margin - (last - first)) / 2))
            first, last = (first - around) // grid * grid, math.ceil((last + around) / grid) * grid
        box.append(slice(max(first, 0), min(last, size)))
    return tuple(box)


def inside(image: Tensor, box: Box) -> Tensor:
    """A view of (B, C, *S) inside a box."""
    return image[(slice(None), slice(None), *box)]


class Background:
    """The air outside the boxes: the mix of the sources that the network makes of the air inside them.

    Example:
        >>> image, air = torch.tensor([[[0.0, 0.02]], [[0.04, 0.0]]]).unsqueeze(0), torch.ones(1, 2, dtype=torch.bool)
        >>> background = Background()
        >>> background.add(image[:, :1], image, air)
        >>> background.weight
        1.0
    """

    def __init__(self) -> None:
        self._products = torch.zeros(2, dtype=torch.float64)

    def add(self, fused: Tensor, image: Tensor, air: Tensor) -> None:
        """Learn from the results (B, 1 or 2, *S) of pairs (B, 2, *S) where `air`, (*S), is True."""
        apart = ((image[:, 0] - image[:, 1]) * air).double()
        taken = ((fused[:, 0] - image[:, 1]) * air).double()
        self._products += torch.stack([(taken * apart).sum(), apart.square().sum()]).cpu()

    @property
    def weight(self) -> float:
        """Share of the first source, in [0, 1]; one half where the sources have no air, or the same."""
        taken, apart = self._products.tolist()
        return min(max(taken / apart, 0.0), 1.0) if apart > 0 else 0.5

    def fill(self, fused: Tensor, image: Tensor, box: Box | None) -> None:
        """Fill what lies outside a box in results (B, 1 or 2, *S), weights second, of pairs (B, 2, *S)."""
        kept = None if box is None else inside(fused, box).clone()
        fused[:, 0] = torch.lerp(image[:, 1], image[:, 0], self.weight)
        fused[:, 1:] = self.weight
        if box is not None and kept is not None:
            inside(fused, box).copy_(kept)
