"""The first stage of networks that are trained as auto-encoders of single images."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class SingleImageReconstruction(nn.Module):
    """The auto-encoder of a fusion network as a network of its own: each image comes back.

    Args:
        network: the network whose weights are trained, such as `EHDRAN` or `MRSCFusion`: it has `reconstruct`.

    Example:
        >>> import torch
        >>> from clinicalfmamba_nets.nets import EHDRAN
        >>> SingleImageReconstruction(EHDRAN(features=4))(torch.rand(1, 2, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, C, *spatial) for (B, C, *spatial)."""
        return self.network.reconstruct(image)
