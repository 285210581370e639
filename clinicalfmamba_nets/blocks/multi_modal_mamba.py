"""Mamba of three token streams whose scans are added: the fused image steered by both of its sources."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.mamba import DirectionalMamba, initial_dt_bias
from clinicalfmamba_nets.blocks.streams import StreamLayerNorm, StreamLinear
from clinicalfmamba_nets.ops import gated_norm, permuted_conv1d_silu, permuted_selective_scan, widened


class AddNormMamba(nn.Module):
    """r += t; t = Mamba(LN(r)): a plain Mamba layer of a stack that hands its residual on beside its tokens.

    Source: "MambaDFuse", arXiv 2404.08406, section 3.1.

    Args:
        d_model: token width C.
        streams: weight sets S, one per image.
        d_state: states per channel.

    Example:
        >>> tokens = torch.rand(2, 3, 6, 16)
        >>> mixed, residual = AddNormMamba(16, streams=2)(tokens, tokens, torch.arange(6).unsqueeze(0))
        >>> mixed.shape
        torch.Size([2, 3, 6, 16])
    """

    def __init__(self, d_model: int, streams: int, d_state: int = 16) -> None:
        super().__init__()
        self.norm = StreamLayerNorm(streams, d_model)
        self.mamba = DirectionalMamba(d_model, 1, d_state=d_state, streams=streams, inner_norm=False)

    def forward(self, tokens: Tensor, residual: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Twice (S, B, L, C) -> the mixed tokens and the new residual, each (S, B, L, C)."""
        residual = residual + tokens
        normed = self.norm(residual)
        return self.mamba(normed, normed, order), residual


class ThreeStreamMamba(nn.Module):
    """The sum of three gated scans, each of its own stream with its own weights, behind one output projection.

    Source: the M3 block of "MambaDFuse", arXiv 2404.08406, section 3.2, in the published code's form: the decay rates
    of the second and the third stream are the same parameters.

    Args:
        d_model: token width C.
        d_state: states per channel.
        d_conv: taps of the causal convolution.
        expand: inner width as a multiple of ``d_model``.

    Example:
        >>> ThreeStreamMamba(16)(torch.rand(3, 2, 6, 16), torch.arange(6).unsqueeze(0)).shape
        torch.Size([2, 6, 16])
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner, rank = expand * d_model, math.ceil(d_model / 16)
        self.in_proj = StreamLinear(3, d_model, 2 * inner)
        bound = 1 / math.sqrt(d_conv)
        self.conv_weight = nn.Parameter(torch.empty(3, 1, inner, d_conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(3, 1, inner).uniform_(-bound, bound))
        bound = 1 / math.sqrt(inner)
        self.x_proj = nn.Parameter(torch.empty(3, 1, rank + 2 * d_state, inner).uniform_(-bound, bound))
        self.dt_weight = nn.Parameter(torch.empty(3, 1, inner, rank).uniform_(-(rank**-0.5), rank**-0.5))
        self.dt_bias = nn.Parameter(initial_dt_bias(3, 1, inner))
        decay = torch.arange(1, d_state + 1, dtype=torch.get_default_dtype()).log()
        self.A_log = nn.Parameter(decay.expand(2, 1, inner, d_state).clone())
        self.D = nn.Parameter(torch.ones(3, 1, inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, tokens: Tensor, order: Tensor) -> Tensor:
        """(3, B, L, C) and the order of the scan (1, L) -> (B, L, C)."""
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)  # 2 x (3, B, L, E)
        u, projected = permuted_conv1d_silu(
            x, self.conv_weight, self.conv_bias, self.x_proj, order
        )  # (3, 1, B, L, ...)
        A = -torch.exp(widened(torch.cat([self.A_log, self.A_log[1:]])))  # (3, 1, E, N)
        y = permuted_selective_scan(u, projected, self.dt_weight, A, self.D, self.dt_bias, order)  # (3, B, L, E)
        return self.out_proj(gated_norm(y, gate).sum(0).to(self.out_proj.weight.dtype))  # (B, L, C)


class M3Block(nn.Module):
    """r += f; m = Mamba3(LN(LN(r)), LN(LN(b)), LN(LN(a))); f = m + depthwise convolution of m.

    Source: "MambaDFuse", arXiv 2404.08406, section 3.2; the published code normalizes twice.

    Args:
        d_model: token width C.
        d_state: states per channel.

    Example:
        >>> tokens, sources = torch.rand(1, 6, 16), torch.rand(2, 1, 6, 16)
        >>> M3Block(16)(tokens, tokens, sources, torch.arange(6).unsqueeze(0), [2, 3])[0].shape
        torch.Size([1, 6, 16])
    """

    def __init__(self, d_model: int, d_state: int = 16) -> None:
        super().__init__()
        self.norm = StreamLayerNorm(3, d_model)
        self.mamba = ThreeStreamMamba(d_model, d_state)
        self.depthwise = nn.Conv2d(d_model, d_model, 3, padding=1, groups=d_model)

    def forward(
        self, tokens: Tensor, residual: Tensor, sources: Tensor, order: Tensor, grid: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Mix once.

        Args:
            tokens: of the fused image, (B, L, C).
            residual: running sum of the tokens that entered so far, (B, L, C).
            sources: tokens of both images, (2, B, L, C).
            order: of the scan, int64 (1, L).
            grid: rows and columns of the tokens.

        Returns:
            The mixed tokens and the new residual, each (B, L, C).
        """
        residual = residual + tokens
        streams = torch.stack([residual, sources[1], sources[0]])  # (3, B, L, C)
        mixed = self.mamba(self.norm(self.norm(streams)), order)  # (B, L, C)
        local = self.depthwise(mixed.transpose(1, 2).unflatten(2, grid))  # (B, C, H, W)
        return mixed + local.flatten(2).transpose(1, 2), residual
