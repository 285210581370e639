"""Mamba over several scan directions, for one or two token streams at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.hooks import watched
from clinicalfmamba_nets.blocks.recomputing import Recomputed, recompute
from clinicalfmamba_nets.blocks.streams import StreamLayerNorm, StreamLinear
from clinicalfmamba_nets.ops import gated_norm, permuted_conv1d_silu, permuted_selective_scan, widened
from clinicalfmamba_nets.ops.derivatives import beyond_kernels
from clinicalfmamba_nets.ops.recording import recording


class DirectionalMamba(nn.Module):
    """Selective scan of tokens along K directions with shared projections and one set of scan weights per direction.

    Source: "Mamba", arXiv 2312.00752, figure 3, extended to K directions as in ClinicalFMamba (arXiv 2508.03008,
    section 2.2): out = Linear(LN(sum_k y_k * SiLU(z) / K)). The published code gates each direction before the sum;
    gating once after it is the same number. With ``cross`` the time steps and the projections B and C come from a
    second sequence (the Fusion Mamba of the paper); the published code feeds them from a linear map of that sequence
    without convolution and SiLU, and so does this class.

    Args:
        d_model: token width C.
        directions: number of scan directions K.
        d_state: states per channel N.
        streams: weight sets S, one per image.
        cross: take time steps, B and C from a second sequence.
        inner_norm: layer normalization (and the division by K) before the output projection.
        d_conv: taps of the causal convolution.
        expand: inner width as a multiple of ``d_model``.

    Example:
        >>> order = torch.arange(6).unsqueeze(0)
        >>> mamba = DirectionalMamba(16, directions=1)
        >>> mamba(torch.rand(1, 2, 6, 16), torch.rand(1, 2, 6, 16), order).shape
        torch.Size([1, 2, 6, 16])
    """

    __constants__ = ["cross", "inner_norm"]

    def __init__(
        self,
        d_model: int,
        directions: int,
        d_state: int = 8,
        *,
        streams: int = 1,
        cross: bool = False,
        inner_norm: bool = True,
        d_conv: int = 4,
        expand: int = 2,
    ) -> None:
        super().__init__()
        inner = expand * d_model
        self.d_state, self.dt_rank, self.inner = d_state, math.ceil(d_model / 16), inner
        self.cross, self.inner_norm = cross, inner_norm
        self.divisor = float(directions) if inner_norm else 1.0
        self.in_proj = StreamLinear(streams, d_model, 2 * inner)
        self.guide_proj = StreamLinear(streams, d_model, inner) if cross else nn.Identity()
        bound = 1 / math.sqrt(d_conv)
        self.conv_weight = nn.Parameter(torch.empty(streams, directions, inner, d_conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(streams, directions, inner).uniform_(-bound, bound))
        rows, bound = self.dt_rank + 2 * d_state, 1 / math.sqrt(inner)
        self.x_proj = nn.Parameter(torch.empty(streams, directions, rows, inner).uniform_(-bound, bound))
        bound = self.dt_rank**-0.5
        self.dt_weight = nn.Parameter(torch.empty(streams, directions, inner, self.dt_rank).uniform_(-bound, bound))
        self.dt_bias = nn.Parameter(initial_dt_bias(streams, directions, inner))
        decay = torch.arange(1, d_state + 1, dtype=torch.get_default_dtype()).log()
        self.A_log = nn.Parameter(decay.expand(streams, directions, inner, d_state).clone())
        self.D = nn.Parameter(torch.ones(streams, directions, inner))
        self.norm = StreamLayerNorm(streams, inner) if inner_norm else nn.Identity()
        self.out_proj = StreamLinear(streams, inner, d_model)

    def forward(self, tokens: Tensor, guide: Tensor, order: Tensor) -> Tensor:
        """Mix tokens along the directions.

        Args:
            tokens: (S, B, L, C).
            guide: the sequence that steers a ``cross`` block, (S, B, L, C); ignored otherwise.
            order: the token that each step of each direction visits, int64 (K, L).

        Returns:
            (S, B, L, C).
        """
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)  # 2 x (S, B, L, E)
        x_proj = self.x_proj[:, :, :0] if self.cross else self.x_proj
        u, projected = permuted_conv1d_silu(x, self.conv_weight, self.conv_bias, x_proj, order)  # (S, K, B, L, ...)
        if self.cross:
            projected = self._project_guide(guide, order)
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            kept = recording() or torch.compiler.is_compiling() or bool(beyond_kernels(u, x, projected))
            if self.training and torch.is_grad_enabled() and not kept:
                return self.out_proj(self._gated(self._scan_lean(u, x, projected, order), gate))
        return self.out_proj(self._gated(self._scan(u, projected, order), gate))  # (S, B, L, C)

    def _gated(self, y: Tensor, gate: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if watched(self.norm):
                return self.norm(gated_norm(y, gate, divisor=self.divisor))
        if self.inner_norm:
            return gated_norm(y, gate, self.norm.weight, self.norm.bias, self.divisor)  # type: ignore[arg-type]
        return gated_norm(y, gate)

    def _scan(self, u: Tensor, projected: Tensor, order: Tensor) -> Tensor:
        """Scan all directions and add what they find at each token, (S, B, L, E)."""
        A = -torch.exp(widened(self.A_log))
        return permuted_selective_scan(u, projected, self.dt_weight, A, self.D, self.dt_bias, order)

    @torch.jit.unused
    def _scan_lean(self, u: Tensor, x: Tensor, projected: Tensor, order: Tensor) -> Tensor:
        """Scan all directions, (S, B, L, E); u, the largest, is computed again for its gradients."""
        x, weight, bias, x_proj = (t.detach() for t in (x, self.conv_weight, self.conv_bias, self.x_proj[:, :, :0]))
        with recompute((u, Recomputed(lambda: permuted_conv1d_silu(x, weight, bias, x_proj, order)[0]))):
            return self._scan(u, projected, order)

    def _project_guide(self, guide: Tensor, order: Tensor) -> Tensor:
        """Low-rank time steps, B and C of each direction from a second sequence, (S, K, B, L, R + 2 N)."""
        x_proj = self.x_proj.flatten(1, 2).transpose(1, 2).unsqueeze(1)  # (S, 1, E, K (R + 2 N))
        at_tokens = torch.matmul(self.guide_proj(guide), x_proj).unflatten(3, self.x_proj.shape[1:3])
        at_tokens = at_tokens.permute(0, 3, 1, 2, 4)  # (S, K, B, L, R + 2 N)
        index = order[None, :, None, :, None].expand_as(at_tokens)
        return torch.gather(at_tokens, 3, index)


def initial_dt_bias(streams: int, directions: int, inner: int, low: float = 1e-3, high: float = 0.1) -> Tensor:
    """Inverse softplus of time steps drawn log-uniformly from [low, high], at least 1e-4, (S, K, E).

    Example:
        >>> initial_dt_bias(2, 1, 4).shape
        torch.Size([2, 1, 4])
    """
    draw = torch.rand(streams, directions, inner)
    dt = torch.exp(draw * (math.log(high) - math.log(low)) + math.log(low)).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


class MambaBlock(nn.Module):
    """t + Mamba(LN(t)): the single block of the encoder (K directions) and of the decoder (one direction).

    Args:
        d_model: token width C.
        directions: number of scan directions K.
        d_state: states per channel.
        streams: weight sets S.
        inner_norm: as in :class:`DirectionalMamba`.

    Example:
        >>> order = torch.arange(6).unsqueeze(0)
        >>> MambaBlock(16, directions=1)(torch.rand(1, 2, 6, 16), order).shape
        torch.Size([1, 2, 6, 16])
    """

    def __init__(
        self,
        d_model: int,
        directions: int,
        d_state: int = 8,
        streams: int = 1,
        inner_norm: bool = True,
    ) -> None:
        super().__init__()
        self.norm = StreamLayerNorm(streams, d_model)
        self.mamba = DirectionalMamba(d_model, directions, d_state, streams=streams, inner_norm=inner_norm)

    def forward(self, tokens: Tensor, order: Tensor) -> Tensor:
        """(S, B, L, C) -> (S, B, L, C)."""
        normed = self.norm(tokens)
        return tokens + self.mamba(normed, normed, order)
