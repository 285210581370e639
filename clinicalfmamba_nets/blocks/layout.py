"""The order of the numbers of feature maps in memory: channels last is what CPU convolutions are fastest on.

The shape stays (B, C, *S); only the strides tell. Each layer keeps the order that it is given.
"""

from __future__ import annotations

from torch import Tensor


def with_channels_last(x: Tensor) -> Tensor:
    """Channel-less maps (B, *S) as (B, 1, *S), ordered so that a convolution's result has its channels last.

    Example:
        >>> import torch
        >>> with_channels_last(torch.rand(2, 5, 7)).stride()
        (35, 1, 7, 1)
    """
    return x.unsqueeze(-1).movedim(-1, 1)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel of maps (B, C, *S) are next to each other in memory.

    Example:
        >>> import torch
        >>> is_channels_last(torch.rand(2, 3, 5, 7)), is_channels_last(torch.rand(2, 5, 7, 3).movedim(-1, 1))
        (False, True)
    """
    return x.stride(1) == 1


def empty_maps(x: Tensor, channels: int, sizes: list[int]) -> Tensor:
    """Room for (B, channels, *sizes) in the order of maps x.

    Example:
        >>> import torch
        >>> empty_maps(torch.rand(2, 3, 5, 7), 4, [10, 14]).shape
        torch.Size([2, 4, 10, 14])
    """
    if is_channels_last(x):
        return x.new_empty([x.shape[0]] + sizes + [channels]).movedim(-1, 1)
    return x.new_empty([x.shape[0], channels] + sizes)


def select(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """Rows of maps (B, C, *S) along a spatial axis >= 2, in the order of the maps.

    Example:
        >>> import torch
        >>> select(torch.rand(2, 3, 5, 7), 3, torch.arange(4)).shape
        torch.Size([2, 3, 5, 4])
    """
    if is_channels_last(x):
        return x.movedim(1, -1).index_select(axis - 1, index).movedim(-1, 1)
    return x.index_select(axis, index)
