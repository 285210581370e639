"""Dense convolutions beside trainable derivatives: the local branch of networks that keep edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sobel_kernel(spatial_dims: int, axis: int) -> Tensor:
    """Kernel of the derivative along one axis, 3 taps on each, not normalized.

    Args:
        spatial_dims: number of axes.
        axis: the one along which the derivative is taken.

    Returns:
        (3, ) * spatial_dims.

    Example:
        >>> sobel_kernel(2, 1)[0]
        tensor([-1.,  0.,  1.])
    """
    kernel = torch.ones([1] * spatial_dims)
    for along in range(spatial_dims):
        taps = torch.tensor([-1.0, 0.0, 1.0] if along == axis else [1.0, 2.0, 1.0])
        shape = [1] * spatial_dims
        shape[along] = 3
        kernel = kernel * taps.view(shape)
    return kernel


class GradientDenseBlock(nn.Module):
    """A dense block of two convolutions plus depthwise derivatives that start as Sobel's and are trained.

    Source: the local branch of "MRSCFusion", Xie et al., IEEE Trans. Instrum. Meas. 72 (2023) 5026917.

    Args:
        channels: width C.

    Example:
        >>> GradientDenseBlock(4)(torch.rand(1, 4, 6, 7)).shape
        torch.Size([1, 4, 6, 7])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.dense_out = nn.Conv2d(3 * channels, channels, 1)
        self.sobel = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False) for _ in range(2)]
        )
        self.sobel_out = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():
            for axis, weight in enumerate(self.sobel.parameters()):
                weight.copy_(sobel_kernel(2, axis).expand_as(weight))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        grown = torch.cat([x, F.leaky_relu(self.first(x), 0.2)], 1)  # (B, 2C, H, W)
        grown = torch.cat([grown, F.leaky_relu(self.second(grown), 0.2)], 1)  # (B, 3C, H, W)
        edges = torch.zeros_like(x)
        for derivative in self.sobel:
            edges = edges + derivative(x).abs()
        return F.leaky_relu(self.dense_out(grown) + self.sobel_out(edges), 0.2)  # (B, C, H, W)
