"""Finds, or builds on first use, the library for this CPU and keeps it open."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import sys
import threading
from pathlib import Path

import torch

from clinicalfmamba_nets.ops.native import build, registry

SWITCH = "CLINICALFMAMBA_NATIVE"
FUNCTIONS = (
    *(f"cfm_{kernel}_{way}" for kernel in ("scan", "conv", "gate") for way in ("forward", "backward")),
    *("cfm_maps_forward", "cfm_mix_refine", "cfm_mix_slope"),
)

_log = logging.getLogger(__name__)
_mutex = threading.Lock()
_state: tuple[ctypes.CDLL | None, str] | None = None


def load() -> ctypes.CDLL | None:
    """The kernels for this CPU, built now if they are neither installed nor in the cache; None where they cannot be.

    Returns:
        The open library, or None; :func:`reason` then says why.
    """
    global _state
    if _state is None:
        with _mutex:
            if _state is None:
                _state = _load()
    return _state[0]


def load_if_built() -> None:
    """Load the library where that takes no compiling, so that exported programs find their operators."""
    variant = variant_of_cpu(torch.backends.cpu.get_cpu_capability(), platform.machine())
    with contextlib.suppress(build.BuildError, OSError):
        installed = build.installed_library(build.whole_variant(platform.machine()))
        if installed.exists() or build.cached_library(variant, build.find_compiler()).exists():
            load()


def library_path(host: str = "torch") -> Path:
    """The library that other programs load, for torch or for ``onnxruntime``; built now if it is not there.

    Raises:
        RuntimeError: there is none here; the message says why.
    """
    if load() is None:
        raise RuntimeError(f"the operators' library is not here: {reason()}")
    path, _ = _find(variant_of_cpu(torch.backends.cpu.get_cpu_capability(), platform.machine()))
    return path if host == "torch" else build.onnxruntime_library(path)


def available() -> bool:
    """Whether the kernels can be used; the first call may build them, which takes some seconds."""
    return load() is not None


available._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result


def reason() -> str:
    """One sentence on which library is in use, or why there is none."""
    load()
    assert _state is not None
    return _state[1]


def variant_of_cpu(capability: str, machine: str) -> str:
    """Name of the build that runs on a CPU.

    Args:
        capability: as ``torch.backends.cpu.get_cpu_capability()`` tells it.
        machine: as :func:`platform.machine` tells it.

    Returns:
        A name of ``build.VARIANTS``.
    """
    variants = build.variants_of_machine(machine)
    if len(variants) == 1:
        return variants[0]
    if capability.startswith("AVX512"):
        return variants[0]
    return variants[1] if capability.startswith("AVX2") else variants[2]


def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get(SWITCH, "").lower() in ("0", "off", "no"):
        return None, f"switched off by {SWITCH}"
    if sys.maxsize < 2**32 or os.name != "posix":
        return None, "only for 64-bit Linux and macOS"
    variant = variant_of_cpu(torch.backends.cpu.get_cpu_capability(), platform.machine())
    try:
        path, where = _find(variant)
        library = ctypes.CDLL(str(path))
        for name in FUNCTIONS:
            function = getattr(library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
        for name in ("cfm_vector_width", "cfm_tile_tokens"):
            getattr(library, name).restype = ctypes.c_int64
        library.cfm_variant.restype = ctypes.c_char_p
        used = library.cfm_variant()
        if used is None:
            return None, f"{path} was built for another processor"
    except (build.BuildError, OSError, AttributeError) as error:
        return None, " ".join(str(error).split())
    _share_threads(library)
    registry.complete_operators()
    variant = used.decode().replace("_", "-")
    return library, f"{variant}, {8 * 4 * library.cfm_vector_width()}-bit vectors, {where}"


def _find(variant: str) -> tuple[Path, str]:
    installed = build.installed_library(build.whole_variant(platform.machine()))
    if installed.exists():
        return installed, "built at install"
    if not _is_cached(variant):
        _log.info("building the native kernels for %s: about a minute, once", variant)
    try:
        return build.build_into_cache(variant), "built on first use"
    except build.BuildError:
        cached = build.library_of_any_compiler(variant)
        if cached is None:
            raise
        return cached, "built earlier"


def _is_cached(variant: str) -> bool:
    """Whether an earlier process built the library of a variant from these sources with this compiler."""
    with contextlib.suppress(build.BuildError):
        return build.cached_library(variant, build.find_compiler()).exists()
    return False


def _share_threads(library: ctypes.CDLL) -> None:
    """Let the kernels run on the OpenMP threads that torch already has, where that is GNU OpenMP."""
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel
    except (OSError, AttributeError):
        return
    library.cfm_use_openmp.argtypes = [ctypes.c_void_p]
    library.cfm_use_openmp.restype = None
    library.cfm_use_openmp(ctypes.cast(parallel, ctypes.c_void_p))
