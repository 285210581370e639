"""The selective scan, its convolution and gate, convolutions of maps and refined shares in C++, for float32 on a CPU.

The kernels are compiled when the package is installed, or on first use into the user's cache folder; without a
compiler :func:`available` is False, :func:`reason` says why, and the other backends serve. Importing this module
registers ``torch.ops.clinicalfmamba`` where they are built, :func:`load` builds them first where they are not, and
:func:`library_path` tells where programs without this package find them. Environment: ``CXX`` chooses the compiler,
``XDG_CACHE_HOME`` the cache, ``CLINICALFMAMBA_NATIVE=0`` switches the kernels off.
"""

from __future__ import annotations

import torch

from clinicalfmamba_nets.ops.native.allocator import tune_allocator
from clinicalfmamba_nets.ops.native.conv_ops import permuted_conv1d_silu
from clinicalfmamba_nets.ops.native.gate_ops import GATED, gated_norm
from clinicalfmamba_nets.ops.native.loader import available, library_path, load, load_if_built, reason
from clinicalfmamba_nets.ops.native.maps_ops import MAPPED, conv3x3
from clinicalfmamba_nets.ops.native.mix_ops import refined_shares
from clinicalfmamba_nets.ops.native.permuted_ops import permuted_selective_scan
from clinicalfmamba_nets.ops.native.scan_ops import selective_scan

STATES = (4, 8, 16)
TAPS = (2, 3, 4)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # the latter two are widened first

load_if_built()

__all__ = [
    "DTYPES",
    "GATED",
    "MAPPED",
    "STATES",
    "TAPS",
    "available",
    "conv3x3",
    "gated_norm",
    "library_path",
    "load",
    "permuted_conv1d_silu",
    "permuted_selective_scan",
    "reason",
    "refined_shares",
    "selective_scan",
    "tune_allocator",
]
