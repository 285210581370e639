"""MONAI transforms for image pairs: loading with checks, intensity with undo, luma and chroma, saving by case."""

from __future__ import annotations

from clinicalfmamba_nets.transforms.chroma import MergeChroma, MergeChromad
from clinicalfmamba_nets.transforms.intensity import (
    ScaleIntensityPair,
    ScaleIntensityPaird,
    WindowIntensityPair,
    WindowIntensityPaird,
)
from clinicalfmamba_nets.transforms.load import LoadImagePair, LoadImagePaird
from clinicalfmamba_nets.transforms.palette import ColorByPaletted
from clinicalfmamba_nets.transforms.random_intensity import RandWindowIntensityPair, RandWindowIntensityPaird
from clinicalfmamba_nets.transforms.restore import RestoreIntensity, RestoreIntensityd
from clinicalfmamba_nets.transforms.save import SaveFused, SaveFusedd, SaveImageFusedd

__all__ = [
    "ColorByPaletted",
    "LoadImagePair",
    "LoadImagePaird",
    "MergeChroma",
    "MergeChromad",
    "RandWindowIntensityPair",
    "RandWindowIntensityPaird",
    "RestoreIntensity",
    "RestoreIntensityd",
    "SaveFused",
    "SaveFusedd",
    "SaveImageFusedd",
    "ScaleIntensityPair",
    "ScaleIntensityPaird",
    "WindowIntensityPair",
    "WindowIntensityPaird",
]
