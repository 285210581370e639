"""Fusion metrics: `compute_<name>` functions, `<Name>Metric` classes for MONAI, and `compute_all` for one pair."""

from __future__ import annotations

from .average_gradient import AverageGradientMetric, compute_ag
from .background import BackgroundMeanMetric, compute_background_mean
from .bone import BoneMeanMetric, compute_bone_mean
from .calcification import CalcificationContrastMetric, compute_calcification_contrast
from .cc import CorrelationMetric, compute_cc
from .entropy import EntropyMetric, FloatEntropyMetric, compute_entropy, compute_entropy_float
from .extrema import InventedExtremaMetric, compute_extrema
from .fmi import FMIMetric, compute_fmi
from .fsim import FSIMMetric, compute_fsim
from .fusion_metric import FusionMetric
from .mi import MutualInformationMetric, compute_mi
from .ms_ssim import MultiScaleSSIMMetric, compute_ms_ssim
from .outside import OutsideMetric, compute_outside
from .pair import compute_all, score_pair
from .plateau import PlateauErrorMetric, compute_plateau_error
from .psnr import PSNRMetric, compute_psnr
from .qabf import FusionArtefactsMetric, LostEdgesMetric, QabfMetric, compute_l_abf, compute_n_abf, compute_qabf
from .registry import ALL_METRICS, CT_METRICS, LOWER_IS_BETTER, WITHOUT_DIRECTION, check_names, is_better
from .scd import SCDMetric, compute_scd
from .scores import Scores, head_region
from .selection import SelectionScoreMetric, compute_selection_score
from .spatial_frequency import SpatialFrequencyMetric, compute_sf
from .ssim import SSIMMetric, compute_ssim
from .standard_deviation import StandardDeviationMetric, compute_sd
from .vif import VIFMetric, compute_vif

__all__ = [
    "ALL_METRICS",
    "CT_METRICS",
    "LOWER_IS_BETTER",
    "WITHOUT_DIRECTION",
    "AverageGradientMetric",
    "BackgroundMeanMetric",
    "BoneMeanMetric",
    "CalcificationContrastMetric",
    "CorrelationMetric",
    "EntropyMetric",
    "FMIMetric",
    "FSIMMetric",
    "FloatEntropyMetric",
    "FusionArtefactsMetric",
    "FusionMetric",
    "InventedExtremaMetric",
    "LostEdgesMetric",
    "MultiScaleSSIMMetric",
    "MutualInformationMetric",
    "PSNRMetric",
    "QabfMetric",
    "SCDMetric",
    "SSIMMetric",
    "Scores",
    "SpatialFrequencyMetric",
    "StandardDeviationMetric",
    "VIFMetric",
    "check_names",
    "compute_ag",
    "compute_all",
    "compute_background_mean",
    "compute_bone_mean",
    "compute_calcification_contrast",
    "compute_cc",
    "compute_entropy",
    "compute_entropy_float",
    "compute_extrema",
    "compute_fmi",
    "compute_fsim",
    "compute_l_abf",
    "compute_mi",
    "compute_ms_ssim",
    "compute_n_abf",
    "compute_psnr",
    "compute_qabf",
    "compute_scd",
    "compute_sd",
    "compute_sf",
    "compute_ssim",
    "compute_vif",
    "head_region",
    "is_better",
    "score_pair",
    "OutsideMetric",
    "compute_outside",
    "PlateauErrorMetric",
    "compute_plateau_error",
    "SelectionScoreMetric",
    "compute_selection_score",
]
