"""What a Mamba layer does between its scans and its output: the gate, and a layer normalization."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.ops import native
from clinicalfmamba_nets.ops.backends import resolve_backend


def gated_norm(
    y: Tensor, z: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, divisor: float = 1.0
) -> Tensor:
    """LN(y SiLU(z) / divisor) over the channels, with a scale and an offset for each weight set.

    Source: arXiv 2312.00752, figure 3 (the gate); the normalization of several directions' sum is ClinicalFMamba's
    (arXiv 2508.03008, section 2.2).

    Args:
        y: sum of the scans, (S, B, L, D).
        z: gate before SiLU, (S, B, L, D).
        weight: scale, (S, D); without it nothing is normalized.
        bias: offset, (S, D), with ``weight``.
        divisor: of y.

    Returns:
        (S, B, L, D).

    Example:
        >>> gated_norm(torch.rand(2, 1, 6, 16), torch.rand(2, 1, 6, 16), torch.ones(2, 16), torch.zeros(2, 16)).shape
        torch.Size([2, 1, 6, 16])
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
        if resolve_backend(y, 8) == "native" and y.shape[3] % native.GATED == 0:
            return torch.ops.clinicalfmamba.gated_norm(y, z, weight, bias, divisor)
    y = y * F.silu(z)
    if divisor != 1.0:
        y = y / divisor
    return layer_norm(y, weight, bias)


def layer_norm(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Layer normalization of (S, B, L, D) with a scale and an offset (S, D) for each weight set; none without them.

    Example:
        >>> layer_norm(torch.rand(2, 1, 6, 16), torch.ones(2, 16), torch.zeros(2, 16)).mean().abs() < 1e-6
        tensor(True)
    """
    if weight is None or bias is None:
        return y
    if weight.shape[0] == 1:
        return F.layer_norm(y, [y.shape[3]], weight[0], bias[0])
    return torch.addcmul(bias[:, None, None], F.layer_norm(y, [y.shape[3]]), weight[:, None, None])
