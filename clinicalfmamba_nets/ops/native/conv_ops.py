"""``torch.ops.clinicalfmamba.permuted_conv1d_silu``: tokens read in K orders, convolved, and passed through SiLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.derivatives import gradients_to_differentiate, refuse_beyond_kernels
from clinicalfmamba_nets.ops.native import abi, registry
from clinicalfmamba_nets.ops.native.eager import is_plain, is_plain_gradient, wants_gradient
from clinicalfmamba_nets.ops.plain import conv1d_silu_plain

ops = torch.ops.clinicalfmamba
_plain: Any = conv1d_silu_plain


def _check(x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor) -> None:
    S, _, L, channels = x.shape
    K = weight.shape[1]
    expected: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "weight": (weight, (S, K, channels, weight.shape[3])),
        "bias": (bias, (S, K, channels)),
        "x_proj": (x_proj, (S, K, x_proj.shape[2], channels)),
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
        *(abi.address(x), *abi.token_strides(x), abi.address(weight), abi.address(bias), abi.address(order)),
    ]


def _dense(
    x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """x, weight, bias and order as the kernels read them, and the projection's weights."""
    dense = abi.rows(x.float()), weight.float().contiguous(), bias.float().contiguous(), abi.dense_order(order)
    return dense, x_proj.float().contiguous()


def _outputs(x: Tensor, weight: Tensor, x_proj: Tensor) -> tuple[Tensor, Tensor]:
    S, batch, L, channels = x.shape
    shape = S, weight.shape[1], batch, L
    u = x.new_empty((*shape, channels), dtype=torch.float32)
    return u, x.new_empty((*shape, x_proj.shape[2]), dtype=torch.float32)


def _forward(x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Causal depthwise convolution and SiLU along each direction, (S, K, B, L, D), and its projection."""
    _check(x, weight, bias, x_proj, order)
    u, projected = _outputs(x, weight, x_proj)
    dense, x_proj = _dense(x, weight, bias, x_proj, order)
    projection = x_proj.shape[2], abi.address(x_proj), abi.address(projected)
    abi.call("cfm_conv_forward", [*_fields(*dense), abi.address(u), 0, 0, 0, 0, *projection])
    return u, projected


def _gradients(x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the gradients of x, weight, bias, x_proj, in float32."""
    dx, dweight, dbias, dx_proj = (t.new_empty(t.shape, dtype=torch.float32) for t in (x, weight, bias, x_proj))
    return dx, dweight, dbias, dx_proj


def _backward(
    du: Tensor, dprojected: Tensor, x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias, x_proj, in float32."""
    *grads, dx_proj = all_grads = _gradients(x, weight, bias, x_proj)
    dense, x_proj = _dense(x, weight, bias, x_proj, order)
    du, dprojected = du.contiguous(), dprojected.contiguous()
    projection = x_proj.shape[2], abi.address(x_proj), 0, abi.address(dprojected), abi.address(dx_proj)
    pointers = abi.address(du), *(abi.address(g) for g in grads)
    abi.call("cfm_conv_backward", [*_fields(*dense), 0, *pointers, *projection])
    return all_grads


permuted_conv1d_silu_forward = torch.library.custom_op(
    "clinicalfmamba::permuted_conv1d_silu_forward", _forward, mutates_args=()
)
permuted_conv1d_silu_backward = torch.library.custom_op(
    "clinicalfmamba::permuted_conv1d_silu_backward", _backward, mutates_args=()
)


@permuted_conv1d_silu_forward.register_fake
def _fake_forward(x, weight, bias, x_proj, order):  # type: ignore[no-untyped-def]
    return _outputs(x, weight, x_proj)


@permuted_conv1d_silu_backward.register_fake
def _fake_backward(du, dprojected, x, weight, bias, x_proj, order):  # type: ignore[no-untyped-def]
    return _gradients(x, weight, bias, x_proj)


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _again(tensors: tuple[Tensor, ...], *gradients: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients with derivatives of their own."""
    *inputs, order = tensors
    return *gradients_to_differentiate(lambda *t: _plain(*t, order), inputs, gradients), None


def _registered_backward(ctx: Any, du: Tensor, dprojected: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    if torch.is_grad_enabled():
        return _again(tensors, du, dprojected)
    return *ops.permuted_conv1d_silu_backward(du, dprojected, *tensors), None


permuted_conv1d_silu_forward.register_autograd(_registered_backward, setup_context=_setup)


class _EagerConvolution(torch.autograd.Function):
    """The same convolution for plain tensors, past the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *tensors: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        ctx.save_for_backward(*tensors)
        run: Any = _forward
        return run(*tensors)

    @staticmethod
    def backward(ctx: Any, du: Tensor, dprojected: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():
            return _again(ctx.saved_tensors, du, dprojected)
        run: Any = _backward if is_plain_gradient(du, dprojected) else ops.permuted_conv1d_silu_backward
        return *run(du, dprojected, *ctx.saved_tensors), None


def permuted_conv1d_silu(
    x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """u (S, K, B, L, D) and its projection; see :func:`clinicalfmamba_nets.ops.permuted_conv1d_silu`."""
    refuse_beyond_kernels("permuted_conv1d_silu", x, weight, bias, x_proj)
    wanted = wants_gradient(x, weight, bias, x_proj)
    if is_plain(x, weight, bias, x_proj, order):
        run: Any = _EagerConvolution.apply if wanted else _forward
        return run(x, weight, bias, x_proj, order)
    if wanted:
        return ops.permuted_conv1d_silu_forward(x, weight, bias, x_proj, order)
    return ops.permuted_conv1d_silu(x.float(), weight.float(), bias.float(), x_proj.float(), order)


def _differentiable(x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    tensors = x, weight, bias, x_proj
    if is_plain(*tensors, order) or wants_gradient(*tensors):
        return permuted_conv1d_silu(*tensors, order)
    refuse_beyond_kernels("permuted_conv1d_silu", *tensors)
    return registry.below_autograd(ops.permuted_conv1d_silu, *tensors, order)


_SCHEMA = "(Tensor x, Tensor weight, Tensor bias, Tensor x_proj, Tensor order) -> (Tensor, Tensor)"
registry.register(registry.Operator("permuted_conv1d_silu", _SCHEMA, _forward, _fake_forward, _differentiable))
