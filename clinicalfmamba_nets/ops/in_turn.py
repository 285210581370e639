"""Convolution and scan in inference, a few tokens at once: what lies between two operations stays in the cache.

TorchScript keeps these loops as loops, so that they are what a portable program of it runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Decays that are computed at once, and tokens of a convolution.
DECAYS = 65536
CONVOLVED = 64


def scripted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by TorchScript, without torch 2.14's warnings to every user that TorchScript will end.

    Example:
        >>> scripted(torch.nn.functional.silu)(torch.zeros(1))
        tensor([0.])
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(function)


def _scan_in_turn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_softplus: bool,
    numbers: int = DECAYS,
) -> tuple[Tensor, Tensor]:
    """As :func:`clinicalfmamba_nets.ops.chunked.scan_tokens`, chunk after chunk.

    Only the state goes from token to token; decays and inputs of a chunk are computed at once, in the same memory for
    every chunk, and its outputs are one batched matrix product. In memory y is (L, G, D).
    """
    groups, length, channels = u.shape
    rate = A.transpose(1, 2).contiguous()  # (G, N, D)
    chunk = min(max(numbers // max(rate.numel(), 1), 4), 32)
    rows = chunk * groups
    y = u.new_empty([length * groups, 1, channels])
    decays = u.new_empty([chunk, groups, A.shape[2], channels])
    states = torch.empty_like(decays)
    decay_of, state_of = decays.unbind(0), states.unbind(0)
    state = torch.zeros_like(rate)
    for inputs, steps, into, out_of, found in zip(  # noqa: B905  (TorchScript has no strict)
        u.transpose(0, 1).unsqueeze(2).split(chunk),  # (T, G, 1, D)
        delta.transpose(0, 1).unsqueeze(2).split(chunk),  # (T, G, 1, D)
        B.transpose(0, 1).unsqueeze(3).split(chunk),  # (T, G, N, 1)
        C.transpose(0, 1).reshape(length * groups, 1, A.shape[2]).split(rows),  # (T G, 1, N)
        y.split(rows),  # (T G, 1, D)
    ):
        tokens = inputs.shape[0]
        if tokens < chunk:
            decays, states = decays[:tokens], states[:tokens]
        if delta_softplus:
            steps = F.softplus(steps)
        torch.mul(steps, rate, out=decays).exp_()
        torch.mul(into, steps * inputs, out=states)
        for t in range(tokens):
            state = state_of[t].addcmul_(decay_of[t], state)
        if D is None:
            torch.bmm(out_of, states.flatten(0, 1), out=found)
        else:
            torch.mul(inputs, D.unsqueeze(1), out=found.view_as(inputs))
            found.baddbmm_(out_of, states.flatten(0, 1))
        state = state.clone()  # the next chunk takes its memory
    return y.view(length, groups, channels).transpose(0, 1), state.transpose(1, 2)


def _conv1d_silu_in_turn(x: Tensor, taps: Tensor, bias: Tensor, steps: Tensor, chunk: int = CONVOLVED) -> Tensor:
    """Convolution along the directions and SiLU.

    Args:
        x: tokens behind one of zeros, (S, B, 1 + L, D).
        taps: oldest token first, (W, S, K, 1, 1, D).
        bias: (S, K, 1, 1, D).
        steps: the row of ``x`` that each step reads, (K, W - 1 + L).
        chunk: tokens at once.

    Returns:
        (S, K, B, L, D).
    """
    width, directions = taps.shape[0], steps.shape[0]
    length = steps.shape[1] - width + 1
    u = x.new_empty([x.shape[0], directions, x.shape[1], length, x.shape[3]])
    for first in range(0, length, chunk):
        last = min(first + chunk, length)
        read = x.index_select(2, steps[:, first : last + width - 1].flatten())
        read = read.unflatten(2, [directions, last - first + width - 1]).transpose(1, 2)
        y = u[:, :, :, first:last]
        torch.addcmul(bias, taps[0], read[:, :, :, : last - first], out=y)
        for tap in range(1, width):
            y.addcmul_(taps[tap], read[:, :, :, tap : tap + last - first])
        F.silu(y, inplace=True)
    return u


scan_in_turn = scripted(_scan_in_turn)
conv1d_silu_in_turn = scripted(_conv1d_silu_in_turn)
