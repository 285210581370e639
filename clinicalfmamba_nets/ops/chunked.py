"""The selective scan in plain torch operations, chunk by chunk: any device and dtype, TorchScript, torch.export, ONNX.

The sequence is cut into chunks. All chunks are scanned together from a zero state (a loop over the tokens of a chunk),
the states at the chunk ends are linked by a doubling scan over the chunks, and what is left of the state that enters a
chunk is then added to those of its tokens. Every factor is exp(delta A) <= 1, so nothing overflows at any length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.ops.exported import scan_exported
from clinicalfmamba_nets.ops.in_turn import scan_in_turn, scripted
from clinicalfmamba_nets.ops.recording import exports_loops, recording, records_loops

# A recorded graph holds every turn of a loop: its chunks have this many tokens, and this many are linked to a block.
RECORDED_CHUNK = 8
# A trace cannot loop over a length it does not know: it always takes this many doublings, enough for 262,144 tokens.
TRACED_DOUBLINGS = 12


def scan_tokens(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_softplus: bool = False,
    chunk: int = 32,
    recorded_chunk: int = RECORDED_CHUNK,
) -> tuple[Tensor, Tensor]:
    """Selective scan of token-major sequences, without gate.

    Source: arXiv 2312.00752, equation 2; the chunked form is that of a blocked prefix scan.

    Args:
        u: inputs, (G, L, D).
        delta: positive time steps, (G, L, D), or what softplus makes them of.
        A: negative decay rates, (G, D, N).
        B: input projections, (G, L, N).
        C: output projections, (G, L, N).
        D: skip weights, (G, D).
        delta_softplus: take softplus of ``delta``.
        chunk: tokens per chunk.
        recorded_chunk: tokens per chunk, and chunks per block, in a graph that is recorded.

    Returns:
        y (G, L, D) and the last state (G, D, N), of the dtype of ``u``.

    Example:
        >>> x = torch.rand(2, 40, 3)
        >>> y, last = scan_tokens(x, x, -torch.ones(2, 3, 4), torch.rand(2, 40, 4), torch.rand(2, 40, 4))
        >>> tuple(y.shape), tuple(last.shape)
        ((2, 40, 3), (2, 3, 4))
    """
    if records_loops():
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if exports_loops():
                return scan_exported(u, delta, A, B, C, D, delta_softplus)
            return scan_traced(u, delta, A, B, C, D, delta_softplus)
        return scan_in_turn(u, delta, A, B, C, D, delta_softplus)
    return _scan_and_skip(u, delta, A, B, C, D, delta_softplus, chunk, recorded_chunk)


def _scan_and_skip(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_softplus: bool,
    chunk: int = 32,
    recorded_chunk: int = RECORDED_CHUNK,
) -> tuple[Tensor, Tensor]:
    """As :func:`scan_tokens`, all chunks together, with every derivative."""
    if delta_softplus:
        delta = F.softplus(delta)
    y, last = _scan_chunks(u, delta, A, B, C, chunk, recorded_chunk)
    return y if D is None else torch.addcmul(y, D.unsqueeze(1), u), last


def _scan_chunks(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int, recorded_chunk: int
) -> tuple[Tensor, Tensor]:
    """As :func:`scan_tokens`, with positive time steps and without skip."""
    groups, length, channels = u.shape
    block = 1
    if recording():
        chunk, block = recorded_chunk, recorded_chunk
    # A recorded graph takes one block more: a count of 1 would be recorded as a constant.
    blocks = (length + chunk * block - 1) // (chunk * block) + (1 if recording() or length == 0 else 0)
    chunks = blocks * block
    pad = chunks * chunk - length
    # Padded tokens have delta 0: they keep the state as it is.
    delta = F.pad(delta, [0, 0, 0, pad]).view(groups, chunks, chunk, 1, channels)
    driven = delta * F.pad(u, [0, 0, 0, pad]).view(groups, chunks, chunk, 1, channels)
    B = F.pad(B, [0, 0, 0, pad]).view(groups, chunks, chunk, A.shape[2], 1)
    C = F.pad(C, [0, 0, 0, pad]).view(groups, chunks, chunk, 1, A.shape[2])
    rate = A.transpose(1, 2).unsqueeze(1)  # (G, 1, N, D)
    # The tokens of the chunks one by one: (G, chunks, 1, D), (G, chunks, N, 1) and (G, chunks, 1, N).
    deltas, inputs, into, out_of = delta.unbind(2), driven.unbind(2), B.unbind(2), C.unbind(2)

    # What the chunk's own tokens have made of the state, (G, chunks, N, D), and what is left of the one that enters it.
    states, left = [into[0] * inputs[0]], [torch.exp(deltas[0] * rate)]
    for t in range(1, chunk):
        decay = torch.exp(deltas[t] * rate)
        states.append(torch.addcmul(into[t] * inputs[t], decay, states[t - 1]))
        left.append(left[t - 1] * decay)

    if recording():
        after = _link_blocks(states[chunk - 1], left[chunk - 1], blocks, block)
    else:
        after = _link_chunks(states[chunk - 1], left[chunk - 1], chunks)
    entering = F.pad(after, [0, 0, 0, 0, 1, 0])[:, :-1]  # the state before each chunk
    outputs = []
    for t in range(chunk):
        outputs.append(torch.matmul(out_of[t], torch.addcmul(states[t], left[t], entering)))
    y = torch.cat(outputs, dim=2).view(groups, chunks * chunk, channels)[:, :length]
    return y, after[:, -1].transpose(1, 2)


def _link_blocks(state: Tensor, decay: Tensor, blocks: int, block: int) -> Tensor:
    """As :func:`_link_chunks` with few operations: chunk by chunk within all blocks, then from block to block."""
    shape = [state.shape[0], blocks, block, state.shape[2], state.shape[3]]
    states = state.view(shape).unbind(2)
    decays = decay.view(shape).unbind(2)
    reached, left = [states[0]], [decays[0]]
    for k in range(1, block):
        reached.append(torch.addcmul(states[k], decays[k], reached[k - 1]))
        left.append(decays[k] * left[k - 1])
    after = _link_chunks(reached[-1], left[-1], blocks)
    entering = F.pad(after, [0, 0, 0, 0, 1, 0])[:, :-1].unsqueeze(2)  # the state before each block
    return torch.addcmul(torch.stack(reached, dim=2), torch.stack(left, dim=2), entering).view_as(state)


def _link_chunks(state: Tensor, decay: Tensor, chunks: int, traced_doublings: int = TRACED_DOUBLINGS) -> Tensor:
    """States after each chunk from the states and decays of single chunks, (G, chunks, N, D), by doubling."""
    shift = 1
    if recording():
        place = torch.arange(chunks, device=state.device)
        for _ in range(traced_doublings):  # beyond the first chunk there is nothing, however far the shift goes
            earlier = torch.clamp(place - shift, min=0)
            there = (place >= shift).to(state.dtype)[:, None, None]
            state = torch.addcmul(state, decay * there, state.index_select(1, earlier))
            decay = decay * decay.index_select(1, earlier)
            shift *= 2
    else:
        while shift < chunks:
            state = torch.addcmul(state, decay, F.pad(state, [0, 0, 0, 0, shift, 0])[:, :-shift])
            decay = decay * F.pad(decay, [0, 0, 0, 0, shift, 0])[:, :-shift]
            shift *= 2
    return state


@scripted
def scan_traced(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_softplus: bool
) -> tuple[Tensor, Tensor]:
    """As :func:`scan_tokens`, in a trace: recorded without gradients, it may be run with them."""
    if torch.is_grad_enabled():
        return _scan_and_skip(u, delta, A, B, C, D, delta_softplus)
    return scan_in_turn(u, delta, A, B, C, D, delta_softplus)
