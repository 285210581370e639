"""Convolutions of feature maps with their gradients, as training needs them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.ops import native
from clinicalfmamba_nets.ops.derivatives import beyond_kernels, gradients_to_differentiate
from clinicalfmamba_nets.ops.maps import kernel_takes
from clinicalfmamba_nets.ops.native.eager import is_plain, is_plain_gradient
from clinicalfmamba_nets.ops.plain import conv3x3_plain


def trains_maps(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Tell whether :func:`trained_conv` serves: native kernels, single precision, 16 channels or a multiple, eagerly.

    Args:
        x: maps (B, C, *S).
        weight: (C', C, 3, 3) or (C', C, 3, 3, 3).
        bias: (C').

    Example:
        >>> trains_maps(torch.rand(1, 8, 5, 5), torch.rand(8, 8, 3, 3), torch.rand(8))
        False
    """
    if not is_plain(x, weight, bias) or beyond_kernels(x, weight, bias):
        return False
    return bias.dtype == torch.float32 and kernel_takes(x, weight) and weight.shape[2:] == (3,) * (x.dim() - 2)


def trained_conv(x: Tensor, weight: Tensor, bias: Tensor, dilation: int = 1, scale: int = 1) -> Tensor:
    """Zero-padded 3x3 or 3x3x3 convolution, with gradients, by the native kernel of :func:`conv3x3`.

    The gradient of x is a convolution of the kind too; that of the weights is torch's.

    Args:
        x: (B, C, *S).
        weight: (C', C, 3, 3) or (C', C, 3, 3, 3).
        bias: (C').
        dilation: of the convolution; 1 with a scale.
        scale: 2 for nearest upsampling by 2 in front of the convolution, or 1.

    Returns:
        (B, C', ...), each size of x times the scale, channels last in memory.

    Raises:
        RuntimeError: the native kernels are not there.

    Example:
        >>> x, weight = torch.rand(1, 16, 5, 5), torch.rand(16, 16, 3, 3)
        >>> trained_conv(x, weight, torch.rand(16)).shape if native.available() else torch.Size([1, 16, 5, 5])
        torch.Size([1, 16, 5, 5])
    """
    y: Tensor = _TrainedConvolution.apply(x, weight, bias, dilation, scale)
    return y


def _convolved(x: Tensor, weight: Tensor, bias: Tensor, dilation: int, scale: int) -> Tensor:
    """By the kernel, of maps (B, C, *S)."""
    maps = native.conv3x3(x.movedim(1, -1), weight, bias, None, None, None, None, dilation, scale, False, 1.0, 1.0)
    return maps.movedim(-1, 1)


class _TrainedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int, scale: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight, bias)
        ctx.dilation, ctx.scale = dilation, scale
        return _convolved(x, weight, bias, dilation, scale).data  # no view: layers behind it work in its memory

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, bias = ctx.saved_tensors
        dilation, scale = ctx.dilation, ctx.scale
        if torch.is_grad_enabled() or not is_plain_gradient(dy):
            return *_to_differentiate(x, weight, bias, dilation, scale, dy), None, None
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        dx = _gradient_of_maps(dy, weight, dilation, scale) if of_x else None
        dweight = _gradient_of_weight(dy, x, weight, dilation, scale) if of_weight else None
        dbias = dy.sum([0, *range(2, dy.dim())]) if of_bias else None
        return dx, dweight, dbias, None, None


def _gradient_of_maps(dy: Tensor, weight: Tensor, dilation: int, scale: int) -> Tensor:
    """The convolution by the weights turned around; each pixel that was repeated gets the sum."""
    turned = weight.flip(list(range(2, weight.dim()))).transpose(0, 1).contiguous()
    dx = _convolved(dy, turned, dy.new_zeros(turned.shape[0]), dilation, 1)
    if scale == 1:
        return dx
    pool = F.avg_pool2d if dy.dim() == 4 else F.avg_pool3d
    return pool(dx, 2, divisor_override=1)


def _gradient_of_weight(dy: Tensor, x: Tensor, weight: Tensor, dilation: int, scale: int) -> Tensor:
    if scale == 2:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    sides, none = [dilation] * (x.dim() - 2), [0] * (x.dim() - 2)
    options = [1] * len(sides), sides, sides, False, none, 1
    gradients = torch.ops.aten.convolution_backward(dy, x, weight, [0], *options, [False, True, False])
    dweight: Tensor = gradients[1]
    return dweight


def _to_differentiate(
    x: Tensor, weight: Tensor, bias: Tensor, dilation: int, scale: int, dy: Tensor
) -> list[Tensor | None]:
    """Gradients that have derivatives themselves."""

    def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        maps = conv3x3_plain(x.movedim(1, -1), weight, bias, None, None, None, None, dilation, scale, False, 1.0, 1.0)
        return maps.movedim(-1, 1)

    with torch.enable_grad():
        return gradients_to_differentiate(plain, [x, weight, bias], [dy])
