"""Scan steps of the networks: token-major, several weight sets and directions at once, permuted by an index.

S weight sets ("streams", one per image), K directions, B images in a batch, L tokens, D channels, N states.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clinicalfmamba_nets.ops import native
from clinicalfmamba_nets.ops.backends import resolve_backend
from clinicalfmamba_nets.ops.cuda import selective_scan_cuda
from clinicalfmamba_nets.ops.derivatives import beyond_kernels
from clinicalfmamba_nets.ops.plain import (
    add_at_tokens,
    conv1d_silu_plain,
    not_rounded,
    permuted_scan_plain,
    time_steps,
    widened,
)
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
        (S, K, B, L, P), which the native kernel computes while u is in the cache. Both are float32 where ``x`` is of
        half precision.

    Example:
        >>> x, weight, bias = torch.rand(2, 1, 6, 4), torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4)
        >>> u, projected = permuted_conv1d_silu(x, weight, bias, torch.rand(2, 1, 19, 4), torch.arange(6)[None])
        >>> u.shape, projected.shape
        (torch.Size([2, 1, 1, 6, 4]), torch.Size([2, 1, 1, 6, 19]))
    """
    if not torch.jit.is_scripting():
        name = resolve_backend(x, 8, tensors=(x, weight, bias, x_proj))
        if name == "native" and weight.shape[3] in native.TAPS:
            return native.permuted_conv1d_silu(x, weight, bias, x_proj, order)
        with not_rounded(x):
            if torch.is_grad_enabled() and not recording() and not beyond_kernels(x, weight, bias, x_proj):
                # One map for each tap, and the projection's input: recompute them in the backward pass instead.
                return checkpoint(conv1d_silu_plain, x, weight, bias, x_proj, order, use_reentrant=False)
            return conv1d_silu_plain(x, weight, bias, x_proj, order)
    return conv1d_silu_plain(x, weight, bias, x_proj, order)


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
        Sum over the directions, (S, B, L, D), in float32 where ``u`` is of half precision.

    Raises:
        RuntimeError: the backend asked for cannot run here.

    Example:
        >>> u, projected, order = torch.rand(2, 1, 1, 6, 4), torch.rand(2, 1, 1, 6, 3 + 2 * 8), torch.arange(6)[None]
        >>> dt_weight, A, ones = torch.rand(2, 1, 4, 3), -torch.rand(2, 1, 4, 8), torch.ones(2, 1, 4)
        >>> permuted_selective_scan(u, projected, dt_weight, A, ones, ones, order).shape
        torch.Size([2, 1, 6, 4])
    """
    if not torch.jit.is_scripting():
        tensors = u, projected, dt_weight, A, D, delta_bias
        name = resolve_backend(u, A.shape[3], tensors=tensors)
        if name == "native":
            return native.permuted_selective_scan(u, projected, dt_weight, A, D, delta_bias, order)
        if name == "cuda":
            return _scan_grouped(name, u, projected, dt_weight, A, D, delta_bias, order)
        with not_rounded(u):
            if name == "reference":
                return _scan_grouped(name, u, projected, dt_weight, A, D, delta_bias, order)
            if torch.is_grad_enabled() and not recording() and not beyond_kernels(*tensors):
                # The chunked scan keeps a state per token: recompute it in the backward pass instead.
                return checkpoint(permuted_scan_plain, *tensors, order, use_reentrant=False)
            return permuted_scan_plain(u, projected, dt_weight, A, D, delta_bias, order)
    return permuted_scan_plain(u, projected, dt_weight, A, D, delta_bias, order)


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
    if name == "reference":
        u, projected, dt_weight, A, D, delta_bias = (widened(x) for x in (u, projected, dt_weight, A, D, delta_bias))
    delta, B, C = time_steps(projected, dt_weight, A.shape[3])

    def merged(x: Tensor) -> Tensor:  # (S, K, B, L, C) -> (B, S K, C, L): one group per set and direction, no copy
        return x.permute(2, 0, 1, 4, 3).flatten(1, 2)

    function, u, delta = selective_scan_cuda, merged(u), merged(delta)
    if name == "reference":
        function, u, delta = selective_scan_reference, u.flatten(1, 2), delta.flatten(1, 2)
    A, D, delta_bias = A.flatten(0, 2), D.flatten(), delta_bias.flatten()
    y, _ = function(u, delta, A, merged(B), merged(C), D, None, delta_bias, True)
    y = y.reshape(batch, streams, directions, channels, length).permute(1, 2, 0, 4, 3)
    return add_at_tokens(y, order)
