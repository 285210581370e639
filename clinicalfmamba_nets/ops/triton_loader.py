"""Finds the Triton kernels: the only module that imports them, and only when a scan asks for them."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch


class Kernels(NamedTuple):
    """The kernels, in the order in which they run."""

    local_states: Any
    carry: Any
    outputs: Any
    local_adjoints: Any
    gradients: Any


def interpreting() -> bool:
    """Whether Triton interprets its kernels on the CPU (``TRITON_INTERPRET=1``), which is for tests."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


_state: tuple[Kernels | None, str] | None = None  # a plain global, which torch.compile can trace


def load() -> tuple[Kernels | None, str]:
    """Import the kernels and run the smallest one, once per process.

    Returns:
        The kernels or None, and one sentence on why.
    """
    global _state
    if _state is None:
        _state = _load()
    return _state


def _load() -> tuple[Kernels | None, str]:
    if not interpreting() and not torch.cuda.is_available():
        return None, "no CUDA device"
    try:
        from clinicalfmamba_nets.ops.triton_gradients import gradients, local_adjoints
        from clinicalfmamba_nets.ops.triton_kernels import carry, local_states, outputs
    except Exception as error:  # a broken Triton raises more than ImportError
        return None, f"Triton cannot be imported ({_reason(error)})"
    device = torch.device("cpu") if interpreting() else torch.cuda.current_device()
    try:
        x = torch.zeros(1, device=device)
        carry[(1, 1)](x, x, x, None, None, 1, 1, 1, REVERSE=False, BLOCK=16)
    except Exception as error:  # an old GPU, or no C compiler for Triton's launcher
        return None, f"Triton cannot compile here ({_reason(error)})"
    kernels = Kernels(local_states, carry, outputs, local_adjoints, gradients)
    return kernels, "Triton's interpreter" if interpreting() else "Triton kernels"


def required() -> Kernels:
    """The kernels.

    Raises:
        RuntimeError: they cannot be used; the message says why.
    """
    kernels, reason = load()
    if kernels is None:
        raise RuntimeError(f"the Triton scan is not available: {reason}; use the torch backend")
    return kernels


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
