"""The shares of the sources that a network gives to pairs as they are best decided, mixing the pairs as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.heads import MixHead, mix

Change = Callable[[Tensor], Tensor]


def mixes(network: Callable[..., Tensor]) -> bool:
    """Tell whether a network mixes its sources, be it wrapped or not: other results are not bounded by them."""
    return isinstance(getattr(_unwrapped(network), "head", None), MixHead)


class Shares:
    """The shares of the first source that a network gives to pairs.

    Args:
        network: one that mixes its sources (`mixes`).
    """

    def __init__(self, network: Callable[..., Tensor]) -> None:
        network = _unwrapped(network)
        assert isinstance(network, nn.Module) and isinstance(network.head, MixHead)
        self.channels = 2 if network.head.return_weights else 1
        head = copy.copy(network.head)
        head.return_weights = True
        self._network = copy.copy(network)
        self._network._modules = {**network._modules, "head": head}

    def __call__(self, image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the shares, (B, 1, *spatial), that pairs (B, 2, *spatial) in [0, 1] get."""
        return self._network(image, *args, **kwargs)[:, 1:]

    def mixed(self, image: Tensor, shares: Tensor) -> Tensor:
        """Mix pairs (B, 2, *spatial) by shares into what the network gives, the shares second where it gives them."""
        return torch.cat([mix(image, shares), shares.to(image.dtype)], 1)[:, : self.channels]


def mixed_by_shares(network: Callable[..., Tensor], change: Change) -> Callable[..., Tensor]:
    """Return what mixes pairs by the shares that a network gives to the changed ones.

    Args:
        network: one that mixes its sources (`mixes`).
        change: of pairs, (B, 2, *spatial) in [0, 1], into such that the shares are better decided by.

    Returns:
        What maps pairs to results of the network's channels.
    """
    shares = Shares(network)

    def mixed(image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return shares.mixed(image, shares(change(image), *args, **kwargs))

    return mixed


def _unwrapped(network: Any) -> Any:
    """Return the network inside what `torch.compile`, `DataParallel` or `DistributedDataParallel` wrap around it."""
    inner = getattr(network, "_orig_mod", getattr(network, "module", network))
    return network if inner is network else _unwrapped(inner)
