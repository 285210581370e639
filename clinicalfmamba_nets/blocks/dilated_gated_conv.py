"""Dilated gated convolution block (DGCB): local detail at growing reach."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.folding import foldable, normalization_of
from clinicalfmamba_nets.blocks.hooks import LeakyReLUAfter, watched
from clinicalfmamba_nets.blocks.layout import is_channels_last
from clinicalfmamba_nets.blocks.maps_conv import maps_conv
from clinicalfmamba_nets.ops import conv3x3, convolves_maps

SLOPE = 0.2


def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution of kernel size 1 as a matrix product, (B, C, *S) -> (B, C', *S).

    The library behind PyTorch's convolutions rounds this one differently with one thread and with several (2e-6), which
    the scans behind it raise tenfold; a matrix product rounds the same with any number.

    Args:
        x: (B, C, *S), contiguous or with its channels last.
        weight: (C', C, 1, ...).
        bias: (C').

    Example:
        >>> pointwise_conv(torch.ones(1, 2, 3, 3), torch.ones(4, 2, 1, 1), torch.zeros(4)).unique()
        tensor([2.])
    """
    matrix = weight.flatten(1).expand(x.shape[0], -1, -1)  # (B, C', C)
    if is_channels_last(x):
        y = torch.bmm(x.flatten(2).transpose(1, 2), matrix.transpose(1, 2))  # (B, N, C')
        y += bias.to(y.dtype)
        return y.unflatten(1, x.shape[2:]).movedim(-1, 1)
    y = torch.bmm(matrix, x.flatten(2))  # (B, C', N)
    y += bias.to(y.dtype).unsqueeze(1)
    return y.unflatten(2, x.shape[2:])


class SharedPyramid(nn.Module):
    """P(q) + P(P(q)) + P(P(P(q))) with one shared 3x3 convolution P, each power computed once.

    Source: the published 2D code.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.conv = maps_conv(spatial_dims, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *S)."""
        once = self.conv(x)
        twice = self.conv(once)
        return once + twice + self.conv(twice)


class SeparatePyramid(nn.Module):
    """Three branches of one, two and three 3x3 convolutions with their own weights, summed.

    Source: "ClinicalFMamba", arXiv 2508.03008, figure 1.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(maps_conv(spatial_dims, channels, channels) for _ in range(depth))) for depth in (1, 2, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *S)."""
        out = x.new_zeros([1])
        for branch in self.branches:
            out = out + branch(x)
        return out


class DilatedGatedConv(nn.Module):
    """x + pyramid(LReLU(norm(LReLU(dilated(norm(a b)))))) with a = LReLU(conv3(norm(x))), b = LReLU(conv1(norm(x))).

    Source: "ClinicalFMamba", arXiv 2508.03008, section 2.1. The paper draws three branches of 3x3 convolutions, the
    published 2D code has one shared convolution applied one, two and three times, the published 3D code has none.

    Args:
        spatial_dims: 2 or 3.
        channels: width C.
        dilation: of the 3x3 convolution behind the gate.
        pyramid: ``shared``, ``separate`` or ``none``.
        norm: MONAI's name of the normalization.

    Raises:
        ValueError: unknown ``pyramid``.

    Example:
        >>> import torch
        >>> DilatedGatedConv(2, 8, dilation=3)(torch.rand(1, 8, 9, 7)).shape
        torch.Size([1, 8, 9, 7])
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        dilation: int,
        pyramid: str = "shared",
        norm: str | tuple = "batch",
    ) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (get_norm_layer(norm, spatial_dims, channels) for _ in range(3))
        self.conv3 = maps_conv(spatial_dims, channels, channels)
        self.conv1 = Conv[Conv.CONV, spatial_dims](channels, channels, 1)
        self.dilated = maps_conv(spatial_dims, channels, channels, dilation)
        self.act3, self.act1, self.act_dilated = (
            LeakyReLUAfter(layer, SLOPE) for layer in (self.conv3, self.conv1, self.dilated)
        )
        if pyramid not in ("shared", "separate", "none"):
            raise ValueError(f"pyramid: expected shared, separate or none, found {pyramid!r}")
        if pyramid == "none":
            self.pyramid: nn.Module = nn.Identity()
        else:
            norm4 = get_norm_layer(norm, spatial_dims, channels)
            self.pyramid = nn.Sequential(
                norm4,
                LeakyReLUAfter(norm4, SLOPE),
                (SharedPyramid if pyramid == "shared" else SeparatePyramid)(spatial_dims, channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *S)."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if not self.training and self._is_plain() and convolves_maps(x, self.conv3.weight, self.dilated.weight):
                return self._in_passes(x)
        gated = self.act3(self.conv3(self.norm1(x))) * self.act1(self._gate(self.norm2(x)))
        return x + self.pyramid(self.act_dilated(self.dilated(self.norm3(gated))))

    @torch.jit.unused
    def _is_plain(self) -> bool:
        """Whether the 2D block with the shared pyramid, or none, is as it was built, and no hook waits for a layer."""
        norms = [layer for layer in self.children() if "Norm" in type(layer).__name__]
        pyramid = self.pyramid
        if isinstance(pyramid, nn.Sequential):
            norms.append(pyramid[0])
        shared = isinstance(pyramid, nn.Identity) or isinstance(pyramid[2], SharedPyramid)  # type: ignore[index]
        return shared and all(map(foldable, norms)) and not any(map(watched, self.modules()))

    @torch.jit.unused
    def _in_passes(self, x: Tensor) -> Tensor:
        """The same in inference, one pass over memory for each convolution.

        The pyramid is P(q + P(q + P(q))) there, with the offset b of P once, twice and three times: the same sum.
        """
        maps, conv3, dilated = x.movedim(1, -1), self.conv3, self.dilated
        gate = self.act1(self._gate(self.norm2(x))).movedim(1, -1)
        before = normalization_of(self.norm1)
        gated = conv3x3(maps, conv3.weight, conv3.bias, before=before, times=gate, slope=SLOPE)
        options: dict[str, Any] = {
            "before": normalization_of(self.norm3),
            "dilation": dilated.dilation[0],
            "slope": SLOPE,
        }
        if isinstance(self.pyramid, nn.Identity):
            return conv3x3(gated, dilated.weight, dilated.bias, plus=maps, **options).movedim(-1, 1)
        after, conv = normalization_of(self.pyramid[0]), self.pyramid[2].conv  # type: ignore[index]
        q = conv3x3(gated, dilated.weight, dilated.bias, after=after, slope_after=SLOPE, **options)
        y = conv3x3(q, conv.weight, conv.bias, plus=q)
        y = conv3x3(y, conv.weight, 2 * conv.bias, plus=q)
        return conv3x3(y, conv.weight, 3 * conv.bias, plus=maps).movedim(-1, 1)

    def _gate(self, x: Tensor) -> Tensor:
        """conv1(x); in inference as a matrix product."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if watched(self.conv1):
                return self.conv1(x)
        bias = self.conv1.bias
        if not self.training and bias is not None and (x.is_contiguous() or is_channels_last(x)):
            return pointwise_conv(x, self.conv1.weight, bias)
        return self.conv1(x)
