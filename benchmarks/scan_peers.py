"""Selective scans that pip installs, with the arguments of the rows in benchmarks/scan.py."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def mambapy_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
) -> Tensor:
    """The scan through mambapy's parallel prefix sums."""
    from mambapy.pscan import pscan

    delta = F.softplus(delta + bias[:, None]).transpose(1, 2)  # (B, L, D)
    drive = (delta * u.transpose(1, 2))[..., None] * B.transpose(1, 2)[:, :, None]  # (B, L, D, N)
    states = pscan(torch.exp(delta[..., None] * A), drive)
    y = (states @ C.transpose(1, 2)[..., None]).squeeze(3).transpose(1, 2)
    return (y + D[:, None] * u) * F.silu(z)


def torch_associative_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
) -> Tensor:
    """The scan through torch's own associative_scan, as it runs without compiling (on a CPU it cannot be compiled)."""
    from torch._higher_order_ops.associative_scan import generic_associative_scan

    def combine(decay: Tensor, drive: Tensor, later_decay: Tensor, later_drive: Tensor) -> list[Tensor]:
        return [decay * later_decay, drive * later_decay + later_drive]

    delta = F.softplus(delta + bias[:, None]).transpose(1, 2)  # (B, L, D)
    drive = (delta * u.transpose(1, 2))[..., None] * B.transpose(1, 2)[:, :, None]  # (B, L, D, N)
    decay = torch.exp(delta[..., None] * A)
    tokens_first = [x.transpose(0, 1) for x in (decay, drive)]
    states = generic_associative_scan(combine, tokens_first)[1].transpose(0, 1)
    y = (states @ C.transpose(1, 2)[..., None]).squeeze(3).transpose(1, 2)
    return (y + D[:, None] * u) * F.silu(z)


@functools.cache
def _jax_functions() -> tuple[Any, Any]:
    """JAX's lax.scan over the tokens, compiled: forward, and the gradients of all arguments."""
    import jax
    import jax.numpy as jnp

    def scan(u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, z: Any, bias: Any) -> Any:
        delta = jax.nn.softplus(delta + bias[:, None])

        def token(state: Any, now: Any) -> Any:
            delta_t, u_t, B_t, C_t = now  # (B, D), (B, D), (B, N), (B, N)
            state = jnp.exp(delta_t[..., None] * A) * state + (delta_t * u_t)[..., None] * B_t[:, None]
            return state, (state * C_t[:, None]).sum(-1)

        start = jnp.zeros((*u.shape[:2], A.shape[1]), u.dtype)
        tokens = [jnp.moveaxis(x, 2, 0) for x in (delta, u, B, C)]
        y = jnp.moveaxis(jax.lax.scan(token, start, tokens)[1], 0, 2)
        return (y + D[:, None] * u) * jax.nn.silu(z)

    def gradients(arguments: Any, dy: Any) -> Any:
        return jax.vjp(scan, *arguments)[1](dy)

    return jax.jit(scan), jax.jit(gradients)


class _JaxScan(torch.autograd.Function):
    """JAX behind torch's interface, without copies of what is dense; the gradients compute the scan again."""

    @staticmethod
    def forward(ctx: Any, *tensors: Any) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(*tensors)
        return _to_torch(_jax_functions()[0](*map(_to_jax, tensors)))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        arguments = tuple(map(_to_jax, ctx.saved_tensors))
        return tuple(map(_to_torch, _jax_functions()[1](arguments, _to_jax(dy))))


def _to_jax(x: Tensor) -> Any:
    import jax

    return jax.dlpack.from_dlpack(x.detach().contiguous())


def _to_torch(x: Any) -> Tensor:
    return torch.from_dlpack(x.block_until_ready())


def jax_scan(*tensors: Tensor) -> Tensor:
    """The scan through JAX's compiled lax.scan."""
    return _JaxScan.apply(*tensors)
