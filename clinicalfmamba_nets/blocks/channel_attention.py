"""Cross-modal channel attention (CMCA): each image's shallow features choose channels of the other's."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.hooks import watched
from clinicalfmamba_nets.ops import recording


class CrossModalChannelAttention(nn.Module):
    """d + g(f_x, f_y) + g(f_y, f_x) with g(a, b) = Q(b) * sigmoid(max(R(a)) + mean(R(a))) per channel.

    Source: "ClinicalFMamba", arXiv 2508.03008, section 2.4. The paper writes 3x3 convolutions and adds to the latent;
    the published code has 1x1 convolutions without bias on the features of the first convolution, at full resolution,
    and one module for both directions. ``kernel_size`` 3 gives the paper's size.

    Args:
        spatial_dims: 2 or 3.
        channels: width C.
        kernel_size: of Q and R.

    Example:
        >>> f = torch.rand(1, 8, 9, 7)
        >>> CrossModalChannelAttention(2, 8)(f, f, f).shape
        torch.Size([1, 8, 9, 7])
    """

    def __init__(self, spatial_dims: int, channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.pointwise = kernel_size == 1
        self.reference = conv(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.query = conv(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, decoded: Tensor, f_x: Tensor, f_y: Tensor, in_place: bool = False) -> Tensor:
        """Three times (B, C, *S) -> (B, C, *S), in the memory of the first where it may be used up."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if watched(self.reference) or watched(self.query):
                return decoded + self._exchange(f_x, f_y) + self._exchange(f_y, f_x)
        plain = decoded.dtype == f_x.dtype == self.query.weight.dtype  # not under autocast
        if self.pointwise and plain:
            maps = [x.flatten(2).transpose(1, 2) for x in (decoded, f_x, f_y)]  # (B, N, C) each
            into = maps[0] if in_place else None
            total = self._exchange_lean(maps[1], maps[2], into).unflatten(1, decoded.shape[2:]).movedim(-1, 1)
            return total if in_place else decoded + total
        return decoded + self._exchange(f_x, f_y) + self._exchange(f_y, f_x)

    def _exchange(self, chooser: Tensor, chosen: Tensor) -> Tensor:
        spatial = list(range(2, chooser.dim()))
        response = self.reference(chooser)
        weight = torch.sigmoid(response.amax(spatial, keepdim=True) + response.mean(spatial, keepdim=True))
        return self.query(chosen) * weight

    def _exchange_lean(self, f_x: Tensor, f_y: Tensor, into: Tensor | None) -> Tensor:
        """The same sum for 1x1 convolutions, added to maps where given: weights go into Q, the mean through R."""
        query = self.query.weight.flatten(1).t()  # (C, C)
        of_x, of_y = query * self._weight(f_y).unsqueeze(1), query * self._weight(f_x).unsqueeze(1)
        total = torch.bmm(f_y, of_y) if into is None else into.baddbmm_(f_y, of_y)  # (B, N, C)
        return total.baddbmm_(f_x, of_x)

    def _weight(self, chooser: Tensor) -> Tensor:
        """sigmoid(max(R(a)) + mean(R(a))) of a (B, N, C) with 1x1 convolutions, (B, C)."""
        channels = chooser.shape[2]
        reference = self.reference.weight.flatten(1).t().expand(chooser.shape[0], channels, channels)
        average = chooser.sum(1, keepdim=True) / chooser.shape[1]  # unlike a mean's, the gradient needs no map
        return torch.sigmoid(_greatest(chooser, reference) + torch.bmm(average, reference).squeeze(1))


def _greatest(tokens: Tensor, weights: Tensor, chunk: int = 4096) -> Tensor:
    """Greatest over N of tokens (B, N, C) times weights (B, C, C'), a chunk of N at once: (B, C')."""
    if not torch.jit.is_scripting():
        if recording():  # a graph holds no loop over a length that it does not know
            return torch.bmm(tokens, weights).amax(1)
        if torch.is_grad_enabled():
            return _greatest_by_place(tokens, weights, chunk)
    parts = tokens.split(chunk, dim=1)
    greatest = torch.bmm(parts[0], weights).amax(1)
    for part in parts[
        1:
    ]:  # one result at a time: a list of them would keep C libraries from using a chunk's room again
        greatest = torch.maximum(greatest, torch.bmm(part, weights).amax(1))
    return greatest


def _greatest_by_place(tokens: Tensor, weights: Tensor, chunk: int) -> Tensor:
    """The same, whose gradient concerns the greatest tokens alone: their places are found first, without gradient."""
    with torch.no_grad():
        parts = [torch.bmm(part, weights).max(1) for part in tokens.split(chunk, dim=1)]
        best = torch.stack([part.values for part in parts]).argmax(0)  # the chunk, (B, C')
        place = torch.stack([part.indices for part in parts]).gather(0, best.unsqueeze(0)).squeeze(0) + chunk * best
    rows = tokens.gather(1, place.unsqueeze(2).expand(-1, -1, tokens.shape[2]))  # (B, C', C)
    return (rows * weights.transpose(1, 2)).sum(2)
