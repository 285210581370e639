"""Grids in space: whether two images share one, resampling onto another, rigid registration."""

from clinicalfmamba_nets.spatial.grids import match_grids
from clinicalfmamba_nets.spatial.resample import resample

__all__ = ["match_grids", "resample"]
