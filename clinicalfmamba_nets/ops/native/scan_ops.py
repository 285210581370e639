"""``torch.ops.clinicalfmamba.selective_scan``: the scan in the layout (B, D, L) of mamba-ssm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.derivatives import gradients_to_differentiate, refuse_beyond_kernels
from clinicalfmamba_nets.ops.native import abi, registry
from clinicalfmamba_nets.ops.native.eager import is_plain, is_plain_gradient, wants_gradient
from clinicalfmamba_nets.ops.plain import selective_scan_plain

ops = torch.ops.clinicalfmamba
_plain: Any = selective_scan_plain


def _strides(x: Tensor | None) -> tuple[int, ...]:
    if x is None:
        return abi.NO_STRIDES
    batch, channel, token = x.stride()
    return 0, 0, batch, token, channel


def _groups(B: Tensor) -> int:
    return B.shape[1] if B.dim() == 4 else 1


def _state_strides(x: Tensor) -> tuple[int, ...]:
    batch, *group, state, token = x.stride()
    return 0, 0, batch, group[0] if group else 0, token, state


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
        *(1, 1, batch, _groups(B), length, channels, A.shape[1], int(softplus), abi.threads()),
        *(abi.address(u), abi.address(delta), abi.address(z), *_strides(u), *_strides(delta), *_strides(z)),
        *(abi.address(A), abi.address(B), abi.address(C), *_state_strides(B), *_state_strides(C)),
        *(abi.address(D), abi.address(delta_bias), 0, abi.address(states), *abi.NO_STEPS),
    ]


def _single(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float32 else x.float()


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else _single(x).contiguous()


def _room_for_states(u: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """Room for the states that a backward pass starts from."""
    batch, channels, length = u.shape
    (tiles, width), groups = abi.tiles(length), _groups(B)
    return u.new_empty((batch, tiles, groups * -(-(channels // groups) // width), A.shape[1], width))


def _outputs(u: Tensor, A: Tensor, B: Tensor, save_states: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Room for y in the layout of u, for the last state, and for the states that are saved."""
    states = _room_for_states(u, A, B) if save_states else u.new_empty((0,))
    return torch.empty_like(u), u.new_empty((*u.shape[:2], A.shape[1])), states


def _run(tensors: Any, delta_softplus: bool, y: Tensor, last: Tensor | None, states: Tensor | None) -> None:
    """Scan into y (B, D, L), and into the last state (B, D, N) and the saved states where there is room for them."""
    u, delta, A, B, C, D, z, delta_bias = tensors
    u, delta, A, D, delta_bias = _readable(u), _readable(delta), A.contiguous(), _dense(D), _dense(delta_bias)
    z = None if z is None else _readable(_single(z))
    fields = _fields(u, delta, A, B, C, D, z, delta_bias, delta_softplus, states)
    abi.call("cfm_scan_forward", [*fields, abi.address(y), *_strides(y), abi.address(last)])


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
    _run((u, delta, A, B, C, D, z, delta_bias), delta_softplus, y, last, states if save_states else None)
    return y, last, states


Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _gradients(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None
) -> Gradients:
    """Room for the gradients of u, delta, A, B, C, D, z, delta_bias; empty for those that are None."""
    dD, dbias = (u.new_empty((u.shape[1] if x is not None else 0,)) for x in (D, delta_bias))
    dz = u.new_empty((0,)) if z is None else torch.empty_like(z, dtype=u.dtype)
    du, ddelta, dB, dC = (torch.empty_like(x) for x in (u, delta, B, B))
    dA = A.new_empty(A.shape)  # the kernel writes it without strides
    return du, ddelta, dA, dB, dC, dD, dz, dbias


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
    D, delta_bias, dlast, z = _dense(D), _dense(delta_bias), _dense(dlast), None if z is None else _readable(_single(z))
    optional = [None if x is None else g for x, g in ((z, dz), (D, dD), (delta_bias, dbias))]
    fields = [
        *_fields(u, delta, A, B, C, D, z, delta_bias, delta_softplus, states),
        *(0, *abi.NO_STRIDES, 0, abi.address(dy), *_strides(dy), abi.address(dlast)),
        *(abi.address(du), abi.address(ddelta), abi.address(optional[0])),
        *(*_strides(du), *_strides(ddelta), *_strides(optional[0])),
        *(abi.address(dA), abi.address(optional[1]), abi.address(optional[2])),
        *(abi.address(dB), abi.address(dC), *_state_strides(dB), *_state_strides(dC)),
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


def _all_gradients(ctx: Any, dy: Tensor | None, dlast: Tensor | None, run: Any) -> tuple[Tensor | None, ...]:
    """Gradients of all tensors but the states, by a kernel or, where they have derivatives, without."""
    *tensors, states = ctx.saved_tensors
    if torch.is_grad_enabled():
        return *gradients_to_differentiate(lambda *t: _plain(*t, ctx.softplus), tensors, [dy, dlast]), None
    dy = torch.zeros_like(tensors[0]) if dy is None else dy
    return *_returned(run(dy, dlast, *tensors, ctx.softplus, states), tensors), None


def _registered_backward(ctx: Any, dy: Tensor, dlast: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *_all_gradients(ctx, dy, dlast, ops.selective_scan_backward), None


selective_scan_states.register_autograd(_registered_backward, setup_context=_setup)


class _EagerScan(torch.autograd.Function):
    """The same scan for plain tensors, past the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        *tensors, softplus, with_last = arguments
        u, _, A, B, *_ = tensors
        states, ctx.softplus = _room_for_states(u, A, B), softplus
        outputs = torch.empty_like(u), _room_for_last(u, A, with_last)
        _run(tensors, softplus, *outputs, states)
        ctx.save_for_backward(*tensors, states)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        run: Any = _backward if is_plain_gradient(dy, dlast) else ops.selective_scan_backward
        return *_all_gradients(ctx, dy, dlast, run), None


def _room_for_last(u: Tensor, A: Tensor, wanted: bool) -> Tensor | None:
    return u.new_empty((*u.shape[:2], A.shape[1])) if wanted else None


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    with_last: bool,
) -> tuple[Tensor, Any]:
    """y (B, D, L) and the last state (B, D, N) if it is wanted; see :func:`clinicalfmamba_nets.ops.selective_scan`."""
    if not is_plain(u, delta, A, B, C, D, z, delta_bias):  # who asks for derivatives has been told in resolve_backend
        return _in_graph(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    tensors = _arguments(u, delta, A, B, C, D, z, delta_bias)
    if wants_gradient(*tensors):
        return _EagerScan.apply(*tensors, delta_softplus, with_last)
    y, last = torch.empty_like(tensors[0]), _room_for_last(tensors[0], A, with_last)
    _run(tensors, delta_softplus, y, last, None)
    return y, last


def _arguments(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Tensor | None) -> tuple[Any, ...]:
    """The tensors, those in single precision that the kernels read whole."""
    return _single(u), _single(delta), _single(A), _single(B), _single(C), *rest


def _in_graph(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The registered operators: with the states that a backward pass starts from, or without."""
    tensors, softplus = _arguments(*arguments[:-1]), arguments[-1]
    refuse_beyond_kernels("selective_scan", *tensors)
    if wants_gradient(*tensors):
        return ops.selective_scan_states(*tensors, softplus, True)[:2]
    return ops.selective_scan(*(x if x is None else _single(x) for x in tensors), softplus)


def _differentiable(*arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, softplus = arguments
    if is_plain(*tensors):
        run: Any = selective_scan
        return run(*tensors, softplus, True)
    if wants_gradient(*tensors):
        return _in_graph(*arguments)
    refuse_beyond_kernels("selective_scan", *tensors)
    return registry.below_autograd(ops.selective_scan, *arguments)


def _infer(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The kernel, with dense results."""
    *tensors, softplus = arguments
    u, _, A, *_ = tensors
    y, last = u.new_empty(u.shape), _room_for_last(u, A, True)
    _run(tensors, softplus, y, last, None)
    return y, last  # type: ignore[return-value]


def _fake_infer(u: Tensor, delta: Tensor, A: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), u.new_empty((*u.shape[:2], A.shape[1]))


_SCHEMA = (
    "(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "bool delta_softplus) -> (Tensor, Tensor)"
)
registry.register(registry.Operator("selective_scan", _SCHEMA, _infer, _fake_infer, _differentiable))
