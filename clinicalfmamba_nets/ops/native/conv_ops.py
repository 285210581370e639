"""``torch.ops.clinicalfmamba.permuted_conv1d_silu``: tokens read in K orders, convolved, and passed through SiLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.native import abi
from clinicalfmamba_nets.ops.native.eager import is_plain, wants_gradient

ops = torch.ops.clinicalfmamba


def _check(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> None:
    S, _, L, channels = x.shape
    K = weight.shape[1]
    expected: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "weight": (weight, (S, K, channels, weight.shape[3])),
        "bias": (bias, (S, K, channels)),
        "order": (order, (K, L)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(f"permuted_conv1d_silu: {name}: expected {shape}, found {tuple(tensor.shape)}")


def _fields(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> list[int]:
    """The part of the kernels' struct that forward and backward share."""
    S, batch, L, channels = x.shape
    return [
        *(S, weight.shape[1], batch, L, channels, weight.shape[3], abi.threads()),
        *(x.data_ptr(), *abi.token_strides(x), weight.data_ptr(), bias.data_ptr(), order.data_ptr()),
    ]


def _dense(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = x.float()
    x = x if x.stride(3) == 1 else x.contiguous()
    return x, weight.float().contiguous(), bias.float().contiguous(), abi.dense_order(order)


def _output(x: Tensor, weight: Tensor) -> Tensor:
    S, batch, L, channels = x.shape
    return x.new_empty((S, weight.shape[1], batch, L, channels), dtype=torch.float32)


def _forward(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Causal depthwise convolution and SiLU along each direction, (S, K, B, L, D)."""
    _check(x, weight, bias, order)
    u = _output(x, weight)
    arguments = _dense(x, weight, bias, order)
    abi.call("cfm_conv_forward", [*_fields(*arguments), u.data_ptr()])
    return u


def _gradients(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the gradients of x, weight, bias, in float32."""
    dx, dweight, dbias = (t.new_empty(t.shape, dtype=torch.float32) for t in (x, weight, bias))
    return dx, dweight, dbias


def _backward(du: Tensor, x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias, in float32."""
    grads = _gradients(x, weight, bias)
    arguments, du = _dense(x, weight, bias, order), du.contiguous()
    abi.call("cfm_conv_backward", [*_fields(*arguments), 0, du.data_ptr(), *(g.data_ptr() for g in grads)])
    return grads


permuted_conv1d_silu_forward = torch.library.custom_op(
    "clinicalfmamba::permuted_conv1d_silu_forward", _forward, mutates_args=()
)
permuted_conv1d_silu_backward = torch.library.custom_op(
    "clinicalfmamba::permuted_conv1d_silu_backward", _backward, mutates_args=()
)


@permuted_conv1d_silu_forward.register_fake
def _fake_forward(x, weight, bias, order):  # type: ignore[no-untyped-def]
    return _output(x, weight)


@permuted_conv1d_silu_backward.register_fake
def _fake_backward(du, x, weight, bias, order):  # type: ignore[no-untyped-def]
    return _gradients(x, weight, bias)


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _registered_backward(ctx: Any, du: Tensor) -> tuple[Tensor | None, ...]:
    return *ops.permuted_conv1d_silu_backward(du, *ctx.saved_tensors), None


permuted_conv1d_silu_forward.register_autograd(_registered_backward, setup_context=_setup)


class _EagerConvolution(torch.autograd.Function):
    """The same convolution for plain tensors, past the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(*tensors)
        return _forward(*tensors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, du: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        run: Any = _backward if is_plain(du) else ops.permuted_conv1d_silu_backward
        return *run(du, *ctx.saved_tensors), None


def _permuted_conv1d_silu(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """u (S, K, B, L, D); see :func:`clinicalfmamba_nets.ops.permuted_conv1d_silu`."""
    if not is_plain(x, weight, bias, order):
        return ops.permuted_conv1d_silu_forward(x, weight, bias, order)
    if wants_gradient(x, weight, bias):
        return _EagerConvolution.apply(x, weight, bias, order)
    return _forward(x, weight, bias, order)


_library = torch.library.Library("clinicalfmamba", "FRAGMENT")
_library.define("permuted_conv1d_silu(Tensor x, Tensor weight, Tensor bias, Tensor order) -> Tensor")
_library.impl("permuted_conv1d_silu", _permuted_conv1d_silu, "CompositeImplicitAutograd")
