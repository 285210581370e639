"""Layers that are watched by hooks (Grad-CAM, feature extraction) and what must not be done behind their back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as all_modules

_KINDS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def watched(layer: nn.Module) -> bool:
    """Tell whether a hook waits for a layer to be called.

    A shortcut that computes the same number without calling the layer is taken only where nobody waits.

    Args:
        layer: any module.

    Returns:
        True where the layer, or every module, has a hook.

    Example:
        >>> layer = nn.ReLU()
        >>> handle = layer.register_forward_hook(lambda layer, args, output: None)
        >>> watched(layer), watched(nn.ReLU())
        (True, False)
    """
    return any(getattr(layer, kind) or getattr(all_modules, f"_global{kind}") for kind in _KINDS)


class LeakyReLUAfter(nn.LeakyReLU):
    """Leaky ReLU in the memory of its input, the result of another layer, unless a hook watches either of the two.

    Args:
        source: the layer whose result is activated, and which nobody else reads.
        negative_slope: of the activation.

    Example:
        >>> conv = nn.Conv2d(1, 4, 3)
        >>> LeakyReLUAfter(conv, 0.2)(conv(torch.rand(1, 1, 5, 5))).shape
        torch.Size([1, 4, 3, 3])
    """

    def __init__(self, source: nn.Module, negative_slope: float) -> None:
        super().__init__(negative_slope, inplace=True)
        self._source = (source,)  # in a tuple: not a part of this layer

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if watched(self) or watched(self._source[0]):
                return F.leaky_relu(input, self.negative_slope)
        return F.leaky_relu(input, self.negative_slope, inplace=True)
