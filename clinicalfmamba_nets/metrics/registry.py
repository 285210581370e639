"""The table of all fusion metrics: their names, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial

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
from .outside import compute_outside
from .plateau import compute_plateau_error
from .psnr import compute_psnr
from .qabf import compute_l_abf, compute_n_abf, compute_qabf
from .scd import compute_scd
from .scores import Scores
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
    "outside": compute_outside,
    "plateau_error": compute_plateau_error,
    "background_mean": compute_background_mean,
    "bone_mean": compute_bone_mean,
    "calcification_contrast": compute_calcification_contrast,
}
CT_METRICS = frozenset({"bone_mean", "calcification_contrast"})
OWN_REGION = CT_METRICS | {"background_mean", "plateau_error"}
LOWER_IS_BETTER = frozenset({"l_abf", "n_abf", "extrema", "outside", "plateau_error", "background_mean"})
PER_SOURCE = frozenset(
    {"psnr", "ssim", "ms_ssim", "fmi", "fmi_pixel", "fmi_gradient", "fsim", "fsim_published"}
    | {"vif", "qabf", "scd", "mi", "cc"}
)
WITHOUT_DIRECTION = frozenset({"entropy", "entropy_float", "sd", "sf", "ag"})


def check_names(names: Iterable[str] | None, with_ct: bool = True) -> list[str]:
    """List the metrics to compute, in the order of the table.

    Args:
        names: names of `ALL_METRICS`; None for all of them.
        with_ct: whether the second source is a CT; without one the metrics of bone and calcification are left out.

    Returns:
        The names.

    Raises:
        FusionInputError: for a name that is not in the table, a text instead of a list, or an empty list.

    Example:
        >>> check_names(["ssim", "psnr"])
        ['psnr', 'ssim']
    """
    if isinstance(names, str):
        remedy = f'write metrics=["{names}"]'
        raise input_error("metrics", "a list of names", f"the text {names!r}", remedy)
    if names is not None and not isinstance(names, Iterable):
        raise input_error("metrics", "a list of names", repr(names), "write them in brackets")
    wanted = list(ALL_METRICS) if names is None else list(names)
    if not wanted:
        raise input_error("metrics", "at least one name", "an empty list", "leave it out to compute all of them")
    unknown = [name for name in wanted if name not in ALL_METRICS]
    if unknown:
        near = get_close_matches(str(unknown[0]), ALL_METRICS, 1)
        remedy = f"did you mean {near[0]}?" if near else "correct the name"
        raise input_error("metrics", f"names among {', '.join(ALL_METRICS)}", repr(unknown[0]), remedy)
    return [name for name in ALL_METRICS if name in wanted and (with_ct or name not in CT_METRICS)]


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
