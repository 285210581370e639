"""What the published ClinicalFMamba code does otherwise than its paper, for checkpoints that were trained that way."""

from __future__ import annotations

import torch
from torch import Tensor

from clinicalfmamba_nets.blocks.mamba import DirectionalMamba, MambaBlock
from clinicalfmamba_nets.ops import gated_norm, permuted_conv1d_silu, permuted_selective_scan, widened
from clinicalfmamba_nets.ops.scan_orders import OFFICIAL_CROSS, OFFICIAL_SINGLE

# scan: (paths of the single blocks, paths of the Fusion Mamba, spatial dimensions)
OFFICIAL_SCANS = {
    "official": (OFFICIAL_SINGLE, OFFICIAL_CROSS, 3),
    "official_restored": (OFFICIAL_SINGLE, OFFICIAL_CROSS, 3),
}


class RestoredMamba(DirectionalMamba):
    """The published 3D single block with its reversed direction put back in place: the sum is divided by 5, not by K.

    Args:
        d_model: token width C.
        directions: number of scan directions K.
        d_state: states per channel N.
        streams: weight sets S, one per image.
    """

    def __init__(self, d_model: int, directions: int, d_state: int = 8, streams: int = 1) -> None:
        super().__init__(d_model, directions, d_state, streams=streams)
        self.divisor = 5.0


class MisplacedMamba(RestoredMamba):
    """The published 3D single block.

    The second of its three directions reads the first one's path from the end, and what it finds is added without
    being turned back.
    """

    def forward(self, tokens: Tensor, guide: Tensor, order: Tensor) -> Tensor:
        """(S, B, L, C) -> (S, B, L, C); ``guide`` is ignored, ``order`` is (K, L)."""
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)  # 2 x (S, B, L, E)
        u, projected = permuted_conv1d_silu(x, self.conv_weight, self.conv_bias, self.x_proj, order)  # (S, K, B, L, ..)
        second = gated_norm(self._scan_of(u, projected, order, 1, 2), gate)
        others = gated_norm(self._scan_of(u, projected, order, 0, 3), gate)
        y = others.index_add(2, order[0], second.index_select(2, order[1]))
        return self.out_proj(self.norm(y / self.divisor))

    def _scan_of(self, u: Tensor, projected: Tensor, order: Tensor, first: int, last: int) -> Tensor:
        """Scan every second direction from ``first`` to below ``last``, (S, B, L, E)."""
        A, D = -torch.exp(widened(self.A_log[:, first:last:2])), self.D[:, first:last:2]
        dt_weight, dt_bias = self.dt_weight[:, first:last:2], self.dt_bias[:, first:last:2]
        u, projected, order = u[:, first:last:2], projected[:, first:last:2], order[first:last:2]
        return permuted_selective_scan(u, projected, dt_weight, A, D, dt_bias, order)


def official_block(scan: str, d_model: int, d_state: int) -> MambaBlock:
    """Return a single block of the encoder as published, for both images.

    Args:
        scan: one of ``OFFICIAL_SCANS``.
        d_model: token width C.
        d_state: states per channel N.
    """
    directions = len(OFFICIAL_SCANS[scan][0])
    block = MambaBlock(d_model, directions, d_state, streams=2)
    mamba = MisplacedMamba if scan == "official" else RestoredMamba
    block.mamba = mamba(d_model, directions, d_state, streams=2)
    return block
