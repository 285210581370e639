"""``torch.ops.clinicalfmamba.permuted_selective_scan``: S weight sets, K directions, one index, no copies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.derivatives import gradients_to_differentiate, refuse_beyond_kernels
from clinicalfmamba_nets.ops.native import abi, registry
from clinicalfmamba_nets.ops.native.eager import is_plain, is_plain_gradient, wants_gradient
from clinicalfmamba_nets.ops.plain import permuted_scan_plain

ops = torch.ops.clinicalfmamba
_plain: Any = permuted_scan_plain


def _check(
    u: Tensor, projected: Tensor, dt_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, order: Tensor
) -> None:
    S, K, batch, L, channels = u.shape
    states, rank = A.shape[3], dt_weight.shape[3]
    if rank < 1:
        raise ValueError(f"permuted_selective_scan: dt_weight: expected a rank of 1 or more, found {rank}")
    expected: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "projected": (projected, (S, K, batch, L, rank + 2 * states)),
        "dt_weight": (dt_weight, (S, K, channels, rank)),
        "A": (A, (S, K, channels, states)),
        "D": (D, (S, K, channels)),
        "delta_bias": (delta_bias, (S, K, channels)),
        "order": (order, (K, L)),
    }
    for name, (x, shape) in expected.items():
        if x.shape != shape:
            raise ValueError(f"permuted_selective_scan: {name}: expected {shape}, found {tuple(x.shape)}")


def _parts(projected: Tensor, rank: int, states: int) -> tuple[int, int, int, tuple[int, ...]]:
    """Addresses of the steps, of B and of C in what they were projected to together, and the strides of all three."""
    s, k, b, token, state = projected.stride()
    first, size = abi.address(projected), projected.element_size()
    return first, first + rank * size, first + (rank + states) * size, (s, k, b, 0, token, state)


def _fields(u: Tensor, projected: Tensor, weights: list[Tensor], order: Tensor, states: Tensor | None) -> list[int]:
    """The part of the kernels' struct that forward and backward share; the weights are dense."""
    dt_weight, A, D, delta_bias = weights
    S, K, batch, L, channels = u.shape
    rank = dt_weight.shape[3]
    steps, B, C, strides = _parts(projected, rank, A.shape[3])
    return [
        *(S, K, batch, 1, L, channels, A.shape[3], 1, abi.threads()),
        *(abi.address(u), 0, 0, *u.stride(), *abi.NO_STRIDES, *abi.NO_STRIDES),
        *(abi.address(A), B, C, *strides, *strides),
        *(abi.address(D), abi.address(delta_bias), abi.address(order), abi.address(states)),
        *(rank, steps, *strides, abi.address(dt_weight)),
    ]


def _dense(*tensors: Tensor) -> list[Tensor]:
    return [x.contiguous() for x in tensors]


def _outputs(u: Tensor, A: Tensor, save_states: bool) -> tuple[Tensor, Tensor]:
    """Room for y and for the states that are saved."""
    S, K, batch, L, channels = u.shape
    shape: tuple[int, ...] = (0,)
    if save_states:
        tiles, width = abi.tiles(L)
        shape = (S, K, batch, tiles, -(-channels // width), A.shape[3], width)
    return u.new_empty((S, batch, L, channels)), u.new_empty(shape)


def _forward(
    u: Tensor,
    projected: Tensor,
    dt_weight: Tensor,
    A: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    order: Tensor,
    save_states: bool,
) -> tuple[Tensor, Tensor]:
    """Sum over the directions at their tokens, (S, B, L, D), and the states a backward pass starts from."""
    _check(u, projected, dt_weight, A, D, delta_bias, order)
    y, states = _outputs(u, A, save_states)
    weights, projected, order = _dense(dt_weight, A, D, delta_bias), abi.rows(projected), abi.dense_order(order)
    fields = _fields(u, projected, weights, order, states if save_states else None)
    abi.call("cfm_scan_forward", [*fields, abi.address(y), *abi.token_strides(y)])
    return y, states


Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _gradients(u: Tensor, projected: Tensor, dt_weight: Tensor, A: Tensor, D: Tensor) -> Gradients:
    """Room for the gradients of u, projected, dt_weight, A, D, delta_bias."""
    du, dprojected, ddt_weight, dA, dD, dbias = (u.new_empty(x.shape) for x in (u, projected, dt_weight, A, D, D))
    return du, dprojected, ddt_weight, dA, dD, dbias


def _backward(
    dy: Tensor,
    u: Tensor,
    projected: Tensor,
    dt_weight: Tensor,
    A: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    order: Tensor,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, projected, dt_weight, A, D, delta_bias."""
    grads = du, dprojected, ddt_weight, dA, dD, dbias = _gradients(u, projected, dt_weight, A, D)
    weights, projected, order = _dense(dt_weight, A, D, delta_bias), abi.rows(projected), abi.dense_order(order)
    dy = abi.rows(dy)
    dsteps, dB, dC, strides = _parts(dprojected, dt_weight.shape[3], A.shape[3])
    fields = [
        *_fields(u, projected, weights, order, states),
        *(0, *abi.NO_STRIDES, 0, abi.address(dy), *abi.token_strides(dy), 0, abi.address(du), 0, 0),
        *(*du.stride(), *abi.NO_STRIDES, *abi.NO_STRIDES, abi.address(dA), abi.address(dD), abi.address(dbias)),
        *(dB, dC, *strides, *strides, dsteps, abi.address(ddt_weight), *strides),
    ]
    abi.call("cfm_scan_backward", fields)
    return grads


permuted_selective_scan_states = torch.library.custom_op(
    "clinicalfmamba::permuted_selective_scan_states", _forward, mutates_args=()
)
permuted_selective_scan_backward = torch.library.custom_op(
    "clinicalfmamba::permuted_selective_scan_backward", _backward, mutates_args=()
)


@permuted_selective_scan_states.register_fake
def _fake_forward(u, projected, dt_weight, A, D, delta_bias, order, save_states):  # type: ignore[no-untyped-def]
    return _outputs(u, A, save_states)


@permuted_selective_scan_backward.register_fake
def _fake_backward(dy, u, projected, dt_weight, A, D, delta_bias, order, states):  # type: ignore[no-untyped-def]
    return _gradients(u, projected, dt_weight, A, D)


def _setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    *tensors, saved = inputs
    if not saved:
        raise RuntimeError("permuted_selective_scan_states: save_states must be true where gradients are wanted")
    ctx.save_for_backward(*tensors, output[1])


def _all_gradients(ctx: Any, dy: Tensor, run: Any) -> tuple[Tensor | None, ...]:
    """Gradients of all tensors but the states, by a kernel or, where they have derivatives, without."""
    *inputs, order, states = ctx.saved_tensors
    if torch.is_grad_enabled():
        return *gradients_to_differentiate(lambda *t: _plain(*t, order), inputs, [dy]), None
    return *run(dy, *inputs, order, states), None


def _registered_backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *_all_gradients(ctx, dy, ops.permuted_selective_scan_backward), None


permuted_selective_scan_states.register_autograd(_registered_backward, setup_context=_setup)


class _EagerScan(torch.autograd.Function):
    """The same scan for plain tensors, past the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *tensors: Any) -> Tensor:  # type: ignore[override]
        run: Any = _forward
        y, states = run(*tensors, True)
        ctx.save_for_backward(*tensors, states)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _all_gradients(ctx, dy, _backward if is_plain_gradient(dy) else ops.permuted_selective_scan_backward)


def permuted_selective_scan(
    u: Tensor, projected: Tensor, dt_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, order: Tensor
) -> Tensor:
    """y (S, B, L, D); see :func:`clinicalfmamba_nets.ops.permuted_selective_scan`."""
    tensors = [t.float() for t in (u, projected, dt_weight, A, D, delta_bias)]
    refuse_beyond_kernels("permuted_selective_scan", *tensors)
    wanted = wants_gradient(*tensors)
    if is_plain(*tensors, order):
        return _EagerScan.apply(*tensors, order) if wanted else _infer(*tensors, order)
    if wanted:
        return ops.permuted_selective_scan_states(*tensors, order, True)[0]
    return ops.permuted_selective_scan(*tensors, order)


def _infer(*tensors: Tensor) -> Tensor:
    """Without the states that a backward pass starts from."""
    run: Any = _forward
    return run(*tensors, False)[0]


def _fake_infer(u: Tensor, projected: Tensor, dt_weight: Tensor, A: Tensor, D: Tensor, *others: Tensor) -> Tensor:
    return _outputs(u, A, False)[0]


def _differentiable(*tensors: Tensor) -> Tensor:
    if is_plain(*tensors) or wants_gradient(*tensors):
        return permuted_selective_scan(*tensors)
    refuse_beyond_kernels("permuted_selective_scan", *tensors)
    return registry.below_autograd(ops.permuted_selective_scan, *tensors)


_SCHEMA = (
    "(Tensor u, Tensor projected, Tensor dt_weight, Tensor A, Tensor D, Tensor delta_bias, Tensor order) -> Tensor"
)
registry.register(registry.Operator("permuted_selective_scan", _SCHEMA, _infer, _fake_infer, _differentiable))
