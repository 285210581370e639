"""Convolution and scan in a graph of torch.export, for inference: the scan loops, by torch's own operator for loops.

The body of the loop writes into memory that lies outside of it, which torch allows where no gradients are recorded:
what a loop hands on from turn to turn, or stacks, would be copied in every turn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16  # tokens of a turn; they are in the graph one by one


def conv1d_silu_exported(x: Tensor, taps: Tensor, bias: Tensor, steps: Tensor) -> Tensor:
    """As :func:`clinicalfmamba_nets.ops.in_turn.conv1d_silu_in_turn`, one map for all taps."""
    width, (directions, read) = taps.shape[0], steps.shape
    x = x.index_select(2, steps.flatten()).unflatten(2, [directions, read]).transpose(1, 2)  # (S, K, B, W - 1 + L, D)
    y = torch.addcmul(bias, taps[0], x[:, :, :, : read - width + 1])
    for tap in range(1, width):
        y.addcmul_(taps[tap], x[:, :, :, tap : read - width + 1 + tap])
    return F.silu(y, inplace=True)


def scan_exported(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_softplus: bool
) -> tuple[Tensor, Tensor]:
    """As :func:`clinicalfmamba_nets.ops.chunked.scan_tokens`, chunk after chunk. In memory y is (L, G, D)."""
    from torch._higher_order_ops.while_loop import while_loop

    groups, length, channels = u.shape
    chunk = CHUNK
    rate = A.transpose(1, 2).contiguous()  # (G, N, D)
    chunks = (length + chunk - 1) // chunk + 1  # a count of 1 would be recorded as a constant
    B, C = B.clone(), C.clone()  # what a loop reads must not lie in one tensor
    within = torch.arange(chunk, device=u.device)
    y = u.new_empty([chunks * chunk, groups, channels])
    decays = u.new_empty([chunk, groups, A.shape[2], channels])
    states, state = torch.empty_like(decays), torch.zeros_like(rate)

    def more(turn: Tensor) -> Tensor:
        return (turn < chunks).squeeze(0)

    def scan_chunk(turn: Tensor) -> tuple[Tensor]:
        place = turn * chunk + within  # (T,)
        read = place.clamp(max=length - 1)
        inputs, steps, into, out_of = (x.index_select(1, read).transpose(0, 1) for x in (u, delta, B, C))  # (T, G, X)
        if delta_softplus:
            steps = F.softplus(steps)
        steps = (
            steps * (place < length).to(steps.dtype)[:, None, None]
        )  # behind the last token the state stays as it is
        torch.mul(steps.unsqueeze(2), rate, out=decays).exp_()
        torch.mul(into.unsqueeze(3), (steps * inputs).unsqueeze(2), out=states)
        reached = state
        for decay, following in zip(decays.unbind(0), states.unbind(0), strict=True):
            reached = following.addcmul_(decay, reached)
        found = torch.matmul(out_of.unsqueeze(2), states).squeeze(2)  # (T, G, D)
        y.index_copy_(0, place, found if D is None else found.addcmul_(D, inputs))
        state.copy_(reached)
        return (turn + 1,)

    while_loop(more, scan_chunk, (torch.zeros([1], dtype=torch.int64, device=u.device),))
    return y[:length].transpose(0, 1), state.transpose(1, 2)
