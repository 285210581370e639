"""Token swap: the two images exchange every second channel of their tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.mamba import DirectionalMamba
from clinicalfmamba_nets.blocks.streams import StreamLayerNorm


class TokenSwap(nn.Module):
    """r += t; exchange the even channels of LN(r) between the images; t = Mamba(swapped).

    Source: the channel exchange of "MambaDFuse", arXiv 2404.08406, section 3.2, as used in ClinicalFMamba's published
    2D code (one module, applied twice); the papers of ClinicalFMamba do not mention it.

    Args:
        d_model: token width C.
        d_state: states per channel of its Mamba, which has one direction and no inner normalization.

    Example:
        >>> tokens = torch.rand(2, 3, 6, 16)
        >>> mixed, residual = TokenSwap(16)(tokens, tokens, torch.arange(6).unsqueeze(0))
        >>> mixed.shape
        torch.Size([2, 3, 6, 16])
    """

    def __init__(self, d_model: int, d_state: int = 16) -> None:
        super().__init__()
        self.norm = StreamLayerNorm(2, d_model)
        self.mamba = DirectionalMamba(d_model, 1, d_state, streams=2, inner_norm=False)

    def forward(self, tokens: Tensor, residual: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange once.

        Args:
            tokens: (2, B, L, C).
            residual: running sum of the tokens that entered so far, (2, B, L, C).
            order: row-major order, int64 (1, L).

        Returns:
            The mixed tokens and the new residual, each (2, B, L, C).
        """
        residual = residual + tokens
        normed = self.norm(residual).flatten(1, 2)  # torch.export would ask how batch and length relate
        swapped = torch.arange(normed.shape[2], device=normed.device) % 2 == 0  # no buffer: it would miss in state_dict
        mixed = torch.where(swapped, normed.flip(0), normed).view_as(tokens)
        return self.mamba(mixed, mixed, order), residual
