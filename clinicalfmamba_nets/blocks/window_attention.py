"""Attention within windows of an image, to itself or to a second image: the layers of Swin Transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_windows(image: Tensor, window: int) -> Tensor:
    """Cut (B, H, W, C) into windows: (B * H/w * W/w, w * w, C).

    Example:
        >>> to_windows(torch.rand(2, 8, 16, 3), 8).shape
        torch.Size([4, 64, 3])
    """
    batch, height, width, channels = image.shape
    rows = image.view(batch, height // window, window, width // window, window, channels)
    return rows.transpose(2, 3).reshape(-1, window * window, channels)  # (B * H/w * W/w, w * w, C)


def from_windows(windows: Tensor, height: int, width: int, window: int) -> Tensor:
    """Put the windows of :func:`to_windows` together again: (B, H, W, C).

    Example:
        >>> image = torch.rand(2, 8, 16, 3)
        >>> torch.equal(from_windows(to_windows(image, 8), 8, 16, 8), image)
        True
    """
    rows = windows.view(-1, height // window, width // window, window, window, windows.shape[2])
    return rows.transpose(2, 3).reshape(-1, height, width, windows.shape[2])  # (B, H, W, C)


def shift_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Minus 100 between pixels that a cyclic shift brought into one window from two ends of the image, else 0.

    Returns:
        (H/w * W/w, w * w, w * w).

    Example:
        >>> shift_mask(8, 16, 8, 4, torch.device("cpu")).shape
        torch.Size([2, 64, 64])
    """
    parts: list[Tensor] = []
    for size in (height, width):
        place = torch.arange(size, device=device)
        parts.append((place >= size - window).int() + (place >= size - shift).int())
    region = to_windows((3 * parts[0].unsqueeze(1) + parts[1]).view(1, height, width, 1), window)  # (n, w * w, 1)
    return -100.0 * (region != region.transpose(1, 2)).float()  # (n, w * w, w * w)


class WindowAttention(nn.Module):
    """Attention of several heads within windows, with a learned bias for each relative position.

    Source: "Swin Transformer", arXiv 2103.14030, equation 4.

    Args:
        channels: width C.
        heads: number of heads, which divides C.
        window: side of a window in pixels.

    Example:
        >>> windows = torch.rand(6, 64, 12)
        >>> WindowAttention(12, heads=3)(windows, windows, torch.zeros(0)).shape
        torch.Size([6, 64, 12])
    """

    def __init__(self, channels: int, heads: int, window: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * window - 1) ** 2, heads), std=0.02))
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        offset = place[:, :, None] - place[:, None, :] + window - 1  # (2, w * w, w * w)
        self.register_buffer("pairs", offset[0] * (2 * window - 1) + offset[1], persistent=False)
        self.pairs: Tensor

    def forward(self, windows: Tensor, others: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            windows: what asks, (B * n, N, C).
            others: what is looked at, of the same shape: ``windows`` itself or those of a second image.
            mask: (n, N, N) added to the logits, or an empty tensor.

        Returns:
            (B * n, N, C).
        """
        groups, length, channels = windows.shape
        query = self.query(windows).view(groups, length, self.heads, -1).transpose(1, 2)  # (B * n, heads, N, d)
        both = self.key_value(others).view(groups, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.pairs].permute(2, 0, 1).unsqueeze(0)  # (1, heads, N, N)
        if mask.numel() > 0:
            bias = (bias + mask.unsqueeze(1)).repeat(groups // mask.shape[0], 1, 1, 1)  # (B * n, heads, N, N)
        mixed = F.scaled_dot_product_attention(query, both[0], both[1], attn_mask=bias.to(query.dtype))
        return self.out(mixed.transpose(1, 2).reshape(groups, length, channels))  # (B * n, N, C)


class SwinLayer(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x)); the windows of every second layer are shifted by half their side.

    Args:
        channels: width C.
        heads: number of heads.
        shift: of the windows in pixels, 0 or half a window.
        window: side of a window.
        mlp_ratio: inner width of the MLP as a multiple of C.

    Example:
        >>> SwinLayer(12, heads=3, shift=4)(torch.rand(1, 16, 8, 12), torch.rand(1, 16, 8, 12)).shape
        torch.Size([1, 16, 8, 12])
    """

    def __init__(self, channels: int, heads: int, shift: int, window: int = 8, mlp_ratio: int = 2) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels), nn.GELU(), nn.Linear(mlp_ratio * channels, channels)
        )
        for layer in (self.attention.query, self.attention.key_value, self.attention.out, self.mlp[0], self.mlp[2]):
            nn.init.trunc_normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Mix within windows.

        Args:
            x: (B, H, W, C), sizes divisible by the window.
            other: an image that is already normalized, of the same shape, whose pixels are looked at; where it is the
                tensor ``x`` itself, the layer looks at its own normalized pixels.

        Returns:
            (B, H, W, C).
        """
        normed = self.norm(x)
        x = x + self._attend(normed, normed if other is x else other)
        return x + self.mlp(self.mlp_norm(x))

    def _attend(self, normed: Tensor, other: Tensor) -> Tensor:
        height, width, mask = normed.shape[1], normed.shape[2], torch.zeros(0)
        if self.shift > 0:
            normed = torch.roll(normed, [-self.shift, -self.shift], [1, 2])
            other = torch.roll(other, [-self.shift, -self.shift], [1, 2])
            mask = shift_mask(height, width, self.window, self.shift, normed.device)  # (n, N, N)
        windows = self.attention(to_windows(normed, self.window), to_windows(other, self.window), mask)
        mixed = from_windows(windows, height, width, self.window)  # (B, H, W, C)
        return torch.roll(mixed, [self.shift, self.shift], [1, 2]) if self.shift > 0 else mixed
