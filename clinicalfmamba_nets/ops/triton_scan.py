"""Selective scan in Triton, forward and backward: ``torch.ops.clinicalfmamba.triton_*``, where mamba-ssm is missing.

State and sums are float32; inputs float32, float16 or bfloat16; any length, any number of states. The forward pass
keeps the state in front of every TOKENS tokens, the backward pass recomputes those between; gradients are summed in a
fixed order, so that they repeat bit for bit.

What was run: forward and backward in Triton's CPU interpreter against the float64 reference, and Triton's compiler up
to machine code for CUDA capability 8.0 and 9.0. Nothing was run or timed on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.triton_loader import Kernels, interpreting, required

TOKENS = 32  # per chunk
PROGRAMS = 2048  # of the backward pass, each with a scratch for the states of one chunk
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def selective_scan_triton(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run the selective scan of :func:`clinicalfmamba_nets.ops.selective_scan` through the Triton kernels.

    Source: arXiv 2312.00752, equation 2.

    Args:
        u: (B, D, L), or (B, G, D / G, L) in any memory order: sequences that lie token by token need no copy.
        delta: as ``u``.
        A: (D, N).
        B: (B, N, L), or (B, G, N, L).
        C: as ``B``.
        D: (D,).
        z: as ``u``.
        delta_bias: (D,).
        delta_softplus: whether softplus is applied to ``delta + delta_bias``.

    Returns:
        y of the shape, dtype and memory order of ``u``, and the last state (B, D, N) in float32.

    Raises:
        RuntimeError: Triton is not there, or the tensors are not on a CUDA device.
    """
    required()
    if u.device.type != ("cpu" if interpreting() else "cuda"):
        raise RuntimeError(f"the Triton scan takes CUDA tensors, found {u.device}; use the torch backend")
    B, C = (p if p.dim() == 4 else p.unsqueeze(1) for p in (B, C))
    shape = u.shape
    if u.dim() == 3:
        split = (B.shape[1], -1)  # (B, D, L) -> (B, G, D / G, L)
        u, delta, z = u.unflatten(1, split), delta.unflatten(1, split), None if z is None else z.unflatten(1, split)
    y, last, _ = torch.ops.clinicalfmamba.triton_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return y.reshape(shape), last


@torch.library.custom_op("clinicalfmamba::triton_scan", mutates_args=())
def triton_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, delta_softplus: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Output (B, G, D / G, L), last state (B, D, N), and the state in front of each chunk (B, chunks, D, N)."""
    kernels = required()
    y, last, starts = _results(u, A)
    u, delta, z = _ordered_as(u, y), _ordered_as(delta, y), None if z is None else _ordered_as(z, y)
    (B, C), A = _alike(B, C), A.float().contiguous()
    D, delta_bias = (None if x is None else x.float().contiguous() for x in (D, delta_bias))
    totals = starts.new_empty(starts.shape[:3])
    sizes, blocks, items = _launch(u, B, delta_softplus)
    with torch.cuda.device_of(u):
        kernels.local_states[(items,)](u, delta, A, B, delta_bias, starts, totals, *sizes, **blocks)
        _carry(kernels, starts, totals, A, None, last, reverse=False)
        kernels.outputs[(items,)](u, delta, A, B, C, D, z, delta_bias, starts, y, *sizes, **blocks)
    return y, last, starts


@triton_scan.register_fake
def _(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    return _results(u, A)


@torch.library.custom_op("clinicalfmamba::triton_scan_backward", mutates_args=())
def triton_scan_backward(
    dy: Tensor, dlast: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, delta_bias: Tensor | None, delta_softplus: bool, starts: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of u, delta, A, B, C, D, z, delta_bias; empty for those that were None."""
    kernels = required()
    du, ddelta, dz = _sequence_gradients(u, delta, z)
    u, delta, dy = _ordered_as(u, du), _ordered_as(delta, du), _ordered_as(dy, du)
    z = None if z is None else _ordered_as(z, du)
    (b, c), rates = _alike(B, C), A.float().contiguous()
    skip, shift = (None if x is None else x.float().contiguous() for x in (D, delta_bias))
    sizes, blocks, items = _launch(u, b, delta_softplus)
    batch, groups, width, length = u.shape
    parts = -(-width // blocks["CHANNELS"])
    sum_B, sum_C = (starts.new_empty(parts, batch, groups, length, A.shape[1]) for _ in range(2))
    adjoints, totals = torch.empty_like(starts), starts.new_empty(starts.shape[:3])
    sum_A = torch.empty_like(starts)
    sum_D, sum_bias = (None if x is None else torch.empty_like(totals) for x in (D, delta_bias))
    programs = min(items, PROGRAMS)
    scratch = starts.new_empty(programs, TOKENS, blocks["CHANNELS"], blocks["STATES"])
    with torch.cuda.device_of(u):
        kernels.local_adjoints[(items,)](delta, rates, c, z, shift, dy, adjoints, totals, *sizes, **blocks)
        _carry(kernels, adjoints, totals, rates, dlast.float().contiguous(), None, reverse=True)
        kernels.gradients[(programs,)](
            u, delta, rates, b, c, skip, z, shift, dy, starts, adjoints, scratch,
            du, ddelta, dz, sum_A, sum_B, sum_C, sum_D, sum_bias, items, batch, *sizes, **blocks,
        )  # fmt: skip
    dB, dC = (x.sum(0).transpose(-1, -2).to(p.dtype) for x, p in ((sum_B, B), (sum_C, C)))
    dA = sum_A.sum((0, 1)).to(A.dtype)
    dD = u.new_empty(0) if sum_D is None or D is None else sum_D.sum((0, 1)).to(D.dtype)
    dbias = u.new_empty(0) if sum_bias is None or delta_bias is None else sum_bias.sum((0, 1)).to(delta_bias.dtype)
    return du, ddelta, dA, dB, dC, dD, dz, dbias


@triton_scan_backward.register_fake
def _(dy, dlast, u, delta, A, B, C, D, z, delta_bias, delta_softplus, starts):
    du, ddelta, dz = _sequence_gradients(u, delta, z)
    batch, groups, states, length = B.shape
    dB, dC = (p.new_empty(batch, groups, length, states).transpose(-1, -2) for p in (B, C))
    dA, dD, dbias = (u.new_empty(0) if x is None else x.new_empty(x.shape) for x in (A, D, delta_bias))
    return du, ddelta, dA, dB, dC, dD, dz, dbias


def _setup(ctx, inputs, output):
    *tensors, ctx.softplus = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(True)


def _backward(ctx, dy, dlast, _):
    *tensors, starts = ctx.saved_tensors
    grads = torch.ops.clinicalfmamba.triton_scan_backward(dy, dlast, *tensors, ctx.softplus, starts)
    return *(g if x is not None else None for g, x in zip(grads, tensors, strict=True)), None


triton_scan.register_autograd(_backward, setup_context=_setup)


def _results(u: Tensor, A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, length = u.shape[0], u.shape[3]
    last = u.new_empty(batch, *A.shape, dtype=torch.float32)
    chunks = (length + TOKENS - 1) // TOKENS
    return torch.empty_like(u), last, last.new_empty(batch, chunks, *A.shape)


def _sequence_gradients(u: Tensor, delta: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    dz = u.new_empty(0) if z is None else torch.empty_like(u, dtype=z.dtype)
    return torch.empty_like(u), torch.empty_like(u, dtype=delta.dtype), dz


def _launch(u: Tensor, B: Tensor, softplus: bool) -> tuple[list[int], dict[str, Any], int]:
    """Sizes and strides, compile-time constants, and pieces of work of the kernels that walk chunks."""
    batch, groups, width, length = u.shape
    states = B.shape[2]
    chunks = -(-length // TOKENS)
    tile = min(16, _power_of_two(width)), _power_of_two(states)
    blocks = {"SOFTPLUS": softplus, "TOKENS": TOKENS, "CHANNELS": tile[0], "STATES": tile[1]}
    options = {"num_warps": max(1, min(8, tile[0] * tile[1] // 256)), "num_stages": 1}
    sizes = [length, width, groups, chunks, states, *u.stride(), *B.stride()]
    return sizes, {**blocks, **options}, batch * groups * -(-width // tile[0]) * chunks


def _carry(
    kernels: Kernels,
    states: Tensor,
    totals: Tensor,
    A: Tensor,
    first: Tensor | None,
    last: Tensor | None,
    reverse: bool,
) -> None:
    batch, chunks, channels, N = states.shape
    grid = (batch, -(-channels * N // 128))
    kernels.carry[grid](states, totals, A, first, last, channels * N, chunks, N, REVERSE=reverse, BLOCK=128)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _ordered_as(x: Tensor, like: Tensor) -> Tensor:
    """The same values in the memory order of another tensor of that shape; a copy only where they differ."""
    if x.stride() == like.stride():
        return x
    return torch.empty_like(like, dtype=x.dtype).copy_(x)


def _alike(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    return (B, C) if B.stride() == C.stride() else (B.contiguous(), C.contiguous())
