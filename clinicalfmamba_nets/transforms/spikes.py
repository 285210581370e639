"""Single voxels far above everything else: kept out of the network's input, where they would change the whole image."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

# A spike lies above the window by this many times its width, alone among its neighbors.
BEYOND = 4.0
_MOST = 16  # more of them are no spikes


def find_spikes(values: Tensor, low: float, high: float) -> Tensor:
    """Find single voxels far above a window whose neighbors all lie inside it.

    Args:
        values: (*spatial), 2D or 3D, in the units of the window.
        low: lower end of the window.
        high: upper end.

    Returns:
        Places in the flattened image, (N,) int64; none where there are more than 16.

    Example:
        >>> image = torch.ones(5, 5)
        >>> image[2, 3] = 900.0
        >>> find_spikes(image, 0.0, 2.0).tolist()
        [13]
    """
    places = torch.nonzero(values > high + BEYOND * (high - low))
    if not 0 < len(places) <= _MOST:
        return torch.empty(0, dtype=torch.int64)
    alone = [place for place in places.tolist() if float(_around(values, place).max()) <= high]
    strides = [int(torch.tensor(values.shape[axis + 1 :]).prod()) for axis in range(values.dim())]
    flat = [sum(index * stride for index, stride in zip(place, strides, strict=True)) for place in alone]
    return torch.tensor(flat, dtype=torch.int64)


def soften_spikes(scaled: Tensor, places: Tensor) -> None:
    """Give spikes the median of their neighbors, in place.

    Args:
        scaled: (*spatial), contiguous.
        places: of `find_spikes`.
    """
    for place in places.tolist():
        index = [int(part) for part in torch.unravel_index(torch.tensor(place), scaled.shape)]
        scaled.view(-1)[place] = _around(scaled, index).median()


def _around(values: Tensor, place: list[int]) -> Tensor:
    """Return the neighbors of a voxel, itself left out."""
    found = []
    for step in itertools.product((-1, 0, 1), repeat=values.dim()):
        index = [part + move for part, move in zip(place, step, strict=True)]
        if any(step) and all(0 <= part < side for part, side in zip(index, values.shape, strict=True)):
            found.append(values[tuple(index)])
    return torch.stack(found) if found else values.new_zeros(1)
