"""Losses that train a fusion network without a ground truth."""

from __future__ import annotations

from clinicalfmamba_nets.losses.edges import edge_overshoot, edge_preservation
from clinicalfmamba_nets.losses.fusion import FusionLoss
from clinicalfmamba_nets.losses.fusionmamba import FusionMambaLoss
from clinicalfmamba_nets.losses.grading import GradingLoss
from clinicalfmamba_nets.losses.information import information_fidelity
from clinicalfmamba_nets.losses.mrsc_fusion import AutoEncoderLoss, MRSCFusionLoss
from clinicalfmamba_nets.losses.reconstruction import ReconstructionLoss
from clinicalfmamba_nets.losses.structures import plateau_error, shading_error, spot_loss

__all__ = [
    "AutoEncoderLoss",
    "FusionLoss",
    "FusionMambaLoss",
    "GradingLoss",
    "MRSCFusionLoss",
    "ReconstructionLoss",
    "edge_overshoot",
    "edge_preservation",
    "information_fidelity",
    "plateau_error",
    "shading_error",
    "spot_loss",
]
