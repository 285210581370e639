"""MONAI transforms for image pairs: loading with checks, intensity with undo, luma and chroma, saving by case."""

from __future__ import annotations

from clinicalfmamba_nets.transforms.chroma import MergeChroma, MergeChromad
from clinicalfmamba_nets.transforms.intensity import (
    RestoreIntensity,
    RestoreIntensityd,
    ScaleIntensityPair,
    ScaleIntensityPaird,
)
from clinicalfmamba_nets.transforms.load import LoadImagePair, LoadImagePaird
from clinicalfmamba_nets.transforms.save import SaveFused, SaveFusedd, SaveImageFusedd

__all__ = [
    "LoadImagePair",
    "LoadImagePaird",
    "MergeChroma",
    "MergeChromad",
    "RestoreIntensity",
    "RestoreIntensityd",
    "SaveFused",
    "SaveFusedd",
    "SaveImageFusedd",
    "ScaleIntensityPair",
    "ScaleIntensityPaird",
]
