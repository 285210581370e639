"""``torch.ops.clinicalfmamba.selective_scan``: the scan in the layout (B, D, L) of mamba-ssm."""

from __future__ import annotations

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.native import abi


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
    batch, channels, length = u.shape
    return [
        1, 1, batch, B.shape[1], length, channels, A.shape[1], int(softplus), abi.threads(),
        u.data_ptr(), delta.data_ptr(), abi.address(z), *_strides(u), *_strides(delta), *_strides(z),
        A.data_ptr(), B.data_ptr(), C.data_ptr(), *_state_strides(B), *_state_strides(C),
        abi.address(D), abi.address(delta_bias), 0, abi.address(states),
    ]  # fmt: skip


def _strides(x: Tensor | None) -> tuple[int, ...]:
    return abi.NO_STRIDES if x is None else (0, 0, x.stride(0), x.stride(2), x.stride(1))


def _state_strides(x: Tensor) -> tuple[int, ...]:
    return 0, 0, x.stride(0), x.stride(1), x.stride(3), x.stride(2)


def _readable(x: Tensor | None) -> Tensor | None:
    """The tensor itself where tokens or channels are next to each other in memory, else a copy."""
    return x if x is None or 1 in (x.stride(1), x.stride(2)) else x.contiguous()


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.float().contiguous()


def _states_shape(u: Tensor, groups: int, states: int) -> tuple[int, ...]:
    batch, channels, length = u.shape
    tiles, width = abi.tiles(length)
    return batch, tiles, groups * -(-(channels // groups) // width), states, width


def _outputs(u: Tensor, A: Tensor, B: Tensor, save_states: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y in the layout of u, the last state, and room for the states that are saved."""
    states = u.new_empty(_states_shape(u, B.shape[1], A.shape[1]) if save_states else (0,))
    return torch.empty_like(u), u.new_empty(u.shape[0], u.shape[1], A.shape[1]), states


@torch.library.custom_op("clinicalfmamba::selective_scan_states", mutates_args=())
def selective_scan_states(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, delta_softplus: bool, save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Output (B, D, L), state after the last token (B, D, N), and the states a backward pass starts from."""
    batch, channels, length = u.shape
    y = u.new_empty((batch, channels, length))
    last = u.new_empty((batch, channels, A.shape[1]))
    states = u.new_empty(_states_shape(u, B.shape[1], A.shape[1]) if save_states else (0,))
    A, D, delta_bias = A.contiguous(), _dense(D), _dense(delta_bias)
    fields = _fields(u, delta, A, B, C, D, z, delta_bias, delta_softplus, states if save_states else None)
    abi.call("cfm_scan_forward", [*fields, y.data_ptr(), *_strides(y), last.data_ptr()])
    return y, last, states


@selective_scan_states.register_fake
def _(u, delta, A, B, C, D, z, delta_bias, delta_softplus, save_states):
    batch, channels, length = u.shape
    states = u.new_empty(_states_shape(u, B.shape[1], A.shape[1]) if save_states else (0,))
    return u.new_empty((batch, channels, length)), u.new_empty((batch, channels, A.shape[1])), states


@torch.library.custom_op("clinicalfmamba::selective_scan_backward", mutates_args=())
def selective_scan_backward(
    dy: Tensor, dlast: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, delta_bias: Tensor | None, delta_softplus: bool, states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of u, delta, A, B, C, D, z, delta_bias; empty for those that were None."""
    grads = _gradients(u, delta, A, B, D, z, delta_bias)
    A, D, delta_bias, dlast = A.contiguous(), _dense(D), _dense(delta_bias), dlast.contiguous()
    dy, u, delta, z = _readable(dy), _readable(u), _readable(delta), _readable(z)
    du, ddelta, dA, dB, dC, dD, dz, dbias = grads
    fields = _fields(u, delta, A, B, C, D, z, delta_bias, delta_softplus, states)
    fields += [
        0, *abi.NO_STRIDES, 0, dy.data_ptr(), *_strides(dy), dlast.data_ptr(),
        du.data_ptr(), ddelta.data_ptr(), dz.data_ptr() if z is not None else 0,
        *_strides(du), *_strides(ddelta), *(_strides(dz) if z is not None else abi.NO_STRIDES),
        dA.data_ptr(), dD.data_ptr() if D is not None else 0, dbias.data_ptr() if delta_bias is not None else 0,
        dB.data_ptr(), dC.data_ptr(), *_state_strides(dB), *_state_strides(dC),
    ]  # fmt: skip
    abi.call("cfm_scan_backward", fields)
    return grads


def _gradients(u, delta, A, B, D, z, delta_bias):
    dB, dC = u.new_empty(B.shape), u.new_empty(B.shape)
    dD, dbias = (u.new_empty(u.shape[1] if x is not None else 0) for x in (D, delta_bias))
    dz = torch.empty_like(z) if z is not None else u.new_empty(0)
    return torch.empty_like(u), torch.empty_like(delta), u.new_empty(A.shape), dB, dC, dD, dz, dbias


@selective_scan_backward.register_fake
def _(dy, dlast, u, delta, A, B, C, D, z, delta_bias, delta_softplus, states):
    return _gradients(u, delta, A, B, D, z, delta_bias)


def _setup(ctx, inputs, output):
    *tensors, softplus, saved = inputs
    if not saved:
        raise RuntimeError("selective_scan_states: save_states must be true where gradients are wanted")
    ctx.softplus = softplus
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(True)


def _backward(ctx, dy, dlast, _):
    *tensors, states = ctx.saved_tensors
    D, z, delta_bias = tensors[5:]
    grads = torch.ops.clinicalfmamba.selective_scan_backward(dy, dlast, *tensors, ctx.softplus, states)
    du, ddelta, dA, dB, dC, dD, dz, dbias = grads
    optional = [g if x is not None else None for g, x in ((dD, D), (dz, z), (dbias, delta_bias))]
    return du, ddelta, dA, dB, dC, *optional, None, None


selective_scan_states.register_autograd(_backward, setup_context=_setup)

_library = torch.library.Library("clinicalfmamba", "FRAGMENT")
_library.define(
    "selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "bool delta_softplus) -> (Tensor, Tensor)"
)


def _selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    u, delta, A, B, C = u.float(), delta.float(), A.float(), B.float(), C.float()
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    y, last, _ = torch.ops.clinicalfmamba.selective_scan_states(*tensors, delta_softplus, save)
    return y, last


_library.impl("selective_scan", _selective_scan, "CompositeImplicitAutograd")
