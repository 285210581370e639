"""``torch.ops.clinicalfmamba.selective_scan``: the scan in the layout (B, D, L) of mamba-ssm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.native import abi
from clinicalfmamba_nets.ops.native.eager import is_plain, wants_gradient

ops = torch.ops.clinicalfmamba


def _strides(x: Tensor | None) -> tuple[int, ...]:
    return abi.NO_STRIDES if x is None else (0, 0, x.stride(0), x.stride(2), x.stride(1))


def _state_strides(x: Tensor) -> tuple[int, ...]:
    batch, group, state, token = x.stride()
    return 0, 0, batch, group, token, state


def _readable(x: Tensor) -> Tensor:
    """The tensor itself where tokens or channels are next to each other in memory, else a copy."""
    return x if 1 in x.stride()[1:] else x.contiguous()


def _fields(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    states: Tensor | None,
) -> list[int]:
    """The part of the kernels' struct that forward and backward share."""
    batch, channels, length = u.shape
    return [
        *(1, 1, batch, B.shape[1], length, channels, A.shape[1], int(softplus), abi.threads()),
        *(u.data_ptr(), delta.data_ptr(), abi.address(z), *_strides(u), *_strides(delta), *_strides(z)),
        *(A.data_ptr(), B.data_ptr(), C.data_ptr(), *_state_strides(B), *_state_strides(C)),
        *(abi.address(D), abi.address(delta_bias), 0, abi.address(states)),
    ]


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.float().contiguous()


def _outputs(u: Tensor, A: Tensor, B: Tensor, save_states: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Room for y in the layout of u, for the last state, and for the states that are saved."""
    batch, channels, length = u.shape
    groups, size = B.shape[1], 0
    shape: tuple[int, ...] = (0,)
    if save_states:
        tiles, width = abi.tiles(length)
        size = -(-(channels // groups) // width)
        shape = (batch, tiles, groups * size, A.shape[1], width)
    return torch.empty_like(u), u.new_empty((batch, channels, A.shape[1])), u.new_empty(shape)


def _forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (B, D, L), state after the last token (B, D, N), and the states a backward pass starts from."""
    y, last, states = _outputs(u, A, B, save_states)
    u, delta, A, D, delta_bias = _readable(u), _readable(delta), A.contiguous(), _dense(D), _dense(delta_bias)
    z = None if z is None else _readable(z.float())
    fields = _fields(u, delta, A, B, C, D, z, delta_bias, delta_softplus, states if save_states else None)
    abi.call("cfm_scan_forward", [*fields, y.data_ptr(), *_strides(y), last.data_ptr()])
    return y, last, states


Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _gradients(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None
) -> Gradients:
    """Room for the gradients of u, delta, A, B, C, D, z, delta_bias; empty for those that are None."""
    dD, dbias = (u.new_empty((u.shape[1] if x is not None else 0,)) for x in (D, delta_bias))
    dz = u.new_empty((0,)) if z is None else torch.empty_like(z, dtype=u.dtype)
    dA, dB, dC = u.new_empty(A.shape), u.new_empty(B.shape), u.new_empty(B.shape)
    return torch.empty_like(u), torch.empty_like(delta), dA, dB, dC, dD, dz, dbias


def _backward(
    dy: Tensor,
    dlast: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, A, B, C, D, z, delta_bias; empty for those that are None."""
    grads = du, ddelta, dA, dB, dC, dD, dz, dbias = _gradients(u, delta, A, B, D, z, delta_bias)
    dy, u, delta, A = _readable(dy), _readable(u), _readable(delta), A.contiguous()
    D, delta_bias, dlast, z = _dense(D), _dense(delta_bias), _dense(dlast), None if z is None else _readable(z.float())
    optional = [None if x is None else g for x, g in ((z, dz), (D, dD), (delta_bias, dbias))]
    fields = [
        *_fields(u, delta, A, B, C, D, z, delta_bias, delta_softplus, states),
        *(0, *abi.NO_STRIDES, 0, dy.data_ptr(), *_strides(dy), abi.address(dlast)),
        *(du.data_ptr(), ddelta.data_ptr(), abi.address(optional[0])),
        *(*_strides(du), *_strides(ddelta), *_strides(optional[0])),
        *(dA.data_ptr(), abi.address(optional[1]), abi.address(optional[2])),
        *(dB.data_ptr(), dC.data_ptr(), *_state_strides(dB), *_state_strides(dC)),
    ]
    abi.call("cfm_scan_backward", fields)
    return grads


selective_scan_states = torch.library.custom_op("clinicalfmamba::selective_scan_states", _forward, mutates_args=())
selective_scan_backward = torch.library.custom_op("clinicalfmamba::selective_scan_backward", _backward, mutates_args=())


@selective_scan_states.register_fake
def _fake_forward(u, delta, A, B, C, D, z, delta_bias, delta_softplus, save_states):  # type: ignore[no-untyped-def]
    return _outputs(u, A, B, save_states)


@selective_scan_backward.register_fake
def _fake_backward(dy, dlast, u, delta, A, B, C, D, z, delta_bias, delta_softplus, states):  # type: ignore[no-untyped-def]
    return _gradients(u, delta, A, B, D, z, delta_bias)


def _returned(grads: Gradients, tensors: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """The gradients in the order of the forward arguments, None where there was no tensor."""
    du, ddelta, dA, dB, dC, dD, dz, dbias = grads
    optional = [None if x is None else g for x, g in zip(tensors[5:8], (dD, dz, dbias), strict=True)]
    return du, ddelta, dA, dB, dC, *optional


def _setup(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    *tensors, softplus, saved = inputs
    if not saved:
        raise RuntimeError("selective_scan_states: save_states must be true where gradients are wanted")
    ctx.softplus = softplus
    ctx.save_for_backward(*tensors, output[2])


def _registered_backward(ctx: Any, dy: Tensor, dlast: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, states = ctx.saved_tensors
    grads = ops.selective_scan_backward(dy, dlast, *tensors, ctx.softplus, states)
    return *_returned(grads, tensors), None, None


selective_scan_states.register_autograd(_registered_backward, setup_context=_setup)


class _EagerScan(torch.autograd.Function):
    """The same scan for plain tensors, past the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        run: Any = _forward
        y, last, states = run(*arguments, True)
        ctx.softplus = arguments[-1]
        ctx.save_for_backward(*arguments[:-1], states)
        ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        *tensors, states = ctx.saved_tensors
        dy = torch.zeros_like(tensors[0]) if dy is None else dy
        run: Any = _backward if is_plain(dy, dlast) else ops.selective_scan_backward
        return *_returned(run(dy, dlast, *tensors, ctx.softplus, states), tensors), None


def _selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """y (B, D, L) and the last state (B, D, N); see :func:`clinicalfmamba_nets.ops.selective_scan`."""
    tensors = (u.float(), delta.float(), A.float(), B.float(), C.float(), D, z, delta_bias)
    save, plain = wants_gradient(*tensors), is_plain(*tensors)
    if plain and save:
        return _EagerScan.apply(*tensors, delta_softplus)
    run: Any = _forward if plain else ops.selective_scan_states
    y, last, _ = run(*tensors, delta_softplus, save)
    return y, last


_library = torch.library.Library("clinicalfmamba", "FRAGMENT")
_library.define(
    "selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "bool delta_softplus) -> (Tensor, Tensor)"
)
_library.impl("selective_scan", _selective_scan, "CompositeImplicitAutograd")
