"""Bridge to the CUDA kernels of mamba-ssm, imported on demand and never required."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.cache
def load() -> tuple[object | None, str]:
    """Find mamba-ssm's ``selective_scan_fn``.

    Returns:
        The function or None, and one sentence on why.
    """
    if not torch.cuda.is_available():
        return None, "no CUDA device"
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except Exception as error:  # mamba-ssm raises what its compiled parts raise: ImportError, OSError, RuntimeError
        return None, f"mamba-ssm cannot be imported ({type(error).__name__}: {error})".splitlines()[0]
    return selective_scan_fn, "mamba-ssm"


def selective_scan_cuda(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """mamba-ssm's selective scan, in the layout of :func:`clinicalfmamba_nets.ops.selective_scan`.

    Raises:
        RuntimeError: mamba-ssm is not there; the message says why.
    """
    function, reason = load()
    if function is None:
        raise RuntimeError(f"scan backend 'cuda' is not available: {reason}; pip install mamba-ssm on a CUDA machine")
    return function(u, delta, A, B, C, D, z, delta_bias, delta_softplus, True)  # type: ignore[operator]
