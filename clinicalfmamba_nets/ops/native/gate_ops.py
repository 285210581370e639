"""``torch.ops.clinicalfmamba.gated_norm``: what the scans give, times SiLU of the gate, normalized, in one pass."""

from __future__ import annotations

import struct
from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.derivatives import gradients_to_differentiate, refuse_beyond_kernels
from clinicalfmamba_nets.ops.native import abi, registry
from clinicalfmamba_nets.ops.native.eager import is_plain, is_plain_gradient, wants_gradient
from clinicalfmamba_nets.ops.plain import gated_norm_plain

ops = torch.ops.clinicalfmamba
_plain: Any = gated_norm_plain
GATED = 16  # the kernels take multiples of so many channels


def _check(y: Tensor, z: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    if y.shape[3] % GATED:
        raise ValueError(f"gated_norm: y: expected a multiple of {GATED} channels, found {y.shape[3]}")
    parameters = y.shape[0], y.shape[3]
    for name, x, shape in (("z", z, y.shape), ("weight", weight, parameters), ("bias", bias, parameters)):
        if x is not None and x.shape != shape:
            raise ValueError(f"gated_norm: {name}: expected {tuple(shape)}, found {tuple(x.shape)}")


Dense = tuple[Tensor, Tensor, "Tensor | None", "Tensor | None"]  # y, z, weight, bias as the kernels read them


def _fields(dense: Dense, divisor: float) -> list[int]:
    """The part of the kernels' struct that forward and backward share."""
    y, z, weight, bias = dense
    (double,) = struct.unpack("q", struct.pack("d", divisor))
    fields = [*y.shape, abi.threads(), double, abi.address(y), abi.address(z), *abi.token_strides(z)]
    return [*fields, abi.address(weight), abi.address(bias)]


def _dense(y: Tensor, z: Tensor, weight: Tensor | None, bias: Tensor | None) -> Dense:
    weight, bias = (None if x is None else x.float().contiguous() for x in (weight, bias))
    return y.float().contiguous(), abi.rows(z.float()), weight, bias


def _forward(y: Tensor, z: Tensor, weight: Tensor | None, bias: Tensor | None, divisor: float) -> Tensor:
    """Gated and normalized, (S, B, L, D)."""
    _check(y, z, weight, bias)
    out = y.new_empty(y.shape, dtype=torch.float32)
    dense = _dense(y, z, weight, bias)
    abi.call("cfm_gate_forward", [*_fields(dense, divisor), abi.address(out)])
    return out


def _gradients(
    y: Tensor, z: Tensor, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the gradients of y, z, weight, bias in float32; empty for those that are None."""
    dweight, dbias = (y.new_empty((0,) if x is None else x.shape, dtype=torch.float32) for x in (weight, bias))
    return y.new_empty(y.shape, dtype=torch.float32), y.new_empty(z.shape, dtype=torch.float32), dweight, dbias


def _backward(
    dout: Tensor, y: Tensor, z: Tensor, weight: Tensor | None, bias: Tensor | None, divisor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of y, z, weight, bias in float32; empty for those that are None."""
    grads = _gradients(y, z, weight, bias)
    dense, dout = _dense(y, z, weight, bias), dout.contiguous()
    abi.call("cfm_gate_backward", [*_fields(dense, divisor), 0, abi.address(dout), *(abi.address(g) for g in grads)])
    return grads


gated_norm_forward = torch.library.custom_op("clinicalfmamba::gated_norm_forward", _forward, mutates_args=())
gated_norm_backward = torch.library.custom_op("clinicalfmamba::gated_norm_backward", _backward, mutates_args=())


@gated_norm_forward.register_fake
def _fake_forward(y, z, weight, bias, divisor):  # type: ignore[no-untyped-def]
    return y.new_empty(y.shape, dtype=torch.float32)


@gated_norm_backward.register_fake
def _fake_backward(dout, y, z, weight, bias, divisor):  # type: ignore[no-untyped-def]
    return _gradients(y, z, weight, bias)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.divisor = inputs
    ctx.save_for_backward(*tensors)


def _all_gradients(ctx: Any, dout: Tensor, run: Any) -> tuple[Tensor | None, ...]:
    """Gradients of y, z, weight, bias and the divisor, by a kernel or, where they have derivatives, without."""
    tensors = ctx.saved_tensors  # only once: a checkpoint gives them a single time
    if torch.is_grad_enabled():
        return *gradients_to_differentiate(lambda *t: _plain(*t, ctx.divisor), tensors, [dout]), None
    grads = run(dout, *tensors, ctx.divisor)
    return *(None if x is None else g for x, g in zip(tensors, grads, strict=True)), None


def _registered_backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    return _all_gradients(ctx, dout, ops.gated_norm_backward)


gated_norm_forward.register_autograd(_registered_backward, setup_context=_setup)


class _EagerGate(torch.autograd.Function):
    """The same for plain tensors, past the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:  # type: ignore[override]
        _setup(ctx, arguments, arguments[0])
        return _forward(*arguments)

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _all_gradients(ctx, dout, _backward if is_plain_gradient(dout) else ops.gated_norm_backward)


def gated_norm(y: Tensor, z: Tensor, weight: Tensor | None, bias: Tensor | None, divisor: float) -> Tensor:
    """(S, B, L, D); see :func:`clinicalfmamba_nets.ops.gated_norm`."""
    refuse_beyond_kernels("gated_norm", y, z, weight, bias)
    wanted = wants_gradient(y, z, weight, bias)
    if is_plain(y, z, weight, bias):
        run: Any = _EagerGate.apply if wanted else _forward
        return run(y, z, weight, bias, divisor)
    if wanted:
        return ops.gated_norm_forward(y, z, weight, bias, divisor)
    single = [x if x is None else x.float() for x in (y, z, weight, bias)]
    return ops.gated_norm(*single, divisor)


def _differentiable(y: Tensor, z: Tensor, weight: Tensor | None, bias: Tensor | None, divisor: float) -> Tensor:
    if is_plain(y, z, weight, bias) or wants_gradient(y, z, weight, bias):
        return gated_norm(y, z, weight, bias, divisor)
    refuse_beyond_kernels("gated_norm", y, z, weight, bias)
    return registry.below_autograd(ops.gated_norm, y, z, weight, bias, divisor)


_SCHEMA = "(Tensor y, Tensor z, Tensor? weight, Tensor? bias, float divisor) -> Tensor"
registry.register(registry.Operator("gated_norm", _SCHEMA, _forward, _fake_forward, _differentiable))
