"""Numbers that tell how far a fused image can be trusted: what it keeps of both sources, and what is in neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clinicalfmamba_nets.engine.pictures.preview import Shown
from clinicalfmamba_nets.metrics.extrema import compute_extrema
from clinicalfmamba_nets.metrics.qabf import compute_qabf
from clinicalfmamba_nets.metrics.scores import head_region
from clinicalfmamba_nets.metrics.ssim import compute_ssim

# Slices of a volume that are measured: evenly spread over those that show the head.
MOST_SLICES = 8
_ROUNDING = 1 / 255


def trust_scores(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a fused pair in the head, where both sources are there.

    Args:
        sample: what `FusionPipeline` returns: `image` (2, *spatial) in [0, 1] with its meta, and `pred`.

    Returns:
        `ssim_a` and `ssim_b` (to each source), `qabf`, `extrema_in_neither` (share of the head with a local extremum
        that no source has), `outside_sources` (share outside [min(A, B), max(A, B)] by more than 1/255), `coverage`,
        `mutual_information` of the sources, `slices` that were measured. None where something cannot be measured.
    """
    shown = Shown(sample, ("A", "B"))
    images = [torch.from_numpy(np.ascontiguousarray(image, np.float32)) for image in _planes(shown)]
    fused, first, second = (image[:, None] for image in images[:3])  # (slices, 1, rows, columns)
    head = head_region(first, second) & (images[3][:, None] > 0)
    found: dict[str, Any] = {"ssim_a": None, "ssim_b": None, "qabf": None}
    if bool(head.any()) and min(fused.shape[2:]) >= 11:
        ssim = compute_ssim(fused, first, second, 1.0, head)
        found |= {"ssim_a": _mean(ssim.a, head), "ssim_b": _mean(ssim.b, head)}
        found["qabf"] = _mean(compute_qabf(fused, first, second, 1.0, head).value, head)
    extrema = _mean(compute_extrema(fused, first, second, 1.0, head).value, head)
    low, high = torch.minimum(first, second) - _ROUNDING, torch.maximum(first, second) + _ROUNDING
    outside = ((fused < low) | (fused > high)) & head
    return found | {
        "extrema_in_neither": None if extrema is None else extrema / 100,
        "outside_sources": float(outside.sum() / head.sum()) if bool(head.any()) else None,
        "coverage": float(shown.meta.get("coverage", 1.0)),
        "mutual_information": _number(shown.meta.get("mutual_information")),
        "slices": len(fused),
    }


def scores_text(scores: Mapping[str, Any], labels: tuple[str, str] = ("A", "B")) -> str:
    """Lay out `trust_scores` for a terminal, in one line.

    Example:
        >>> scores_text({"ssim_a": 0.812, "outside_sources": 0.021, "slices": 1})
        'SSIM to A 0.81, outside both 2.1 %, 1 slice'
        >>> scores_text({"ssim_a": -0.002, "slices": 2})  # never -0.00
        'SSIM to A 0.00, 2 slices'
    """
    told = [
        f"{words} {round(scores[key], 2) + 0.0:.2f}"
        for key, words in (
            ("ssim_a", f"SSIM to {labels[0]}"),
            ("ssim_b", f"SSIM to {labels[1]}"),
            ("qabf", "Qabf"),
            ("mutual_information", "mutual information"),
        )
        if scores.get(key) is not None
    ]
    told += [
        f"{words} {round(100 * scores[key], 1) + 0.0:.1f} %"
        for key, words in (
            ("extrema_in_neither", "extrema in neither"),
            ("outside_sources", "outside both"),
            ("coverage", "covered"),
        )
        if scores.get(key) is not None
    ]
    count = scores.get("slices", 1)
    return ", ".join([*told, f"{count} slice{'s' * (count != 1)}"])


def _planes(shown: Shown) -> list[np.ndarray]:
    """Return fused luma, both sources in [0, 1] and where both are, each (slices, rows, columns)."""
    volumes = [*shown.pair, *shown.fused, *([] if shown.covered is None else [shown.covered])]
    volumes = [volume.reshape(*volume.shape, *(1,) * (3 - volume.ndim)) for volume in volumes]
    sums = np.maximum(volumes[0], volumes[1])[::2, ::2].mean(axis=(0, 1))
    places = np.flatnonzero(sums > 0.1 * sums.max()) if sums.max() > 0 else np.array([0])
    if shown.covered is not None:
        there = volumes[-1].any(axis=(0, 1))
        places = places[there[places]] if there[places].any() else places
    places = places[np.unique(np.linspace(0, len(places) - 1, MOST_SLICES).round().astype(int))]
    first, second, *rest = (np.moveaxis(volume[..., places], -1, 0) for volume in volumes)
    covered = rest.pop() if shown.covered is not None else np.ones_like(first)
    fused = [shown.scaled(channel) for channel in rest]
    luma = fused[0] if len(fused) == 1 else 0.299 * fused[0] + 0.587 * fused[1] + 0.114 * fused[2]
    return [luma, first, second, covered.astype(np.float32)]


def _mean(values: Tensor | None, head: Tensor) -> float | None:
    """Return the mean over slices, each counting by its head; None where there is none."""
    if values is None:
        return None
    sizes = head.flatten(1).sum(1).double()
    rows = values[:, 0].double()
    usable = torch.isfinite(rows) & (sizes > 0)
    if not bool(usable.any()):
        return None
    return float((rows[usable] * sizes[usable]).sum() / sizes[usable].sum())


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
