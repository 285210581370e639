"""Selective scan on CUDA devices: mamba-ssm's kernels where they can be imported, else this package's Triton kernels.

Both are imported on demand and neither is required: without them the torch form runs. Of the two paths only the calls
around them were tested, on a CPU: nothing was run on a GPU (see :mod:`clinicalfmamba_nets.ops.triton_scan`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from clinicalfmamba_nets.ops import triton_loader, triton_scan

DTYPES = triton_scan.DTYPES


_state: tuple[Callable[..., tuple[Tensor, Tensor]] | None, str] | None = None  # torch.compile traces a plain global


def load() -> tuple[Callable[..., tuple[Tensor, Tensor]] | None, str]:
    """Choose the scan for CUDA tensors, once per process.

    Returns:
        A function with the arguments of :func:`selective_scan_cuda`, or None; and one sentence on why.
    """
    global _state
    if _state is None:
        _state = _load()
    return _state


def _load() -> tuple[Callable[..., tuple[Tensor, Tensor]] | None, str]:
    if not torch.cuda.is_available():
        return None, "no CUDA device"
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except Exception as error:  # mamba-ssm raises what its compiled parts raise: ImportError, OSError, RuntimeError
        missing = f"mamba-ssm cannot be imported ({type(error).__name__}: {error})".splitlines()[0]
    else:
        return functools.partial(_through_mamba_ssm, selective_scan_fn), "mamba-ssm"
    kernels, reason = triton_loader.load()
    if kernels is None:
        return None, f"{missing}; {reason}"
    return triton_scan.selective_scan_triton, f"{reason}, because {missing}"


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
    """Scan CUDA tensors, in the layout of :func:`clinicalfmamba_nets.ops.selective_scan`.

    The sequences u, delta, z may also be (B, G, D / G, L). mamba-ssm takes no gradient of the last state.

    Returns:
        y of the shape of ``u``, and the last state (B, D, N) in float32.

    Raises:
        RuntimeError: neither mamba-ssm nor Triton can be used; the message says why.
    """
    function, reason = load()
    if function is None:
        raise RuntimeError(
            f"scan backend 'cuda' is not available: {reason}; install triton or mamba-ssm on a machine with CUDA"
        )
    return function(u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def _through_mamba_ssm(
    function: Callable[..., tuple[Tensor, Tensor]],
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
    """mamba-ssm wants dense (B, D, L) of one dtype and float32 weights."""
    shape, dtype = u.shape, u.dtype

    def sequence(x: Tensor) -> Tensor:  # (B, G, D / G, L) or (B, D, L) -> (B, D, L)
        return x.reshape(shape[0], -1, shape[-1]).to(dtype).contiguous()

    y, last = function(
        sequence(u),
        sequence(delta),
        A.float(),
        B.to(dtype).contiguous(),
        C.to(dtype).contiguous(),
        None if D is None else D.float(),
        None if z is None else sequence(z),
        None if delta_bias is None else delta_bias.float(),
        delta_softplus,
        True,
    )
    return y.view(shape), last
