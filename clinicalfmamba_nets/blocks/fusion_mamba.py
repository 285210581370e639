"""Fusion Mamba: each image's tokens are scanned with time steps and projections that the other image gives."""

from __future__ import annotations

from torch import Tensor, nn

from clinicalfmamba_nets.blocks.mamba import DirectionalMamba
from clinicalfmamba_nets.blocks.streams import StreamLayerNorm


class FusionMambaBlock(nn.Module):
    """u_x = t_x + X(LN0(t_x), LN1(t_y)) and u_y = t_y + X'(LN0'(t_y), LN1'(t_x)), both from the un-updated t.

    Source: arXiv 2508.03008, section 2.3 and appendix A, equation 5: eight scans, four per image.

    Args:
        d_model: token width C.
        directions: number of scan directions K.
        d_state: states per channel.

    Example:
        >>> import torch
        >>> order = torch.arange(6).unsqueeze(0)
        >>> FusionMambaBlock(16, directions=1)(torch.rand(2, 3, 6, 16), order).shape
        torch.Size([2, 3, 6, 16])
    """

    def __init__(self, d_model: int, directions: int, d_state: int = 8) -> None:
        super().__init__()
        self.norm = StreamLayerNorm(2, d_model)
        self.guide_norm = StreamLayerNorm(2, d_model)
        self.mamba = DirectionalMamba(d_model, directions, d_state, streams=2, cross=True)

    def forward(self, tokens: Tensor, order: Tensor) -> Tensor:
        """(2, B, L, C) -> (2, B, L, C)."""
        other = tokens.flip(0)
        return tokens + self.mamba(self.norm(tokens), self.guide_norm(other), order)
