"""The last layer: from features at full resolution to the fused image."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn


class SigmoidHead(nn.Module):
    """Sigmoid(conv3x3(d)): the image is drawn from the features alone.

    Source: the published code.

    Args:
        spatial_dims: 2 or 3.
        channels: width of the features.

    Example:
        >>> SigmoidHead(2, 8)(torch.rand(1, 8, 9, 7), torch.rand(1, 2, 9, 7)).shape
        torch.Size([1, 1, 9, 7])
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv[Conv.CONV, spatial_dims](channels, 1, 3, padding=1)

    def forward(self, decoded: Tensor, image: Tensor) -> Tensor:
        """(B, C, *S) and the inputs (B, 2, *S) -> (B, 1, *S) in [0, 1]."""
        return torch.sigmoid(self.conv(decoded))


class GainHead(nn.Module):
    """g_x x + g_y y, clipped at 1, with gain maps in [0, 2] that a small convolutional network draws.

    Source: ours. Detail comes from the inputs and not through the latent, so it is sharp from the first epoch; where
    both inputs are black the result is black; a structure in neither input can only arise from a change of gain.
    The gradient passes the clipping unchanged, so a pixel above 1 is still pulled down.

    Args:
        spatial_dims: 2 or 3.
        channels: width of the features.

    Example:
        >>> GainHead(2, 8)(torch.rand(1, 8, 9, 7), torch.rand(1, 2, 9, 7)).shape
        torch.Size([1, 1, 9, 7])
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.refine = nn.Sequential(
            conv(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            conv(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.conv = conv(channels, 2, 3, padding=1)
        nn.init.constant_(self.conv.bias, -1.0)  # gains of about 0.54: near the average image at the start

    def forward(self, decoded: Tensor, image: Tensor) -> Tensor:
        """(B, C, *S) and the inputs (B, 2, *S) -> (B, 1, *S) in [0, 1]."""
        gains = 2.0 * torch.sigmoid(self.conv(self.refine(decoded)))  # (B, 2, *S)
        fused = (gains * image).sum(1, keepdim=True)
        return fused - (fused - 1.0).clamp(min=0.0).detach()
