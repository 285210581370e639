"""Operations: the selective scan and its backends, and the orders in which tokens are scanned."""

from __future__ import annotations

from clinicalfmamba_nets.ops.backends import backend_report, scan_backend
from clinicalfmamba_nets.ops.gating import gated_norm
from clinicalfmamba_nets.ops.maps import conv3x3, convolves_maps
from clinicalfmamba_nets.ops.mixing import refines_shares
from clinicalfmamba_nets.ops.native import refined_shares
from clinicalfmamba_nets.ops.permuted import permuted_conv1d_silu, permuted_selective_scan
from clinicalfmamba_nets.ops.plain import layer_norm, widened
from clinicalfmamba_nets.ops.recording import recording
from clinicalfmamba_nets.ops.scan_orders import scan_order, scan_orders
from clinicalfmamba_nets.ops.selective_scan import selective_scan
from clinicalfmamba_nets.ops.trained_maps import trained_conv, trains_maps

__all__ = [
    "backend_report",
    "conv3x3",
    "convolves_maps",
    "gated_norm",
    "layer_norm",
    "permuted_conv1d_silu",
    "permuted_selective_scan",
    "recording",
    "refined_shares",
    "refines_shares",
    "scan_backend",
    "scan_order",
    "scan_orders",
    "selective_scan",
    "trained_conv",
    "trains_maps",
    "widened",
]
