"""Convolutions of feature maps that take the native kernel, with its gradients, where it serves."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinicalfmamba_nets.ops import trained_conv, trains_maps


class _Maps:
    """What convolutions of images and of volumes share."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, padding=dilation, dilation=dilation)  # type: ignore[call-arg]


class MapsConv2d(_Maps, nn.Conv2d):
    """A convolution of 3 x 3 pixels, padded with zeros to keep the size.

    Args:
        in_channels: C.
        out_channels: C'.
        dilation: distance of the taps in pixels.

    Example:
        >>> MapsConv2d(16, 32, dilation=3)(torch.rand(1, 16, 9, 7)).shape
        torch.Size([1, 32, 9, 7])
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if bias is not None and trains_maps(input, weight, bias):
                return trained_conv(input, weight, bias, self.dilation[0])
        return F.conv2d(input, weight, bias, padding=self.padding, dilation=self.dilation)


class MapsConv3d(_Maps, nn.Conv3d):
    """A convolution of 3 x 3 x 3 voxels, padded with zeros to keep the size.

    Args:
        in_channels: C.
        out_channels: C'.
        dilation: distance of the taps in voxels.

    Example:
        >>> MapsConv3d(16, 32)(torch.rand(1, 16, 3, 9, 7)).shape
        torch.Size([1, 32, 3, 9, 7])
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if bias is not None and trains_maps(input, weight, bias):
                return trained_conv(input, weight, bias, self.dilation[0])
        return F.conv3d(input, weight, bias, padding=self.padding, dilation=self.dilation)


def maps_conv(spatial_dims: int, in_channels: int, out_channels: int, dilation: int = 1) -> Any:
    """Return the convolution of images, a `MapsConv2d`, or of volumes, a `MapsConv3d`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: C.
        out_channels: C'.
        dilation: distance of the taps.

    Example:
        >>> maps_conv(3, 16, 32).weight.shape
        torch.Size([32, 16, 3, 3, 3])
    """
    return (MapsConv2d if spatial_dims == 2 else MapsConv3d)(in_channels, out_channels, dilation)
