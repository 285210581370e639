"""Triton kernels of the selective scan, backward; imported on demand by ``triton_loader`` alone.

``local_adjoints`` finds the gradient that the outputs of each chunk send to the state in front of it, ``carry`` in
reverse hands these from chunk to chunk, and ``gradients`` recomputes the states of a chunk into a small scratch and
sweeps the chunk in reverse. Every sum has a fixed order: no atomics. Shapes as in
:mod:`clinicalfmamba_nets.ops.triton_kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from clinicalfmamba_nets.ops.triton_kernels import place_of, row, time_step, weights


@triton.jit
def local_adjoints(
    delta, A, C, z, bias, dy, adjoints, totals, length, width, groups, chunks, N,
    ub, ug, uw, ul, pb, pg, pn, pl,
    SOFTPLUS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Gradient that the outputs of each chunk send to the state it starts from, and the sum of its time steps."""
    item = tl.program_id(0)
    batch, group, place, _part, w, start, tokens = place_of(item, chunks, length, width, groups, TOKENS, CHANNELS)
    n = tl.arange(0, STATES)
    channel, inside, real = group * width + w, w < width, n < N
    tile = channel[:, None] * N + n[None, :]
    within = inside[:, None] & real[None, :]
    rates = tl.load(A + tile, mask=within, other=0.0)
    shift = weights(bias, channel, inside)
    end = (start + tokens - 1).to(tl.int64)
    at = batch * ub + group * ug + end * ul + w.to(tl.int64) * uw
    of = batch * pb + group * pg + end * pl + n * pn
    adjoint = tl.zeros((CHANNELS, STATES), tl.float32)
    total = tl.zeros((CHANNELS,), tl.float32)
    for _ in range(tokens):
        step, _slope = time_step(delta, at, inside, shift, SOFTPLUS)
        step = tl.where(inside, step, 0.0)
        grad = row(dy, at, inside)
        if z is not None:
            gate = row(z, at, inside)
            grad *= gate / (1.0 + tl.exp(-gate))
        adjoint = tl.exp(step[:, None] * rates) * (adjoint + grad[:, None] * row(C, of, real)[None, :])
        total += step
        at -= ul
        of -= pl
    place *= groups * width
    tl.store(adjoints + place * N + tile, adjoint, mask=within)
    tl.store(totals + place + channel, total, mask=inside)


@triton.jit
def gradients(
    u, delta, A, B, C, D, z, bias, dy, starts, adjoints, scratch,
    du, ddelta, dz, dA, dB, dC, dD, dbias, items, batches, length, width, groups, chunks, N,
    ub, ug, uw, ul, pb, pg, pn, pl,
    SOFTPLUS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Every gradient: those of B and C summed over CHANNELS channels, those of A, D and bias over a chunk.

    Shapes: dB, dC (parts, batch, G, L, N); dA (batch, chunks, D, N); dD, dbias (batch, chunks, D); scratch
    (programs, TOKENS, CHANNELS, STATES): each program reads back what it wrote itself.
    """
    n = tl.arange(0, STATES)
    real = n < N
    local = tl.arange(0, CHANNELS)[:, None] * STATES + n[None, :]
    own = scratch + tl.program_id(0).to(tl.int64) * (TOKENS * CHANNELS * STATES) + local
    for item in range(tl.program_id(0), items, tl.num_programs(0)):
        batch, group, place, part, w, start, tokens = place_of(item, chunks, length, width, groups, TOKENS, CHANNELS)
        channel, inside = group * width + w, w < width
        tile = channel[:, None] * N + n[None, :]
        within = inside[:, None] & real[None, :]
        rates = tl.load(A + tile, mask=within, other=0.0)
        shift, skip = weights(bias, channel, inside), weights(D, channel, inside)
        at = batch * ub + group * ug + start.to(tl.int64) * ul + w.to(tl.int64) * uw
        of = batch * pb + group * pg + start.to(tl.int64) * pl + n * pn
        place *= groups * width
        state = tl.load(starts + place * N + tile, mask=within, other=0.0)
        tl.debug_barrier()  # the scratch of the piece before has been read
        for i in range(tokens):
            tl.store(own + i * (CHANNELS * STATES), state)
            step, _slope = time_step(delta, at, inside, shift, SOFTPLUS)
            drive = step * row(u, at, inside)
            state = tl.exp(step[:, None] * rates) * state + drive[:, None] * row(B, of, real)[None, :]
            at += ul
            of += pl
        tl.debug_barrier()  # the scratch has been written

        adjoint = tl.load(adjoints + place * N + tile, mask=within, other=0.0)
        sum_A = tl.zeros((CHANNELS, STATES), tl.float32)
        sum_D = tl.zeros((CHANNELS,), tl.float32)
        sum_bias = tl.zeros((CHANNELS,), tl.float32)
        to = ((part * batches + batch) * groups + group) * length + start + tokens
        for k in range(tokens):
            at -= ul
            of -= pl
            to -= 1
            before = tl.load(own + (tokens - 1 - k) * (CHANNELS * STATES))
            step, slope = time_step(delta, at, inside, shift, SOFTPLUS)
            x, grad = row(u, at, inside), row(dy, at, inside)
            b, c = row(B, of, real), row(C, of, real)
            decayed = tl.exp(step[:, None] * rates)
            kept = decayed * before
            state = kept + (step * x)[:, None] * b[None, :]
            if z is not None:
                gate = row(z, at, inside)
                sigmoid = 1.0 / (1.0 + tl.exp(-gate))
                out = tl.sum(state * c[None, :], 1) + skip * x
                dgate = grad * out * sigmoid * (1.0 + gate * (1.0 - sigmoid))
                tl.store(dz + at, dgate.to(dz.dtype.element_ty), mask=inside)
                grad *= gate * sigmoid
            full = adjoint + grad[:, None] * c[None, :]
            through = tl.sum(full * b[None, :], 1)
            dx = step * through + skip * grad
            dstep = (tl.sum(full * kept * rates, 1) + x * through) * slope
            tl.store(du + at, dx.to(du.dtype.element_ty), mask=inside)
            tl.store(ddelta + at, dstep.to(ddelta.dtype.element_ty), mask=inside)
            tl.store(dB + to * N + n, tl.sum(full * (step * x)[:, None], 0), mask=real)
            tl.store(dC + to * N + n, tl.sum(state * grad[:, None], 0), mask=real)
            sum_A += full * kept * step[:, None]
            sum_D += grad * x
            sum_bias += dstep
            adjoint = decayed * full
        tl.store(dA + place * N + tile, sum_A, mask=within)
        if dD is not None:
            tl.store(dD + place + channel, sum_D, mask=inside)
        if dbias is not None:
            tl.store(dbias + place + channel, sum_bias, mask=inside)
