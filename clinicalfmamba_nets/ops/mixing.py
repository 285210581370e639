"""Whether the shares of two sources in a mix can be refined by the native kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.backends import resolve_backend


def refines_shares(pair: Tensor) -> bool:
    """Tell whether :func:`refined_shares` serves: native kernels, a pair of float32 on the CPU, no torch backend asked.

    Args:
        pair: sources, (B, 2, H, W).

    Example:
        >>> refines_shares(torch.rand(1, 2, 16, 16, dtype=torch.float64))
        False
    """
    return pair.dtype == torch.float32 and pair.device.type == "cpu" and resolve_backend(pair, 8) == "native"
