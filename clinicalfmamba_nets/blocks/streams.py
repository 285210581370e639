"""Layers with a weight set per stream: the two images run side by side through one batched operation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.ops import layer_norm, widened


class StreamLinear(nn.Module):
    """A linear map without offset, with its own weights for each stream.

    Args:
        streams: number of weight sets S.
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.

    Example:
        >>> StreamLinear(2, 8, 4)(torch.rand(2, 3, 5, 8)).shape
        torch.Size([2, 3, 5, 4])
    """

    def __init__(self, streams: int, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(streams, out_features, in_features).uniform_(-bound, bound))

    def forward(self, tokens: Tensor) -> Tensor:
        """(S, B, L, in) -> (S, B, L, out)."""
        streams, batch, length, _ = tokens.shape
        if tokens.dtype != self.weight.dtype and widened(self.weight).dtype == tokens.dtype:
            tokens = tokens.to(self.weight.dtype)  # a scan of half precision comes in float32
        out = torch.bmm(tokens.flatten(1, 2), self.weight.transpose(1, 2))
        return out.view(streams, batch, length, self.weight.shape[1])


class StreamLayerNorm(nn.Module):
    """Layer normalization over the last dimension with its own scale and offset for each stream.

    Args:
        streams: number of weight sets S.
        features: size of the last dimension.

    Example:
        >>> StreamLayerNorm(2, 8)(torch.rand(2, 3, 5, 8)).shape
        torch.Size([2, 3, 5, 8])
    """

    def __init__(self, streams: int, features: int) -> None:
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.ones(streams, features))
        self.bias = nn.Parameter(torch.zeros(streams, features))

    def forward(self, tokens: Tensor) -> Tensor:
        """(S, B, L, C) -> (S, B, L, C)."""
        return layer_norm(tokens, self.weight, self.bias)
