"""The layers of FusionMamba: learnable descriptive convolution, channel attentions, DVSS, DFEM and DFFM."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.efficient_scan import CrossScanLayer, ScanLayer


class DescriptiveConv(nn.Module):
    """LDC: a 3x3 convolution with each kernel k scaled by 1, at its center by 1 - theta m sum(k), for a learned m.

    Source: "FusionMamba", arXiv 2404.09498, section 3.3.

    Args:
        channels: width C.

    Example:
        >>> DescriptiveConv(4)(torch.rand(1, 5, 6, 4)).shape
        torch.Size([1, 5, 6, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(9 * channels)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3).uniform_(-bound, bound))
        self.mask = nn.Parameter(torch.ones(channels, channels))
        self.theta = nn.Parameter(torch.full([1], 0.5))

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        total = self.theta * self.mask * self.weight.sum([2, 3])  # (C, C)
        scale = 1 - F.pad(total[:, :, None, None], [1, 1, 1, 1])  # (C, C, 3, 3)
        return F.conv2d(image.permute(0, 3, 1, 2), self.weight * scale, padding=1).permute(0, 2, 3, 1)


class EfficientChannelAttention(nn.Module):
    """ECA: each channel times the sigmoid of 3 neighboring channels' means, weighted.

    Source: "ECA-Net", arXiv 1910.03151.

    Example:
        >>> EfficientChannelAttention()(torch.rand(1, 5, 6, 4)).shape
        torch.Size([1, 5, 6, 4])
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        mean = image.mean([1, 2]).unsqueeze(1)  # (B, 1, C)
        return image * torch.sigmoid(self.conv(mean)).unsqueeze(1)


class ReducedAttention(nn.Module):
    """Each channel times a sigmoid drawn from the normalized image's mean through a bottleneck of C / 8.

    Args:
        channels: width C.

    Example:
        >>> ReducedAttention(8)(torch.rand(1, 5, 6, 8)).shape
        torch.Size([1, 5, 6, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.reduce = nn.Linear(channels, channels // 8)
        self.select = nn.Linear(channels // 8, channels)

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        mean = self.norm(image).mean([1, 2], keepdim=True)  # (B, 1, 1, C)
        return image * torch.sigmoid(self.select(F.gelu(self.reduce(mean))))


class DVSSBlock(nn.Module):
    """Dynamic visual state space block: a scan, descriptive convolution and channel attention around one another.

    ``code``: s = scan(LN(x)), c = LDC(s + ECA(s)), x += A(s) + A(c), x += MLP(LN(x)), with A a reduced attention.
    ``paper`` (equation 6): x += ECA(LN(x)) + LDC(scan(LN(x))).

    Args:
        channels: width C.
        d_state: states per channel.
        form: ``code`` or ``paper``.

    Example:
        >>> DVSSBlock(8, d_state=8)(torch.rand(1, 4, 6, 8)).shape
        torch.Size([1, 4, 6, 8])
    """

    def __init__(self, channels: int, d_state: int = 16, form: str = "code") -> None:
        super().__init__()
        self.as_published = form == "code"
        self.norm = nn.LayerNorm(channels)
        self.scan = ScanLayer(channels, d_state)
        self.attention = EfficientChannelAttention()
        self.conv = DescriptiveConv(channels)
        self.reduced = ReducedAttention(channels) if self.as_published else nn.Identity()
        self.mlp_norm = nn.LayerNorm(channels) if self.as_published else nn.Identity()
        mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.mlp = mlp if self.as_published else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, C) with even sizes -> (B, H, W, C)."""
        normed = self.norm(image)
        scanned = self.scan(normed)
        if not self.as_published:
            return image + self.attention(normed) + self.conv(scanned)
        convolved = self.conv(scanned + self.attention(scanned))
        image = image + self.reduced(scanned) + self.reduced(convolved)
        return image + self.mlp(self.mlp_norm(image))


class DFFMBlock(nn.Module):
    """DFFM: enhance both images where they differ (DFEM), then fuse them by a common scan (CMFM) with ECA.

    DFEM: T = LDC(F); F' = T + F + g (F1 + F2), with g1 = sigmoid(mean(F1 - F2)) in the ``code`` and
    g1 = sigmoid(mean(T2 - T1)) in the ``paper``, and g2 of the opposite difference.

    Args:
        channels: width C.
        d_state: states per channel.
        form: ``code`` or ``paper``.

    Example:
        >>> image = torch.rand(1, 4, 6, 8)
        >>> DFFMBlock(8, d_state=8)(image, image).shape
        torch.Size([1, 4, 6, 8])
    """

    def __init__(self, channels: int, d_state: int = 16, form: str = "code") -> None:
        super().__init__()
        self.as_published = form == "code"
        self.texture = nn.ModuleList([DescriptiveConv(channels) for _ in range(2)])
        self.norm = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.cross = CrossScanLayer(channels, d_state, own_gate=form == "paper")
        self.attention = EfficientChannelAttention()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Twice (B, H, W, C) with even sizes -> (B, H, W, C)."""
        enhanced = self._enhance(first, second)
        fused = self.cross(self.norm[0](enhanced[0]), self.norm[1](enhanced[1]))
        return first + second + fused + self.attention(fused)

    def _enhance(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        texture_a, texture_b = self.texture[0](first), self.texture[1](second)
        difference = first - second if self.as_published else texture_b - texture_a
        mean, total = difference.mean([1, 2], keepdim=True), first + second  # (B, 1, 1, C)
        return (
            texture_a + first + torch.sigmoid(mean) * total,
            texture_b + second + torch.sigmoid(-mean) * total,
        )
