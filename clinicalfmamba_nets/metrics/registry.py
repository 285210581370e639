"""The table of all fusion metrics and the one call that scores a pair with every one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from clinicalfmamba_nets.errors import input_error

from .average_gradient import compute_ag
from .background import compute_background_mean
from .bone import compute_bone_mean
from .calcification import compute_calcification_contrast
from .cc import compute_cc
from .entropy import compute_entropy, compute_entropy_float
from .extrema import compute_extrema
from .fmi import compute_fmi
from .fsim import compute_fsim
from .mi import compute_mi
from .ms_ssim import compute_ms_ssim
from .psnr import compute_psnr
from .qabf import compute_l_abf, compute_n_abf, compute_qabf
from .scd import compute_scd
from .scores import Scores, head_region
from .spatial_frequency import compute_sf
from .ssim import compute_ssim
from .standard_deviation import compute_sd
from .vif import compute_vif

ALL_METRICS: dict[str, Callable[..., Scores]] = {
    "psnr": compute_psnr,
    "ssim": compute_ssim,
    "ms_ssim": compute_ms_ssim,
    "fmi": compute_fmi,
    "fmi_pixel": partial(compute_fmi, feature="pixel"),
    "fmi_gradient": partial(compute_fmi, feature="gradient"),
    "fsim": compute_fsim,
    "fsim_published": partial(compute_fsim, variant="published"),
    "entropy": compute_entropy,
    "entropy_float": compute_entropy_float,
    "vif": compute_vif,
    "qabf": compute_qabf,
    "l_abf": compute_l_abf,
    "n_abf": compute_n_abf,
    "scd": compute_scd,
    "mi": compute_mi,
    "cc": compute_cc,
    "sd": compute_sd,
    "sf": compute_sf,
    "ag": compute_ag,
    "extrema": compute_extrema,
    "background_mean": compute_background_mean,
    "bone_mean": compute_bone_mean,
    "calcification_contrast": compute_calcification_contrast,
}
CT_METRICS = frozenset({"bone_mean", "calcification_contrast"})
OWN_REGION = CT_METRICS | {"background_mean"}
LOWER_IS_BETTER = frozenset({"l_abf", "n_abf", "extrema", "background_mean"})
WITHOUT_DIRECTION = frozenset({"entropy", "entropy_float", "sd", "sf", "ag"})


def check_names(names: Iterable[str] | None, with_ct: bool = True) -> list[str]:
    """List the metrics to compute, in the order of the table.

    Args:
        names: names of `ALL_METRICS`; None for all of them.
        with_ct: whether the second source is a CT; without one the metrics of bone and calcification are left out.

    Returns:
        The names.

    Raises:
        FusionInputError: for a name that is not in the table.

    Example:
        >>> check_names(["ssim", "psnr"])
        ['psnr', 'ssim']
    """
    wanted = list(ALL_METRICS) if names is None else list(names)
    unknown = [name for name in wanted if name not in ALL_METRICS]
    if unknown:
        raise input_error("metrics", f"names among {', '.join(ALL_METRICS)}", repr(unknown[0]), "correct the name")
    return [name for name in ALL_METRICS if name in wanted and (with_ct or name not in CT_METRICS)]


def _entries(name: str, scores: Scores, column: int, suffix: str) -> dict[str, float]:
    """The parts of one metric in one region under their keys."""
    parts = {"": scores.value, "_a": scores.a, "_b": scores.b, "_min": scores.minimum}
    return {
        f"{name}{suffix}{part}": part_scores[0, column].item()
        for part, part_scores in parts.items()
        if part_scores is not None
    }


@torch.no_grad()
def compute_all(
    fused: Tensor,
    image: Tensor,
    data_range: float = 1.0,
    names: Iterable[str] | None = None,
    with_ct: bool = True,
    inside_head: bool = True,
) -> dict[str, float]:
    """Score one fused image with every metric, in the whole frame and inside the head.

    Args:
        fused: (1, *spatial) or (1, 1, *spatial), 2D or 3D.
        image: the two sources, (2, *spatial) or (1, 2, *spatial); channel 0 is the anatomical image (MRI), channel 1
            the other one (CT, or the luma of SPECT or PET).
        data_range: the intensity that counts as 1.
        names: metrics to compute; None for all of `ALL_METRICS`.
        with_ct: whether the second source is a CT; without one the metrics of bone and calcification are left out.
        inside_head: score the region where a source is brighter than 8/255 as well.

    Returns:
        `<name>` as the literature reports it, `<name>_a`, `<name>_b`, `<name>_min` per source and the lower of the two
        where the metric has such parts, and `<name>_head`, `<name>_head_a`, ... inside the head. NaN where undefined.

    Raises:
        ValueError: for an unknown name, more than one pair, or images that disagree in shape or are not finite.

    Example:
        >>> image = torch.rand(2, 32, 32)
        >>> sorted(compute_all(image[:1], image, names=["psnr"], inside_head=False))
        ['psnr', 'psnr_a', 'psnr_b', 'psnr_min']
    """
    if image.shape[0] == 2:
        fused, image = fused.unsqueeze(0), image.unsqueeze(0)
    if image.shape[:2] != (1, 2):
        raise ValueError(f"image must hold the two sources of one pair as (2, *spatial), got {tuple(image.shape)}")
    image_a, image_b = image[:, :1], image[:, 1:]
    frame = torch.ones_like(image_a, dtype=torch.bool)
    head = head_region(image_a, image_b, data_range)
    results = {}
    for name in check_names(names, with_ct):
        two = inside_head and name not in OWN_REGION
        regions = torch.cat([frame, head], dim=1) if two else frame
        scores = ALL_METRICS[name](fused, image_a, image_b, data_range=data_range, regions=regions)
        results.update(_entries(name, scores, 0, ""))
        if two:
            results.update(_entries(name, scores, 1, "_head"))
    return results


def is_better(name: str, score: float, other: float) -> bool:
    """Tell whether one score of a metric beats another; never for NaN or a metric without a direction.

    Args:
        name: a key of `compute_all`.
        score: the score that might be better.
        other: the score to beat.

    Returns:
        True if `score` is the better one.

    Example:
        >>> is_better("n_abf_head", 0.01, 0.02), is_better("ssim", 0.7, 0.8)
        (True, False)
    """
    base = max((known for known in ALL_METRICS if name == known or name.startswith(f"{known}_")), key=len)
    if base in WITHOUT_DIRECTION or math.isnan(score) or math.isnan(other):
        return False
    return score < other if base in LOWER_IS_BETTER else score > other
