"""What a Mamba layer does between its scans and its output: the gate, and a layer normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from clinicalfmamba_nets.ops import native
from clinicalfmamba_nets.ops.backends import resolve_backend
from clinicalfmamba_nets.ops.plain import gated_norm_plain


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
        (S, B, L, D), in float32 where the inputs are of half precision.

    Example:
        >>> gated_norm(torch.rand(2, 1, 6, 16), torch.rand(2, 1, 6, 16), torch.ones(2, 16), torch.zeros(2, 16)).shape
        torch.Size([2, 1, 6, 16])
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
        if resolve_backend(y, 8, tensors=(y, z, weight, bias)) == "native" and y.shape[3] % native.GATED == 0:
            return native.gated_norm(y, z, weight, bias, divisor)
    return gated_norm_plain(y, z, weight, bias, divisor)
