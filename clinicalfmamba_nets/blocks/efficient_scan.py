"""Efficient 2D selective scan (ES2D): each of four directions reads every second row and column."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.mamba import initial_dt_bias
from clinicalfmamba_nets.ops import permuted_selective_scan, widened


def skip_sampled(x: Tensor) -> Tensor:
    """Part an image into four grids of every second row and column, two read by rows and two by columns.

    Args:
        x: (B, H, W, E), even sizes.

    Returns:
        (4, 1, B, H W / 4, E): even rows and columns by rows, odd rows and even columns by columns, even rows and odd
        columns by rows, odd rows and columns by columns.

    Example:
        >>> skip_sampled(torch.arange(16).view(1, 4, 4, 1))[1].flatten().tolist()
        [4, 12, 6, 14]
    """
    grids = [
        x[:, ::2, ::2].flatten(1, 2),
        x[:, 1::2, ::2].transpose(1, 2).flatten(1, 2),
        x[:, ::2, 1::2].flatten(1, 2),
        x[:, 1::2, 1::2].transpose(1, 2).flatten(1, 2),
    ]
    return torch.stack(grids).unsqueeze(1)  # (4, 1, B, H W / 4, E)


def skip_merged(y: Tensor, height: int, width: int) -> Tensor:
    """Put the four grids of :func:`skip_sampled`, without its second axis, together again: (B, H, W, E).

    Example:
        >>> x = torch.rand(2, 4, 6, 3)
        >>> torch.equal(skip_merged(skip_sampled(x)[:, 0], 4, 6), x)
        True
    """
    rows, columns = [height // 2, width // 2], [width // 2, height // 2]
    even = torch.stack([y[0].unflatten(1, rows), y[2].unflatten(1, rows)], 3)  # (B, H / 2, W / 2, 2, E)
    odd = torch.stack([y[1].unflatten(1, columns), y[3].unflatten(1, columns)], 3).transpose(1, 2)
    return torch.stack([even, odd], 2).reshape(y.shape[1], height, width, y.shape[3])  # (B, H, W, E)


class EfficientScan(nn.Module):
    """The four scans of :func:`skip_sampled`, with their own weights, and a layer normalization of what they give.

    Source: "FusionMamba", arXiv 2404.09498, section 3.3, after "EfficientVMamba", arXiv 2403.09977.

    Args:
        inner: width E.
        d_model: width of the layer around it, of which the time steps' rank is a sixteenth.
        d_state: states per channel.

    Example:
        >>> EfficientScan(8, d_model=4, d_state=8)(torch.rand(1, 4, 6, 8)).shape
        torch.Size([1, 4, 6, 8])
    """

    def __init__(self, inner: int, d_model: int, d_state: int = 16) -> None:
        super().__init__()
        rank, bound = math.ceil(d_model / 16), 1 / math.sqrt(inner)
        self.x_proj = nn.Parameter(torch.empty(4, 1, rank + 2 * d_state, inner).uniform_(-bound, bound))
        self.dt_weight = nn.Parameter(torch.empty(4, 1, inner, rank).uniform_(-(rank**-0.5), rank**-0.5))
        self.dt_bias = nn.Parameter(initial_dt_bias(4, 1, inner))
        decay = torch.arange(1, d_state + 1, dtype=torch.get_default_dtype()).log()
        self.A_log = nn.Parameter(decay.expand(4, 1, inner, d_state).clone())
        self.D = nn.Parameter(torch.ones(4, 1, inner))
        self.norm = nn.LayerNorm(inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, E) with even sizes -> (B, H, W, E)."""
        u = skip_sampled(x)  # (4, 1, B, H W / 4, E)
        projected = torch.matmul(u, self.x_proj.transpose(2, 3).unsqueeze(2))  # (4, 1, B, H W / 4, R + 2 N)
        order = torch.arange(u.shape[3], device=u.device).unsqueeze(0)  # (1, H W / 4)
        A = -torch.exp(widened(self.A_log))
        y = permuted_selective_scan(u, projected, self.dt_weight, A, self.D, self.dt_bias, order)  # (4, B, H W / 4, E)
        return self.norm(skip_merged(y, x.shape[1], x.shape[2]).to(self.norm.weight.dtype))


class ScanLayer(nn.Module):
    """Linear(ES2D(SiLU(depthwise(x))) * SiLU(z)), with x and z linear in one image; 2D Mamba of one image.

    Args:
        d_model: width C.
        d_state: states per channel.

    Example:
        >>> ScanLayer(4, d_state=8)(torch.rand(1, 4, 6, 4)).shape
        torch.Size([1, 4, 6, 4])
    """

    def __init__(self, d_model: int, d_state: int = 16) -> None:
        super().__init__()
        inner = 2 * d_model
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scan = EfficientScan(inner, d_model, d_state)
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x, z = self.in_proj(image).chunk(2, dim=-1)  # 2 x (B, H, W, 2C)
        x = F.silu(self.depthwise(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)  # (B, H, W, 2C)
        return self.out_proj(self.scan(x) * F.silu(z))


class CrossScanLayer(nn.Module):
    """CMFM: Linear(ES2D(c1 c2 + c1 + c2) * (SiLU(z1) + SiLU(z2))), with c and z of two images.

    Source: "FusionMamba", arXiv 2404.09498, section 3.4. One depthwise convolution serves both images. The published
    code gates the second time by SiLU(SiLU(z1)) instead of SiLU(z2).

    Args:
        d_model: width C.
        d_state: states per channel.
        own_gate: gate by both images, as in the paper; otherwise twice by the first, as in the code.

    Example:
        >>> image = torch.rand(1, 4, 6, 4)
        >>> CrossScanLayer(4, d_state=8)(image, image).shape
        torch.Size([1, 4, 6, 4])
    """

    def __init__(self, d_model: int, d_state: int = 16, own_gate: bool = True) -> None:
        super().__init__()
        inner = 2 * d_model
        self.own_gate = own_gate
        self.in_proj = nn.ModuleList([nn.Linear(d_model, 2 * inner, bias=False) for _ in range(2)])
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scan = EfficientScan(inner, d_model, d_state)
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Twice (B, H, W, C) -> (B, H, W, C)."""
        x1, z1 = self.in_proj[0](first).chunk(2, dim=-1)  # 2 x (B, H, W, 2C)
        x2, z2 = self.in_proj[1](second).chunk(2, dim=-1)
        both = torch.cat([x1, x2]).permute(0, 3, 1, 2)  # (2B, 2C, H, W)
        c1, c2 = F.silu(self.depthwise(both)).permute(0, 2, 3, 1).chunk(2, 0)  # 2 x (B, H, W, 2C)
        gate = F.silu(z1)
        gate = gate + F.silu(z2 if self.own_gate else gate)
        return self.out_proj(self.scan(c1 * c2 + c1 + c2) * gate)
