"""Edges that a fused image keeps (Qabf), loses (L_abf) and invents (N_abf)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..functional.gradients import sobel_gradients
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, prepare, region_sum, slice_wise


class _Edges(NamedTuple):
    """Gradient magnitude and orientation in (-pi / 2, pi / 2], each (B, 1, H, W)."""

    strength: Tensor
    angle: Tensor


class _Preservation(NamedTuple):
    """Kept edges and weights of each source, where the fused image has the strongest edge, and the regions."""

    kept_a: Tensor
    kept_b: Tensor
    weight_a: Tensor
    weight_b: Tensor
    stronger: Tensor
    regions: Tensor


def _edges(image: Tensor) -> _Edges:
    levels = (image * 255).round()  # whole numbers, so that a gradient of zero is exactly zero
    vertical, horizontal = sobel_gradients(levels, "zeros").unbind(dim=2)  # (B, 1, H, W) each
    quotient = vertical / torch.where(horizontal == 0, torch.ones_like(horizontal), horizontal)
    angle = torch.where(horizontal == 0, torch.full_like(quotient, math.pi / 2), quotient.atan())
    return _Edges(torch.hypot(vertical, horizontal), angle)


def _kept(source: _Edges, fused: _Edges) -> Tensor:
    """Preservation of strength times preservation of orientation, (B, 1, H, W), with the authors' constants."""
    weaker = torch.minimum(source.strength, fused.strength)
    stronger = torch.maximum(source.strength, fused.strength)
    ratio = torch.where(stronger > 0, weaker / stronger.clamp(min=1e-12), torch.ones_like(stronger))
    alignment = 1 - (source.angle - fused.angle).abs() / (math.pi / 2)
    return 0.9994 * torch.sigmoid(15 * (ratio - 0.5)) * 0.9879 * torch.sigmoid(22 * (alignment - 0.8))


def _preservation(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None, regions: Tensor | None
) -> _Preservation:
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    edges, edges_a, edges_b = (_edges(image) for image in inputs[:3])
    stronger = (edges.strength > edges_a.strength) & (edges.strength > edges_b.strength)
    return _Preservation(
        _kept(edges_a, edges), _kept(edges_b, edges), edges_a.strength, edges_b.strength, stronger, inputs.regions
    )


def _lost_share(parts: _Preservation, where: Tensor) -> Tensor:
    """Weighted share of the source edges that are not kept, over the pixels of a map, (B, R)."""
    lost = (1 - parts.kept_a) * parts.weight_a + (1 - parts.kept_b) * parts.weight_b
    return region_sum(lost * where, parts.regions) / region_sum(parts.weight_a + parts.weight_b, parts.regions)


@scored
@slice_wise
def compute_qabf(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the share of the sources' edges that the fused image keeps in strength and orientation.

    Sobel gradients with zeros beyond the border, constants 0.9994, -15, 0.5 (strength) and 0.9879, -22, 0.8
    (orientation), each pixel weighted by its source gradient.

    Source: Xydeas and Petrovic, "Objective image fusion performance measure", Electronics Letters 2000.

    Args:
        fused: (B, 1, H, W); a volume (B, 1, H, W, D) is scored slice by slice.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [0, 1), each (B, R), about 0.975 for identical images; `a` and `b` are the shares of each source's own
        edges. NaN for sources without an edge.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> round(compute_qabf(image, image, image).value.item(), 2)
        0.97
    """
    parts = _preservation(fused, image_a, image_b, data_range, regions)
    kept_a = region_sum(parts.kept_a * parts.weight_a, parts.regions)
    kept_b = region_sum(parts.kept_b * parts.weight_b, parts.regions)
    total_a, total_b = region_sum(parts.weight_a, parts.regions), region_sum(parts.weight_b, parts.regions)
    return Scores((kept_a + kept_b) / (total_a + total_b), kept_a / total_a, kept_b / total_b)


@scored
@slice_wise
def compute_l_abf(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the share of the sources' edges that is lost: weaker in the fused image than in a source.

    Source: Petrovic and Xydeas, "Objective image fusion performance characterisation", ICCV 2005. With the edge measure
    and weights of `compute_qabf`, so that Qabf + L_abf + N_abf = 1.

    Args:
        fused: (B, 1, H, W); a volume (B, 1, H, W, D) is scored slice by slice.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [0, 1], (B, R), lower is better, without a part per source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> round(compute_l_abf(image * 0, image, image).value.item(), 2)
        1.0
    """
    parts = _preservation(fused, image_a, image_b, data_range, regions)
    return Scores(_lost_share(parts, ~parts.stronger))


@scored
@slice_wise
def compute_n_abf(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the share of fusion artefacts: edges stronger in the fused image than in both sources, and not theirs.

    Weighted by the sources' gradients like Qabf, so an edge invented where both sources are flat weighs nothing: see
    `compute_extrema` for those. Source: Petrovic and Xydeas, ICCV 2005, in the form that completes
    Qabf + L_abf + N_abf = 1 (B. K. Shreyamsha Kumar, "Multifocus and multispectral image fusion based on pixel
    significance using discrete cosine harmonic wavelet transform", SIViP 2013).

    Args:
        fused: (B, 1, H, W); a volume (B, 1, H, W, D) is scored slice by slice.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [0, 1], (B, R), lower is better, without a part per source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> image = torch.rand(1, 1, 16, 16) / 2
        >>> round(compute_n_abf(image, image, image).value.item(), 2)
        0.0
    """
    parts = _preservation(fused, image_a, image_b, data_range, regions)
    return Scores(_lost_share(parts, parts.stronger))


class QabfMetric(FusionMetric):
    """Cumulates `compute_qabf` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_qabf)


class LostEdgesMetric(FusionMetric):
    """Cumulates `compute_l_abf` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_l_abf)


class FusionArtefactsMetric(FusionMetric):
    """Cumulates `compute_n_abf` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_n_abf)
