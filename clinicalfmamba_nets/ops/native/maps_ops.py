"""``torch.ops.clinicalfmamba.conv3x3``: a convolution of maps with all that stands around it, in one pass."""

from __future__ import annotations

import struct
from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.native import abi, registry
from clinicalfmamba_nets.ops.native.eager import is_plain, wants_gradient
from clinicalfmamba_nets.ops.plain import conv3x3_plain

ops = torch.ops.clinicalfmamba
MAPPED = 16  # the kernel takes multiples of so many channels


def _check(x: Tensor, weight: Tensor, bias: Tensor, scale: int, optional: dict[str, Tensor | None]) -> None:
    if x.dim() not in (4, 5):
        raise ValueError(f"conv3x3: x: expected (B, H, W, C) or (B, D, H, W, C), found {tuple(x.shape)}")
    channels, results, taps = x.shape[-1], weight.shape[0], [3] * (x.dim() - 2)
    maps = x.shape[0], *(scale * size for size in x.shape[1:-1]), results
    shapes = {"before": (2, channels), "after": (2, results), "times": maps, "plus": maps}
    expected = {"weight": (weight, (results, channels, *taps)), "bias": (bias, (results,))}
    for name, (tensor, shape) in (expected | {name: (optional[name], shapes[name]) for name in optional}).items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"conv3x3: {name}: expected {tuple(shape)}, found {tuple(tensor.shape)}")


def _bits(number: float) -> int:
    (bits,) = struct.unpack("q", struct.pack("d", number))
    return bits


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    before: Tensor | None,
    after: Tensor | None,
    times: Tensor | None,
    plus: Tensor | None,
    dilation: int,
    scale: int,
    fast: bool,
    slope: float,
    slope_after: float,
) -> Tensor:
    """The convolved maps, (B, *(scale S), C')."""
    _check(x, weight, bias, scale, {"before": before, "after": after, "times": times, "plus": plus})
    out = _fake_forward(x, weight, bias, before, after, times, plus, dilation, scale)
    dense = [t if t is None else t.contiguous() for t in (x, weight, bias, before, after, times, plus)]
    options = dilation, scale, int(fast), abi.threads(), _bits(slope), _bits(slope_after)
    addresses = [abi.address(t) for t in dense]
    sizes = x.shape if x.dim() == 5 else (x.shape[0], 1, *x.shape[1:])
    abi.call("cfm_maps_forward", [x.dim() - 2, *sizes, weight.shape[0], *options, *addresses, abi.address(out)])
    return out


def _fake_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    before: Tensor | None,
    after: Tensor | None,
    times: Tensor | None,
    plus: Tensor | None,
    dilation: int,
    scale: int,
    *others: Any,
) -> Tensor:
    return x.new_empty((x.shape[0], *(scale * size for size in x.shape[1:-1]), weight.shape[0]))


def conv3x3(*arguments: Any) -> Tensor:
    """(B, *(scale S), C'); see :func:`clinicalfmamba_nets.ops.conv3x3`."""
    tensors = [t for t in arguments if isinstance(t, Tensor)]
    return _forward(*arguments) if is_plain(*tensors) else ops.conv3x3(*arguments)


def _differentiable(*arguments: Any) -> Tensor:
    if wants_gradient(*(t for t in arguments if isinstance(t, Tensor))):
        return conv3x3_plain(*arguments)
    return registry.below_autograd(ops.conv3x3, *arguments)


_SCHEMA = (
    "(Tensor x, Tensor weight, Tensor bias, Tensor? before, Tensor? after, Tensor? times, Tensor? plus, int dilation, "
    "int scale, bool fast, float slope, float slope_after) -> Tensor"
)
registry.register(registry.Operator("conv3x3", _SCHEMA, _forward, _fake_forward, _differentiable))
