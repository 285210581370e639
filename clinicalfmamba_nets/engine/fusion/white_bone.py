"""A CT as the networks know it: bone white, whatever window it is shown in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.heads import MixHead, mix
from clinicalfmamba_nets.transforms.restore import TISSUE_KEY


@dataclass(frozen=True)
class WhiteBone:
    """The contrast of a CT in a wide window, stretched about soft tissue until bone is white.

    The networks learn from CTs whose bone is white. In a window as wide as that of bone it is darker than the fat of an
    MR, and would be taken for nothing. So the shares of the sources are decided where it is white, and mix the images
    as their windows show them. Source: ours.

    Args:
        levels: what soft tissue and bone of each channel are in the images, (B, 2, 2) in [0, 1]. A channel whose bone
            is white, or no brighter than soft tissue, stays as it is.

    Example:
        >>> white = WhiteBone(torch.tensor([[[0.0, 1.0], [0.3, 0.4]]]))  # an MR, and a CT in the window of bone
        >>> [round(value, 3) for value in white(torch.tensor([[[0.5, 0.5, 0.5], [0.2, 0.3, 0.4]]]))[0, 1].tolist()]
        [0.0, 0.3, 1.0]
    """

    levels: Tensor

    @classmethod
    def of(cls, image: Tensor, network: Callable[..., Tensor]) -> WhiteBone | None:
        """Read from the meta of pairs, (B, 2, *spatial), what `WindowIntensityPair` has recorded.

        Returns:
            None where there is nothing to stretch, or a network does not mix its sources.
        """
        levels = image.meta.get(TISSUE_KEY) if isinstance(image, MetaTensor) and mixes(network) else None
        if levels is None:
            return None
        white = cls(torch.as_tensor(levels).reshape(-1, 2, 2).expand(len(image), 2, 2))
        return white if bool(white._stretched().any()) else None

    def _stretched(self) -> Tensor:
        soft, bone = self.levels.unbind(-1)
        return (soft < bone) & (bone < 1)

    def __call__(self, image: Tensor) -> Tensor:
        """Stretch pairs, (B, 2, *spatial) in [0, 1]; the shape and the range stay."""
        image = image.clone()
        for number, channel in self._stretched().nonzero().tolist():
            soft, bone = self.levels[number, channel].tolist()
            image[number, channel].sub_(soft).mul_((1 - soft) / (bone - soft)).add_(soft).clamp_(0, 1)
        return image

    def seen_by(self, network: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return what mixes pairs by the shares that a network gives to them with white bone."""
        network = _unwrapped(network)
        assert isinstance(network, nn.Module) and isinstance(network.head, MixHead)
        wanted = 2 if network.head.return_weights else 1
        head = copy.copy(network.head)
        head.return_weights = True
        shares_too = copy.copy(network)
        shares_too._modules = {**network._modules, "head": head}

        def mixed(image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            shares = shares_too(self(image), *args, **kwargs)[:, 1:]
            return torch.cat([mix(image, shares), shares.to(image.dtype)], 1)[:, :wanted]

        return mixed


def mixes(network: Callable[..., Tensor]) -> bool:
    """Tell whether a network mixes its sources, be it wrapped or not: other results are not bounded by them."""
    return isinstance(getattr(_unwrapped(network), "head", None), MixHead)


def _unwrapped(network: Any) -> Any:
    """Return the network inside what `torch.compile`, `DataParallel` or `DistributedDataParallel` wrap around it."""
    inner = getattr(network, "_orig_mod", getattr(network, "module", network))
    return network if inner is network else _unwrapped(inner)
