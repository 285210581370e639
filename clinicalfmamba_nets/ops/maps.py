"""Convolutions of feature maps in inference, with what stands in front of them and behind them."""

from __future__ import annotations

import torch
from torch import Tensor

from clinicalfmamba_nets.ops import native
from clinicalfmamba_nets.ops.backends import resolve_backend


def convolves_maps(x: Tensor, *weights: Tensor) -> bool:
    """Tell whether :func:`conv3x3` serves: native kernels, single precision, 16 channels or a multiple, no gradients.

    Args:
        x: maps (B, C, H, W) or (B, C, D, H, W).
        weights: of the convolutions, (C', C, 3, 3) or (C', C, 3, 3, 3).

    Example:
        >>> convolves_maps(torch.rand(1, 8, 5, 5), torch.rand(8, 8, 3, 3))
        False
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights)):
        return False
    return kernel_takes(x, *weights)


def kernel_takes(x: Tensor, *weights: Tensor) -> bool:
    """Tell whether maps and weights are such as the native kernel takes; as :func:`convolves_maps` without gradients.

    Example:
        >>> kernel_takes(torch.rand(1, 8, 5, 5), torch.rand(8, 8, 3, 3))
        False
    """
    tensors = x, *weights
    if x.dim() not in (4, 5) or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if any(t.dtype != torch.float32 for t in tensors):
        return False
    if x.shape[1] % native.MAPPED or any(weight.shape[0] % native.MAPPED for weight in weights):
        return False
    return resolve_backend(x, 8, tensors=tensors) == "native"


def conv3x3(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    before: Tensor | None = None,
    after: Tensor | None = None,
    times: Tensor | None = None,
    plus: Tensor | None = None,
    dilation: int = 1,
    scale: int = 1,
    fast: bool = False,
    slope: float = 1.0,
    slope_after: float = 1.0,
) -> Tensor:
    """Zero-padded 3x3 or 3x3x3 convolution of maps whose channels come last, with what stands around it, natively.

    The result is LReLU'(after(LReLU(conv(before(x)) + bias) times)) + plus, each part left out where it is None; LReLU'
    goes with ``after``. Products are saved by the transforms of "Fast Algorithms for Convolutional Neural Networks",
    arXiv 1509.09308, section 4.1: with those of two outputs the result is rounded as finely as a plain convolution's.

    Args:
        x: (B, *S, C), S of two sizes or three.
        weight: (C', C, 3, 3) or (C', C, 3, 3, 3).
        bias: (C').
        before: scale and offset of each channel of x within the image, (2, C): a normalization.
        after: scale and offset of each channel of the result, (2, C').
        times: maps of the size and the channels of the result.
        plus: maps as `times`.
        dilation: of the convolution; 1 with a scale.
        scale: 2 for nearest upsampling by 2 in front of the convolution, or 1.
        fast: use the transforms of four outputs, of two sizes: ten times as coarsely rounded.
        slope: of LReLU; 0 is ReLU, 1 none.
        slope_after: of LReLU'.

    Returns:
        (B, ..., C'), each size of x times the scale.

    Raises:
        RuntimeError: the native kernels are not there.

    Example:
        >>> x, weight = torch.ones(1, 2, 2, 16), torch.ones(16, 16, 3, 3)
        >>> conv3x3(x, weight, torch.ones(16)).unique().tolist() if native.available() else [65.0]
        [65.0]
    """
    return native.conv3x3(x, weight, bias, before, after, times, plus, dilation, scale, fast, slope, slope_after)
