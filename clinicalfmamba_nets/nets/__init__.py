"""Networks: ClinicalFMamba and what it is compared with."""

from __future__ import annotations

from clinicalfmamba_nets.nets.baselines import AverageFusion, GuidedFilterFusion, LaplacianPyramidFusion, MaximumFusion
from clinicalfmamba_nets.nets.clinicalfmamba import ClinicalFMamba, clinicalfmamba_2d, clinicalfmamba_3d
from clinicalfmamba_nets.nets.eh_dran import EHDRAN, EHDRANReconstruction
from clinicalfmamba_nets.nets.official import from_official_state_dict

__all__ = [
    "AverageFusion",
    "ClinicalFMamba",
    "EHDRAN",
    "EHDRANReconstruction",
    "GuidedFilterFusion",
    "LaplacianPyramidFusion",
    "MaximumFusion",
    "clinicalfmamba_2d",
    "clinicalfmamba_3d",
    "from_official_state_dict",
]
