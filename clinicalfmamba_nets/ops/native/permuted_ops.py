"""``torch.ops.clinicalfmamba.permuted_*``: token-major, S weight sets, K directions, an index instead of copies."""

from __future__ import annotations

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.native import abi


def _order(order: Tensor) -> Tensor:
    return order if order.dtype == torch.int64 and order.is_contiguous() else order.long().contiguous()


def _strides(x: Tensor) -> tuple[int, ...]:
    """(S, K, B, L, D) -> its strides; (S, B, L, D) -> with 0 for the direction."""
    s = x.stride()
    return s if len(s) == 5 else (s[0], 0, s[1], s[2], s[3])


def _state_strides(x: Tensor) -> tuple[int, ...]:
    s = x.stride()
    return s[0], s[1], s[2], 0, s[3], s[4]


def _check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, order: Tensor):
    S, K, batch, L, channels = u.shape
    N = A.shape[3]
    for name, x, shape in (
        ("delta", delta, u.shape), ("A", A, (S, K, channels, N)), ("B", B, (S, K, batch, L, N)),
        ("C", C, (S, K, batch, L, N)), ("D", D, (S, K, channels)), ("delta_bias", delta_bias, (S, K, channels)),
        ("order", order, (K, L)),
    ):  # fmt: skip
        if x.shape != torch.Size(shape):
            raise ValueError(f"permuted_selective_scan: {name}: expected {tuple(shape)}, found {tuple(x.shape)}")


def _states_shape(u: Tensor, states: int) -> tuple[int, ...]:
    S, K, batch, L, channels = u.shape
    tiles, width = abi.tiles(L)
    return S, K, batch, tiles, -(-channels // width), states, width


def _fields(u, delta, A, B, C, D, delta_bias, order, states) -> list[int]:
    S, K, batch, L, channels = u.shape
    return [
        S, K, batch, 1, L, channels, A.shape[3], 1, abi.threads(),
        u.data_ptr(), delta.data_ptr(), 0, *_strides(u), *_strides(delta), *abi.NO_STRIDES,
        A.data_ptr(), B.data_ptr(), C.data_ptr(), *_state_strides(B), *_state_strides(C),
        D.data_ptr(), delta_bias.data_ptr(), order.data_ptr(), states.data_ptr() if states.numel() else 0,
    ]  # fmt: skip


@torch.library.custom_op("clinicalfmamba::permuted_selective_scan_states", mutates_args=())
def permuted_selective_scan_states(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, order: Tensor,
    save_states: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Sum over the directions at their tokens, (S, B, L, D), and the states a backward pass starts from."""
    _check(u, delta, A, B, C, D, delta_bias, order)
    A, D, delta_bias, order = A.contiguous(), D.contiguous(), delta_bias.contiguous(), _order(order)
    S, K, batch, L, channels = u.shape
    y = u.new_empty((S, batch, L, channels))
    states = u.new_empty(_states_shape(u, A.shape[3]) if save_states else (0,))
    fields = _fields(u, delta, A, B, C, D, delta_bias, order, states)
    abi.call("cfm_scan_forward", [*fields, y.data_ptr(), *_strides(y)])
    return y, states


@permuted_selective_scan_states.register_fake
def _(u, delta, A, B, C, D, delta_bias, order, save_states):
    S, K, batch, L, channels = u.shape
    states = u.new_empty(_states_shape(u, A.shape[3]) if save_states else (0,))
    return u.new_empty((S, batch, L, channels)), states


@torch.library.custom_op("clinicalfmamba::permuted_selective_scan_backward", mutates_args=())
def permuted_selective_scan_backward(
    dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor,
    order: Tensor, states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of u, delta, A, B, C, D, delta_bias."""
    A, D, delta_bias, order = A.contiguous(), D.contiguous(), delta_bias.contiguous(), _order(order)
    grads = _gradients(u, A, B, D)
    du, ddelta, dA, dB, dC, dD, dbias = grads
    fields = [
        *_fields(u, delta, A, B, C, D, delta_bias, order, states),
        0, *abi.NO_STRIDES, 0, dy.data_ptr(), *_strides(dy), 0, du.data_ptr(), ddelta.data_ptr(), 0,
        *_strides(du), *_strides(ddelta), *abi.NO_STRIDES, dA.data_ptr(), dD.data_ptr(), dbias.data_ptr(),
        dB.data_ptr(), dC.data_ptr(), *_state_strides(dB), *_state_strides(dC),
    ]  # fmt: skip
    abi.call("cfm_scan_backward", fields)
    return grads


def _gradients(u, A, B, D):
    return tuple(u.new_empty(shape) for shape in (u.shape, u.shape, A.shape, B.shape, B.shape, D.shape, D.shape))


@permuted_selective_scan_backward.register_fake
def _(dy, u, delta, A, B, C, D, delta_bias, order, states):
    return _gradients(u, A, B, D)


def _scan_setup(ctx, inputs, output):
    *tensors, saved = inputs
    if not saved:
        raise RuntimeError("permuted_selective_scan_states: save_states must be true where gradients are wanted")
    ctx.save_for_backward(*tensors, output[1])


def _scan_backward(ctx, dy, _):
    grads = torch.ops.clinicalfmamba.permuted_selective_scan_backward(dy, *ctx.saved_tensors)
    return *grads, None, None


permuted_selective_scan_states.register_autograd(_scan_backward, setup_context=_scan_setup)


@torch.library.custom_op("clinicalfmamba::permuted_conv1d_silu", mutates_args=())
def permuted_conv1d_silu(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Causal depthwise convolution and SiLU along each direction, (S, K, B, L, D)."""
    S, batch, L, channels = x.shape
    K, taps = weight.shape[1], weight.shape[3]
    for name, t, shape in (("weight", weight, (S, K, channels, taps)), ("bias", bias, (S, K, channels)),
                           ("order", order, (K, L))):  # fmt: skip
        if t.shape != torch.Size(shape):
            raise ValueError(f"permuted_conv1d_silu: {name}: expected {tuple(shape)}, found {tuple(t.shape)}")
    x, weight, bias, order = x.float(), weight.float().contiguous(), bias.float().contiguous(), _order(order)
    u = x.new_empty((S, K, batch, L, channels))
    fields = [
        S, K, batch, L, channels, taps, abi.threads(), x.data_ptr(), *_strides(x), weight.data_ptr(),
        bias.data_ptr(), order.data_ptr(), u.data_ptr(),
    ]  # fmt: skip
    abi.call("cfm_conv_forward", fields)
    return u


@permuted_conv1d_silu.register_fake
def _(x, weight, bias, order):
    S, batch, L, channels = x.shape
    return x.new_empty((S, weight.shape[1], batch, L, channels), dtype=torch.float32)


@torch.library.custom_op("clinicalfmamba::permuted_conv1d_silu_backward", mutates_args=())
def permuted_conv1d_silu_backward(
    du: Tensor, x: Tensor, weight: Tensor, bias: Tensor, order: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias, in float32."""
    S, batch, L, channels = x.shape
    K, taps = weight.shape[1], weight.shape[3]
    x, weight, bias, order = x.float(), weight.float().contiguous(), bias.float().contiguous(), _order(order)
    du = du.contiguous()
    grads = _conv_gradients(x, weight, bias)
    fields = [
        S, K, batch, L, channels, taps, abi.threads(), x.data_ptr(), *_strides(x), weight.data_ptr(),
        bias.data_ptr(), order.data_ptr(), 0, du.data_ptr(), *(g.data_ptr() for g in grads),
    ]  # fmt: skip
    abi.call("cfm_conv_backward", fields)
    return grads


def _conv_gradients(x, weight, bias):
    return tuple(torch.empty(t.shape, dtype=torch.float32, device=t.device) for t in (x, weight, bias))


@permuted_conv1d_silu_backward.register_fake
def _(du, x, weight, bias, order):
    return _conv_gradients(x, weight, bias)


def _conv_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _conv_backward(ctx, du):
    return *torch.ops.clinicalfmamba.permuted_conv1d_silu_backward(du, *ctx.saved_tensors), None


permuted_conv1d_silu.register_autograd(_conv_backward, setup_context=_conv_setup)

_library = torch.library.Library("clinicalfmamba", "FRAGMENT")
_library.define(
    "permuted_selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor D, Tensor delta_bias, "
    "Tensor order) -> Tensor"
)


def _permuted_selective_scan(u, delta, A, B, C, D, delta_bias, order):
    tensors = [t.float() for t in (u, delta, A, B, C, D, delta_bias)]
    save = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return torch.ops.clinicalfmamba.permuted_selective_scan_states(*tensors, order, save)[0]


_library.impl("permuted_selective_scan", _permuted_selective_scan, "CompositeImplicitAutograd")
