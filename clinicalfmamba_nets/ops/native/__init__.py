"""The selective scan, its convolution and its gate in C++, for tensors on a CPU, computed in float32.

The kernels are compiled when the package is installed, or on first use into the user's cache folder; without a
compiler :func:`available` is False, :func:`reason` says why, and the other backends serve. Importing this module
registers ``torch.ops.clinicalfmamba``. Environment: ``CXX`` chooses the compiler, ``XDG_CACHE_HOME`` the cache,
``CLINICALFMAMBA_NATIVE=0`` switches the kernels off.
"""

from __future__ import annotations

import torch

from clinicalfmamba_nets.ops.native import conv_ops as _conv_ops  # noqa: F401  registers the operators
from clinicalfmamba_nets.ops.native import permuted_ops as _permuted_ops  # noqa: F401
from clinicalfmamba_nets.ops.native import scan_ops as _scan_ops  # noqa: F401
from clinicalfmamba_nets.ops.native.allocator import tune_allocator
from clinicalfmamba_nets.ops.native.gate_ops import GATED
from clinicalfmamba_nets.ops.native.loader import available, load, reason

STATES = (4, 8, 16)
TAPS = (2, 3, 4)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # the latter two are widened first

__all__ = ["DTYPES", "GATED", "STATES", "TAPS", "available", "load", "reason", "tune_allocator"]
