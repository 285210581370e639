"""Triton kernels of the selective scan, forward; imported on demand by ``triton_loader`` alone.

Source of the recurrence: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752,
equation 2. A sequence is cut into chunks of TOKENS tokens that run at the same time. ``local_states`` finds what each
chunk adds to the state, ``carry`` hands the states from chunk to chunk, ``outputs`` walks each chunk from its true
start. :mod:`clinicalfmamba_nets.ops.triton_gradients` mirrors that.

Shapes: sequences u, delta, z, y (batch, G, width, L), all of the strides (ub, ug, uw, ul); projections B, C
(batch, G, N, L) of the strides (pb, pg, pn, pl); A (D, N), D and bias (D,) with D = G width, float32 and contiguous;
states (batch, chunks, D, N) and totals (batch, chunks, D), float32 and contiguous.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def place_of(item, chunks, length, width, groups, TOKENS: tl.constexpr, CHANNELS: tl.constexpr):
    """Where a piece of work lies: batch index, group, part of the group and its channels, chunk and its tokens.

    Returns:
        batch and group index, index of the chunk among those of all batches, part, channels within the group, first
        token, number of tokens.
    """
    parts = tl.cdiv(width, CHANNELS)
    chunk = item % chunks
    part = (item // chunks) % parts
    group = ((item // (chunks * parts)) % groups).to(tl.int64)
    batch = (item // (chunks * parts * groups)).to(tl.int64)
    w = part * CHANNELS + tl.arange(0, CHANNELS)
    start = chunk * TOKENS
    return batch, group, batch * chunks + chunk, part, w, start, tl.minimum(TOKENS, length - start)


@triton.jit
def time_step(delta, at, inside, shift, SOFTPLUS: tl.constexpr):
    """Time steps of some channels at a token, and softplus' derivative there."""
    x = tl.load(delta + at, mask=inside, other=0.0).to(tl.float32) + shift
    slope = tl.full(x.shape, 1.0, tl.float32)
    if SOFTPLUS:
        e = tl.exp(-tl.abs(x))
        slope = tl.where(x >= 0, 1.0, e) / (1.0 + e)
        # log(1 + e) = 2 atanh(s) with s = e / (2 + e) <= 1/3; the series keeps small steps exact, log() would not.
        s = e / (2.0 + e)
        q = s * s
        series = 1.0 / 13.0 + q * (1.0 / 15.0)
        series = 1.0 / 9.0 + q * (1.0 / 11.0 + q * series)
        series = 1.0 / 5.0 + q * (1.0 / 7.0 + q * series)
        series = 1.0 + q * (1.0 / 3.0 + q * series)
        x = tl.maximum(x, 0.0) + 2.0 * s * series
    return x, slope


@triton.jit
def weights(vector, channel, inside):
    """A float32 weight per channel, zero where there is no vector."""
    if vector is not None:
        return tl.load(vector + channel, mask=inside, other=0.0)
    return tl.zeros(channel.shape, tl.float32)


@triton.jit
def row(x, at, inside):
    """Values at some places as float32, zero outside."""
    return tl.load(x + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def local_states(
    u, delta, A, B, bias, states, totals, length, width, groups, chunks, N,
    ub, ug, uw, ul, pb, pg, pn, pl,
    SOFTPLUS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """State that each chunk reaches from zero, and the sum of its time steps."""
    item = tl.program_id(0)
    batch, group, place, _part, w, start, tokens = place_of(item, chunks, length, width, groups, TOKENS, CHANNELS)
    n = tl.arange(0, STATES)
    channel, inside, real = group * width + w, w < width, n < N
    tile = channel[:, None] * N + n[None, :]
    within = inside[:, None] & real[None, :]
    rates = tl.load(A + tile, mask=within, other=0.0)
    shift = weights(bias, channel, inside)
    at = batch * ub + group * ug + start.to(tl.int64) * ul + w.to(tl.int64) * uw
    of = batch * pb + group * pg + start.to(tl.int64) * pl + n * pn
    state = tl.zeros((CHANNELS, STATES), tl.float32)
    total = tl.zeros((CHANNELS,), tl.float32)
    for _ in range(tokens):
        step, _slope = time_step(delta, at, inside, shift, SOFTPLUS)
        step = tl.where(inside, step, 0.0)
        drive = step * row(u, at, inside)
        state = tl.exp(step[:, None] * rates) * state + drive[:, None] * row(B, of, real)[None, :]
        total += step
        at += ul
        of += pl
    place *= groups * width
    tl.store(states + place * N + tile, state, mask=within)
    tl.store(totals + place + channel, total, mask=inside)


@triton.jit
def carry(states, totals, A, first, last, size, chunks, N, REVERSE: tl.constexpr, BLOCK: tl.constexpr):
    """Replace what each chunk adds by the state it starts from; in reverse by the adjoint at its end.

    first: state before the first chunk, or None for zero; last: receives the state after the last, or None.
    """
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    batch = tl.program_id(0).to(tl.int64)
    inside = i < size
    rates = tl.load(A + i, mask=inside, other=0.0)
    state = tl.zeros((BLOCK,), tl.float32)
    if first is not None:
        state = tl.load(first + batch * size + i, mask=inside, other=0.0)
    for k in range(chunks):
        chunk = k
        if REVERSE:
            chunk = chunks - 1 - k
        place = batch * chunks + chunk
        at = states + place * size + i
        total = tl.load(totals + place * (size // N) + i // N, mask=inside, other=0.0)
        added = tl.load(at, mask=inside, other=0.0)
        tl.store(at, state, mask=inside)
        state = tl.exp(rates * total) * state + added
    if last is not None:
        tl.store(last + batch * size + i, state, mask=inside)


@triton.jit
def outputs(
    u, delta, A, B, C, D, z, bias, starts, y, length, width, groups, chunks, N,
    ub, ug, uw, ul, pb, pg, pn, pl,
    SOFTPLUS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Outputs of each chunk, from the state it starts from."""
    item = tl.program_id(0)
    batch, group, place, _part, w, start, tokens = place_of(item, chunks, length, width, groups, TOKENS, CHANNELS)
    n = tl.arange(0, STATES)
    channel, inside, real = group * width + w, w < width, n < N
    tile = channel[:, None] * N + n[None, :]
    within = inside[:, None] & real[None, :]
    rates = tl.load(A + tile, mask=within, other=0.0)
    shift, skip = weights(bias, channel, inside), weights(D, channel, inside)
    at = batch * ub + group * ug + start.to(tl.int64) * ul + w.to(tl.int64) * uw
    of = batch * pb + group * pg + start.to(tl.int64) * pl + n * pn
    place *= groups * width
    state = tl.load(starts + place * N + tile, mask=within, other=0.0)
    for _ in range(tokens):
        step, _slope = time_step(delta, at, inside, shift, SOFTPLUS)
        x = row(u, at, inside)
        drive = step * x
        state = tl.exp(step[:, None] * rates) * state + drive[:, None] * row(B, of, real)[None, :]
        out = tl.sum(state * row(C, of, real)[None, :], 1) + skip * x
        if z is not None:
            gate = row(z, at, inside)
            out *= gate / (1.0 + tl.exp(-gate))
        tl.store(y + at, out.to(y.dtype.element_ty), mask=inside)
        at += ul
        of += pl
