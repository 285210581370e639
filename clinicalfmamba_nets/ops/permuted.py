"""Scan steps of the networks: token-major, several weight sets and directions at once, permuted by an index.

S weight sets ("streams", one per image), K directions, B images in a batch, L tokens, D channels, N states.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clinicalfmamba_nets.ops.backends import resolve_backend
from clinicalfmamba_nets.ops.chunked import scan_tokens
from clinicalfmamba_nets.ops.cuda import selective_scan_cuda
from clinicalfmamba_nets.ops.recording import recording
from clinicalfmamba_nets.ops.reference import selective_scan_reference


def permuted_conv1d_silu(
    x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """Read tokens in K orders, then causal depthwise convolution and SiLU along each, and project the result.

    Source: the convolution in front of the selective scan, arXiv 2312.00752, figure 3.

    Args:
        x: tokens, (S, B, L, D).
        weight: taps, oldest token first, (S, K, D, W).
        bias: (S, K, D).
        x_proj: from the result to P numbers for each token, (S, K, P, D); P may be 0.
        order: int64 (K, L): the token read at each step of each direction.

    Returns:
        u (S, K, B, L, D) along the directions, ``[s, k, b, l]`` belongs to token ``order[k, l]``; and its projection
        (S, K, B, L, P), which the native kernel computes while u is in the cache.

    Example:
        >>> x, weight, bias = torch.rand(2, 1, 6, 4), torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4)
        >>> u, projected = permuted_conv1d_silu(x, weight, bias, torch.rand(2, 1, 19, 4), torch.arange(6)[None])
        >>> u.shape, projected.shape
        (torch.Size([2, 1, 1, 6, 4]), torch.Size([2, 1, 1, 6, 19]))
    """
    if not torch.jit.is_scripting():
        if resolve_backend(x.float() if x.dtype == torch.bfloat16 else x, 8) == "native":
            return torch.ops.clinicalfmamba.permuted_conv1d_silu(x, weight, bias, x_proj, order)
        if torch.is_grad_enabled() and not recording():
            # One map for each tap, and the projection's input: recompute them in the backward pass instead.
            return checkpoint(_conv1d_silu_torch, x, weight, bias, x_proj, order, use_reentrant=False)
    return _conv1d_silu_torch(x, weight, bias, x_proj, order)


def permuted_selective_scan(
    u: Tensor, projected: Tensor, dt_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, order: Tensor
) -> Tensor:
    """Scan K directions and add each output at the token it belongs to.

    Source: arXiv 2312.00752, equation 2 and section 3.6 (time steps of low rank R), for K directions whose results are
    summed (arXiv 2508.03008, section 2.2). The native kernel widens the time steps on the way: they are never stored.

    Args:
        u: sequences along the directions, (S, K, B, L, D).
        projected: what each token is projected to, (S, K, B, L, R + 2 N): the time steps' R numbers, then the input
            projection B and the output projection C of each state.
        dt_weight: from the R numbers to each channel's time step before ``delta_bias`` and softplus, (S, K, D, R).
        A: negative decay rates, (S, K, D, N).
        D: skip weights, (S, K, D).
        delta_bias: (S, K, D).
        order: int64 (K, L): the token to which step l of direction k is added; a permutation per direction.

    Returns:
        Sum over the directions, (S, B, L, D).

    Raises:
        RuntimeError: the backend asked for cannot run here.

    Example:
        >>> u, projected, order = torch.rand(2, 1, 1, 6, 4), torch.rand(2, 1, 1, 6, 3 + 2 * 8), torch.arange(6)[None]
        >>> dt_weight, A, ones = torch.rand(2, 1, 4, 3), -torch.rand(2, 1, 4, 8), torch.ones(2, 1, 4)
        >>> permuted_selective_scan(u, projected, dt_weight, A, ones, ones, order).shape
        torch.Size([2, 1, 6, 4])
    """
    if not torch.jit.is_scripting():
        name = resolve_backend(u, A.shape[3])
        if name == "native":
            return torch.ops.clinicalfmamba.permuted_selective_scan(u, projected, dt_weight, A, D, delta_bias, order)
        if name == "cuda" or name == "reference":
            return _scan_grouped(name, u, projected, dt_weight, A, D, delta_bias, order)
        if torch.is_grad_enabled() and not recording():
            # The chunked scan keeps a state per token: recompute it in the backward pass instead.
            return checkpoint(_scan_torch, u, projected, dt_weight, A, D, delta_bias, order, use_reentrant=False)
    return _scan_torch(u, projected, dt_weight, A, D, delta_bias, order)


def _widened(projected: Tensor, dt_weight: Tensor, states: int) -> tuple[Tensor, Tensor, Tensor]:
    """Time steps of all channels (S, K, B, L, D), B and C (S, K, B, L, N)."""
    steps, B, C = projected.split([dt_weight.shape[3], states, states], dim=-1)
    return torch.matmul(steps, dt_weight.transpose(-1, -2).unsqueeze(2)), B, C


def _conv1d_silu_torch(x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    streams, batch, length, channels = x.shape
    directions, width = weight.shape[1], weight.shape[3]
    x = x.index_select(2, order.flatten()).view(streams, batch, directions, length, channels)
    x = F.pad(x.transpose(1, 2), [0, 0, width - 1, 0])  # (S, K, B, W - 1 + L, D)
    y = bias[:, :, None, None, :] + weight[:, :, None, None, :, 0] * x[:, :, :, :length]
    for tap in range(1, width):
        y = y + weight[:, :, None, None, :, tap] * x[:, :, :, tap : tap + length]
    u = F.silu(y)
    if x_proj.shape[2] == 0:
        return u, u[..., :0]
    return u, torch.matmul(u, x_proj.transpose(-1, -2).unsqueeze(2))


def _scan_torch(
    u: Tensor, projected: Tensor, dt_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, order: Tensor
) -> Tensor:
    streams, directions, batch, length, channels = u.shape
    groups = streams * directions * batch
    delta, B, C = _widened(projected, dt_weight, A.shape[3])
    delta = F.softplus(delta + delta_bias[:, :, None, None, :])
    rates = A[:, :, None].expand(-1, -1, batch, -1, -1).reshape(groups, channels, A.shape[3])
    y, _ = scan_tokens(
        u.reshape(groups, length, channels),
        delta.reshape(groups, length, channels),
        rates,
        B.reshape(groups, length, B.shape[4]),
        C.reshape(groups, length, C.shape[4]),
    )
    y = y.view(streams, directions, batch, length, channels) + D[:, :, None, None, :] * u
    return _add_at_tokens(y, order)


def _add_at_tokens(y: Tensor, order: Tensor) -> Tensor:
    """(S, K, B, L, D) along the directions -> (S, B, L, D), summed at the tokens."""
    back = torch.argsort(order, dim=1)
    total = y[:, 0].index_select(2, back[0])
    for k in range(1, y.shape[1]):
        total = total + y[:, k].index_select(2, back[k])
    return total


def _scan_grouped(
    name: str,
    u: Tensor,
    projected: Tensor,
    dt_weight: Tensor,
    A: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    order: Tensor,
) -> Tensor:
    """The permuted scan through a backend that takes (B, D, L) with grouped projections."""
    streams, directions, batch, length, channels = u.shape
    delta, B, C = _widened(projected, dt_weight, A.shape[3])

    def merged(x: Tensor) -> Tensor:  # (S, K, B, L, C) -> (B, S K, C, L): one group per set and direction, no copy
        return x.permute(2, 0, 1, 4, 3).flatten(1, 2)

    function, u, delta = selective_scan_cuda, merged(u), merged(delta)
    if name == "reference":
        function, u, delta = selective_scan_reference, u.flatten(1, 2), delta.flatten(1, 2)
    A, D, delta_bias = A.flatten(0, 2), D.flatten(), delta_bias.flatten()
    y, _ = function(u, delta, A, merged(B), merged(C), D, None, delta_bias, True)
    y = y.reshape(batch, streams, directions, channels, length).permute(1, 2, 0, 4, 3)
    return _add_at_tokens(y, order)
