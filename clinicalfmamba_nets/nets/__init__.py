"""Networks: ClinicalFMamba and what it is compared with."""

from __future__ import annotations

from typing import Any

from clinicalfmamba_nets.nets.baselines import AverageFusion, GuidedFilterFusion, LaplacianPyramidFusion, MaximumFusion
from clinicalfmamba_nets.nets.clinicalfmamba import ClinicalFMamba, clinicalfmamba_2d, clinicalfmamba_3d
from clinicalfmamba_nets.nets.eh_dran import EHDRAN
from clinicalfmamba_nets.nets.fusionmamba import FusionMamba
from clinicalfmamba_nets.nets.mambadfuse import MambaDFuse
from clinicalfmamba_nets.nets.mrsc_fusion import MRSCFusion, MRSCFusionStage
from clinicalfmamba_nets.nets.official_checkpoint import from_official_state_dict
from clinicalfmamba_nets.nets.single_images import SingleImageReconstruction
from clinicalfmamba_nets.nets.swin_fusion import SwinFusion

__all__ = [
    "AverageFusion",
    "ClinicalFMamba",
    "EHDRAN",
    "FusionMamba",
    "GuidedFilterFusion",
    "LaplacianPyramidFusion",
    "MRSCFusion",
    "MRSCFusionStage",
    "MambaDFuse",
    "MaximumFusion",
    "SingleImageReconstruction",
    "SwinFusion",
    "clinicalfmamba_2d",
    "clinicalfmamba_3d",
    "from_official_state_dict",
    "pretrained",
]


def __getattr__(name: str) -> Any:
    # `pretrained` needs the bundles, whose rooms lie above this one: the package hands it over when it is asked for.
    if name == "pretrained":
        import clinicalfmamba_nets

        return clinicalfmamba_nets.__getattr__(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
