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
from clinicalfmamba_nets.transforms.random_spots import RandSpotsd
from clinicalfmamba_nets.transforms.restore import RestoreIntensity, RestoreIntensityd
from clinicalfmamba_nets.transforms.save import SaveFused, SaveFusedd, SaveImageFusedd
from clinicalfmamba_nets.transforms.steps import WarnOfStepsd
from clinicalfmamba_nets.transforms.weights_map import SaveWeightsd, SplitWeightsd

__all__ = [
    "ColorByPaletted",
    "LoadImagePair",
    "LoadImagePaird",
    "MergeChroma",
    "MergeChromad",
    "RandSpotsd",
    "RandWindowIntensityPair",
    "RandWindowIntensityPaird",
    "RestoreIntensity",
    "RestoreIntensityd",
    "SaveFused",
    "SaveFusedd",
    "SaveImageFusedd",
    "SaveWeightsd",
    "ScaleIntensityPair",
    "ScaleIntensityPaird",
    "SplitWeightsd",
    "WarnOfStepsd",
    "WindowIntensityPair",
    "WindowIntensityPaird",
]
