"""Which implementation of the selective scan runs, and why.

=========== ============================================== ===============================================
backend     what it is                                     chosen by ``auto``
=========== ============================================== ===============================================
cuda        mamba-ssm's kernels, else Triton kernels       CUDA tensors, when mamba-ssm or Triton is there
native      C++ kernels of this package                    CPU tensors up to float32, when they are built
torch       chunked scan in plain torch operations         everything else: float64, tracing and export, forward-mode
                                                           derivatives, the transforms of torch.func
reference   a loop over the tokens                         never: it is the truth for tests
=========== ============================================== ===============================================

The environment variable ``CLINICALFMAMBA_SCAN_BACKEND`` and :func:`scan_backend` override ``auto``, the latter in its
own thread or asynchronous task alone.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

from clinicalfmamba_nets.ops import cuda, native
from clinicalfmamba_nets.ops.derivatives import beyond_kernels
from clinicalfmamba_nets.ops.recording import recording

BACKENDS = ("cuda", "native", "torch", "reference")
ENVIRONMENT = "CLINICALFMAMBA_SCAN_BACKEND"
_override: ContextVar[str | None] = ContextVar("scan_backend", default=None)
_entered: list[str] = []  # of all threads: torch.compile, which cannot read the variable, compiles anew when it changes
_warned: set[str] = set()


@contextlib.contextmanager
def scan_backend(name: str) -> Iterator[None]:
    """Use one backend for every scan inside the ``with`` block, in this thread or asynchronous task.

    Args:
        name: one of ``auto``, ``cuda``, ``native``, ``torch``, ``reference``.

    Raises:
        ValueError: unknown name.

    Example:
        >>> with scan_backend("torch"):
        ...     requested_backend()
        'torch'
    """
    _check(name)
    before = _override.set(name)
    _entered.append(name)
    try:
        yield
    finally:
        _entered.remove(name)
        _override.reset(before)


def requested_backend() -> str:
    """The backend asked for by :func:`scan_backend` or the environment; ``auto`` when none is.

    Raises:
        ValueError: the environment holds an unknown name.
    """
    return _requested_within(",".join(_entered) if torch.compiler.is_compiling() else "")


def _requested_within(entered: str) -> str:
    """The backend asked for; a constant of a compiled graph, which holds within the same contexts."""
    asked = _override.get()
    if asked is not None:
        return asked
    name = os.environ.get(ENVIRONMENT, "auto") or "auto"
    _check(name, f"{ENVIRONMENT}: ")
    return name


_requested_within._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result


def resolve_backend(u: Tensor, states: int, backend: str = "auto", tensors: Sequence[Tensor | None] = ()) -> str:
    """Name the backend that a scan of ``u`` with ``states`` states per channel runs on.

    Args:
        u: the scanned sequence; its device and dtype decide.
        states: states per channel (d_state).
        backend: the caller's wish; ``auto`` leaves it to :func:`requested_backend`.
        tensors: all arguments of the operator, whose derivatives the backend must know.

    Returns:
        ``cuda``, ``native``, ``torch`` or ``reference``.

    Raises:
        ValueError: unknown name.
        RuntimeError: the backend asked for cannot run this scan; the message says why.
    """
    _check(backend)
    name = requested_backend() if backend == "auto" else backend
    beyond = beyond_kernels(*tensors)
    if name != "auto":
        problem = _problem(name, u, states)
        if not problem and beyond and name in ("cuda", "native"):
            problem = f"its kernels do not know {beyond}"
        if problem:
            raise RuntimeError(
                f"scan backend {name!r} cannot run here: {problem}; use backend='auto' or scan_backend('torch')"
            )
        return name
    if beyond or recording():
        return "torch"  # an exported graph must run where this package is not installed
    for candidate in ("cuda", "native"):
        if not _problem(candidate, u, states):
            return candidate
    if u.device.type == "cpu" and not native.available():
        _warn_once(f"the native scan is not built ({native.reason()}); the torch form runs, several times slower")
    return "torch"


def backend_report() -> dict[str, dict[str, object]]:
    """Tell for each backend whether it is there, whether ``auto`` uses it on this machine, and why.

    Returns:
        A row per backend: ``available`` (bool), ``active`` (bool), ``reason`` (one sentence). None is active where
        a backend is asked for that is not there: every scan is refused then.

    Example:
        >>> backend_report()["torch"]["available"]
        True
    """
    has_cuda, cuda_reason = cuda.load()
    rows: dict[str, dict[str, object]] = {
        "cuda": {"available": has_cuda is not None, "reason": cuda_reason},
        "native": {"available": native.available(), "reason": native.reason()},
        "torch": {"available": True, "reason": "plain torch operations"},
        "reference": {"available": True, "reason": "a loop for tests, never chosen by itself"},
    }
    asked = requested_backend()
    order = ("cuda", "native", "torch") if asked == "auto" else (asked,)
    active = next((name for name in order if rows[name]["available"]), None)
    for name, row in rows.items():
        row["active"] = name == active
    if asked != "auto":
        told = "asked for" if active else "cannot run, yet asked for"
        rows[asked]["reason"] = f"{rows[asked]['reason']}; {told} by {ENVIRONMENT} or scan_backend()"
    return rows


def _problem(name: str, u: Tensor, states: int) -> str:
    """Why a backend cannot scan ``u``; empty when it can."""
    if name == "cuda":
        if cuda.load()[0] is None:
            return cuda.load()[1]
        if u.device.type != "cuda":
            return f"the tensor is on {u.device}"
        return "" if u.dtype in cuda.DTYPES else f"it takes float32, float16 and bfloat16, not {u.dtype}"
    if name == "native":
        if not native.available():
            return native.reason()
        if u.device.type != "cpu" or u.dtype not in native.DTYPES:
            return f"it takes CPU float32, float16 and bfloat16, not {u.device.type} {u.dtype}"
        if states not in native.STATES:
            return f"it takes d_state {native.STATES}, not {states}"
    return ""


def _check(name: str, where: str = "") -> None:
    if name not in (*BACKENDS, "auto"):
        raise ValueError(f"{where}unknown scan backend {name!r}: expected auto, {', '.join(BACKENDS)}")


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=3)
