"""The selective scan as a plain loop over tokens: slow, exact in float64, the truth that every backend is held to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_reference(
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
    """Run the recurrence h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t + D u_t, gated by SiLU(z).

    Source: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752, equation 2 with
    the discretisation of its Algorithm 2.

    Args:
        u: input sequence, (B, D, L); its dtype is the dtype of the computation.
        delta: time steps, (B, D, L), before ``delta_bias`` and softplus.
        A: state decay, (D, N), negative.
        B: input projection per token, (B, N, L), or (B, G, N, L) shared by D / G channels each.
        C: output projection per token, of the shape of ``B``.
        D: skip weight per channel, (D,).
        z: gate, (B, D, L).
        delta_bias: added to ``delta``, (D,).
        delta_softplus: whether softplus is applied to ``delta + delta_bias``.

    Returns:
        y (B, D, L) and the state after the last token (B, D, N).

    Example:
        >>> x = torch.rand(1, 2, 5, dtype=torch.float64)
        >>> A, B = -torch.ones(2, 4, dtype=torch.float64), torch.ones(1, 4, 5, dtype=torch.float64)
        >>> y, last = selective_scan_reference(x, x, A, B, B)
        >>> tuple(y.shape), tuple(last.shape)
        ((1, 2, 5), (1, 2, 4))
    """
    batch, channels, length = u.shape
    if delta_bias is not None:
        delta = delta + delta_bias.unsqueeze(-1)
    if delta_softplus:
        delta = torch.logaddexp(delta, torch.zeros_like(delta))  # softplus, exact and finite for every step
    B, C = (_per_channel(p, channels) for p in (B, C))
    state = u.new_zeros(batch, channels, A.shape[1])
    outputs = []
    for t in range(length):
        decay = torch.exp(delta[:, :, t, None] * A)
        state = decay * state + (delta[:, :, t] * u[:, :, t]).unsqueeze(-1) * B[..., t]
        outputs.append((state * C[..., t]).sum(-1))
    y = torch.stack(outputs, dim=2)
    if D is not None:
        y = y + D.unsqueeze(-1) * u
    if z is not None:
        y = y * F.silu(z)
    return y, state


def _per_channel(p: Tensor, channels: int) -> Tensor:
    """(B, N, L) or (B, G, N, L) -> (B, D or 1, N, L)."""
    if p.dim() == 3:
        return p.unsqueeze(1)
    return p.repeat_interleave(channels // p.shape[1], dim=1)
