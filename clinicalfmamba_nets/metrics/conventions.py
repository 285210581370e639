"""The conventions in which the literature prints its scores: ours, the paper's, and those of CDDFuse's program."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.windows import box_window, local_moments

from .entropy import compute_entropy
from .mi import compute_mi
from .pair import score_pair
from .qabf import compute_qabf
from .remarks import heard
from .scd import compute_scd
from .scores import Scores, prepare
from .spatial_frequency import compute_sf
from .standard_deviation import compute_sd
from .vif import compute_vif

CONVENTIONS = ("ours", "paper", "cddfuse")
PAPER_METRICS = ("psnr", "ssim", "ms_ssim", "fmi", "fsim_published", "entropy_float")
CDDFUSE_COLUMNS = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM")
WINDOW, DATA_RANGE = 7, 2.0  # what scikit-image took for floats of unknown range, here in 0..255


def _similarity(fused: Tensor, source: Tensor) -> Tensor:
    """Mean SSIM over whole 7 x 7 windows of equal weights with the sample covariance, (B, 1), of images in 0..255."""
    local = local_moments(source, fused, box_window(WINDOW, torch.float64))
    sample = WINDOW**2 / (WINDOW**2 - 1)
    first, second = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    means = (2 * local.mean_a * local.mean_b + first) / (local.mean_a.square() + local.mean_b.square() + first)
    spread = sample * (local.variance_a + local.variance_b) + second
    return (means * (2 * sample * local.covariance + second) / spread).flatten(2).mean(dim=2)


def compute_ssim_cddfuse(fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None) -> Scores:
    """Compute SSIM as CDDFuse's evaluation program does: summed over the sources, with a data range of 2 on 0..255.

    `skimage.metrics.structural_similarity` of float images was called without `data_range`, which older releases took
    as 2: the constants that steady the quotient are 16256 times too small, and flat regions count as noise does.

    Source: Zhao et al., "CDDFuse: Correlation-driven dual-branch feature decomposition for multi-modality image
    fusion", CVPR 2023, and its published evaluation; here from its definition.

    Args:
        fused: (B, 1, H, W), each axis at least 7.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.

    Returns:
        Scores, each (B, 1): the value is the sum, 2 for identical images.

    Raises:
        FusionInputError: for volumes, images below 7 pixels, and as every metric.

    Example:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> round(compute_ssim_cddfuse(image, image, image).value.item(), 6)
        2.0
    """
    inputs = prepare(fused, image_a, image_b, data_range)
    if fused.dim() != 4 or min(fused.shape[2:]) < WINDOW:
        remedy = "score slices, or choose another convention"
        raise input_error("cddfuse's SSIM", f"images of at least {WINDOW} pixels", f"{tuple(fused.shape[2:])}", remedy)
    to_a, to_b = (_similarity(inputs.fused * 255, source * 255) for source in (inputs.image_a, inputs.image_b))
    return Scores(to_a + to_b, to_a, to_b)


def _cddfuse(fused: Tensor, image_a: Tensor, image_b: Tensor) -> dict[str, float]:
    computes = {
        "EN": compute_entropy,
        "SD": compute_sd,
        "SF": compute_sf,
        "MI": compute_mi,
        "SCD": compute_scd,
        "VIF": compute_vif,
        "Qabf": compute_qabf,
        "SSIM": compute_ssim_cddfuse,
    }
    scores = {name: compute(fused, image_a, image_b).value.item() for name, compute in computes.items()}
    return scores | {"MI": scores["MI"] * math.log(2)}  # nats, as scikit-learn's mutual_info_score


def score_by_convention(
    convention: str,
    fused: Tensor,
    image_a: Tensor,
    image_b: Tensor,
    names: Iterable[str] | None = None,
    with_ct: bool = True,
) -> tuple[dict[str, float], list[str]]:
    """Score a fused image in one of the conventions of the literature.

    Args:
        convention: "ours" for all metrics in the frame and in the head; "paper" for the columns of ClinicalFMamba's
            tables (means over the sources); "cddfuse" for those of CDDFuse's (sums over the sources, MI in nats).
        fused: (1, *spatial) in [0, 1].
        image_a: first source, the same shape.
        image_b: second source.
        names: metrics of "ours"; None for all.
        with_ct: whether the second source is a CT.

    Returns:
        The scores by name, and remarks, as of `score_pair`.

    Raises:
        FusionInputError: an unknown convention, or as `score_pair`.

    Example:
        >>> image_a, image_b = torch.rand(2, 1, 32, 32)
        >>> list(score_by_convention("cddfuse", image_a / 2 + image_b / 2, image_a, image_b)[0])
        ['EN', 'SD', 'SF', 'MI', 'SCD', 'VIF', 'Qabf', 'SSIM']
    """
    if convention not in CONVENTIONS:
        raise input_error("convention", f"one of {', '.join(CONVENTIONS)}", repr(convention), "choose one of these")
    if convention == "ours":
        return score_pair(fused, image_a, image_b, names=names, with_ct=with_ct)
    if convention == "paper":
        return score_pair(fused, image_a, image_b, names=PAPER_METRICS, with_ct=with_ct, inside_head=False)
    with heard() as told:
        scores = _cddfuse(fused[None], image_a[None], image_b[None])
    return scores, [f"{text}: undefined (NaN): {', '.join(who)}" if who else text for text, who in told.items()]
