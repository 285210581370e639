"""MambaDFuse, a comparison network: Mamba over every pixel of each image, then over both beside their mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.multi_modal_mamba import AddNormMamba, M3Block
from clinicalfmamba_nets.blocks.token_swap import TokenSwap
from clinicalfmamba_nets.functional.ranges import InputCheck
from clinicalfmamba_nets.ops import scan_orders


class MambaDFuse(nn.Module):
    """MambaDFuse: features of each image by Mamba, exchanged, fused by M3 blocks and drawn by Mamba again.

    Source: "MambaDFuse: A Mamba-based Dual-phase Model for Multi-modality Image Fusion", Li et al., arXiv 2404.08406,
    in the published code's form: the pixels are scanned row by row at full resolution, one normalization precedes every
    stack, and the second shallow fusion sees the first one's result. The paper's 1.34 M parameters are 1,347,271, as
    here. Any size is taken. The image is limited to [0, 1] outside of training.

    Args:
        channels: width C of the features, divisible by 4.
        depth: Mamba layers of each image, and of the reconstruction.
        fusion_depth: M3 blocks.
        d_state: states per channel of the scans.

    Raises:
        ValueError: in `forward`, another shape.

    Example:
        >>> MambaDFuse(channels=8, depth=1, fusion_depth=1).eval()(torch.rand(1, 2, 9, 12)).shape
        torch.Size([1, 1, 9, 12])
    """

    def __init__(self, channels: int = 60, depth: int = 8, fusion_depth: int = 5, d_state: int = 16) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.row_major = ["01"]
        self.check_input = InputCheck()
        self.conv_in = nn.Conv2d(1, half, 3, padding=1)
        self.conv_wide = nn.Conv2d(half, channels, 3, padding=1)
        self.embed_norm = nn.LayerNorm(channels)
        self.encoder = nn.ModuleList([AddNormMamba(channels, 2, d_state) for _ in range(depth)])
        self.swaps = nn.ModuleList([TokenSwap(channels, d_state) for _ in range(2)])
        self.shallow_fusion = nn.ModuleList([nn.Conv2d(2 * channels, channels, 3, padding=1) for _ in range(2)])
        self.fusion = nn.ModuleList([M3Block(channels, d_state) for _ in range(fusion_depth)])
        self.decoder = nn.ModuleList([AddNormMamba(channels, 1, d_state) for _ in range(depth)])
        self.conv_out = nn.Sequential(
            nn.Conv2d(channels, half, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(half, quarter, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(quarter, 1, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, H, W) in [0, 1] to (B, 1, H, W), in [0, 1] outside of training."""
        if image.dim() != 4 or image.shape[1] != 2:
            raise ValueError(f"image must be (B, 2, H, W), got shape {list(image.shape)}")
        if not torch.jit.is_scripting():
            self.check_input(image)
        batch, grid = image.shape[0], image.shape[2:]
        order = scan_orders(grid, self.row_major, image.device)  # (1, L)
        images = image.transpose(0, 1).flatten(0, 1).unsqueeze(1)  # (2B, 1, H, W)
        shallow = F.leaky_relu(self.conv_wide(F.leaky_relu(self.conv_in(images), 0.2)), 0.2)  # (2B, C, H, W)
        tokens = self._embed(shallow).unflatten(0, [2, batch])  # (2, B, L, C)
        residual = torch.zeros_like(tokens)
        for layer in self.encoder:
            tokens, residual = layer(tokens, residual, order)
        for swap in self.swaps:
            tokens, residual = swap(tokens, residual, order)
        maps = tokens.transpose(2, 3).unflatten(3, grid)  # (2, B, C, H, W)
        fused = self._fuse(maps[0], maps[1], order).unsqueeze(0)  # (1, B, L, C)
        residual = torch.zeros_like(fused)
        for layer in self.decoder:
            fused, residual = layer(fused, residual, order)
        drawn = self.conv_out(fused[0].transpose(1, 2).unflatten(2, grid))  # (B, 1, H, W)
        return drawn if self.training else drawn.clamp(0, 1)

    def _embed(self, maps: Tensor) -> Tensor:
        """Normalized tokens: (B, C, H, W) -> (B, L, C)."""
        return self.embed_norm(maps.flatten(2).transpose(1, 2))

    def _fuse(self, first: Tensor, second: Tensor, order: Tensor) -> Tensor:
        """Shallow fusion by convolutions, deep fusion by M3 blocks: twice (B, C, H, W) -> (B, L, C)."""
        grid = first.shape[2:]
        first = self.shallow_fusion[0](torch.cat([first, second], 1)) + first
        second = self.shallow_fusion[1](torch.cat([second, first], 1)) + second
        sources = torch.stack([self._embed(first), self._embed(second)])  # (2, B, L, C)
        fused = self._embed((first + second) / 2)  # (B, L, C)
        residual = torch.zeros_like(fused)
        for block in self.fusion:
            fused, residual = block(fused, residual, sources, order, grid)
        return self.embed_norm(fused)
