"""Cross-modal channel attention (CMCA): each image's shallow features choose channels of the other's."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn


class CrossModalChannelAttention(nn.Module):
    """d + g(f_x, f_y) + g(f_y, f_x) with g(a, b) = Q(b) * sigmoid(max(R(a)) + mean(R(a))) per channel.

    Source: "ClinicalFMamba", arXiv 2508.03008, section 2.4. The paper writes 3x3 convolutions and adds to the latent;
    the published code has 1x1 convolutions without bias on the features of the first convolution, at full resolution,
    and one module for both directions. ``kernel_size`` 3 gives the paper's size.

    Args:
        spatial_dims: 2 or 3.
        channels: width C.
        kernel_size: of Q and R.

    Example:
        >>> f = torch.rand(1, 8, 9, 7)
        >>> CrossModalChannelAttention(2, 8)(f, f, f).shape
        torch.Size([1, 8, 9, 7])
    """

    def __init__(self, spatial_dims: int, channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.reference = conv(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.query = conv(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, decoded: Tensor, f_x: Tensor, f_y: Tensor) -> Tensor:
        """Three times (B, C, *S) -> (B, C, *S)."""
        return decoded + self._exchange(f_x, f_y) + self._exchange(f_y, f_x)

    def _exchange(self, chooser: Tensor, chosen: Tensor) -> Tensor:
        spatial = list(range(2, chooser.dim()))
        response = self.reference(chooser)
        weight = torch.sigmoid(response.amax(spatial, keepdim=True) + response.mean(spatial, keepdim=True))
        return self.query(chosen) * weight
