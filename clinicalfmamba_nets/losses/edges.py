"""Edges as loss terms: a smooth Qabf, and gradients of the fused image that exceed both sources'."""

from __future__ import annotations

from torch import Tensor

from clinicalfmamba_nets.functional.gradients import sobel_gradients

# Sobel derivatives of this size, of images in [0, 1], count as no edge: one of 255 levels over a step.
FLAT = 4 / 255


def _strength(gradients: Tensor) -> Tensor:
    """Length of gradients (B, C, dims, *S) with a root that can be differentiated at 0, (B, C, *S)."""
    return (gradients.square().sum(2) + FLAT**2 / 4).sqrt()


def edge_preservation(fused: Tensor, image: Tensor) -> Tensor:
    """Share of both sources' edges that the fused image keeps in strength and direction: a smooth form of Qabf.

    Strength counts by a sigmoid of the ratio of the weaker to the stronger gradient, direction by a sigmoid of the
    cosine between them, each pixel weighted by its source's gradient. Against Qabf the constants are softer (10 for 15
    and 25 for 45 at the same half points of 0.5 and 18 degrees), direction is signed, and no arc cosine is taken, whose
    slope is infinite where the directions agree.

    Source: after Xydeas and Petrovic, "Objective image fusion performance measure", Electronics Letters 2000.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        A scalar in (0, 1).

    Example:
        >>> import torch
        >>> image = torch.rand(1, 1, 16, 16)
        >>> float(edge_preservation(image, image.expand(1, 2, 16, 16))) > 0.75
        True
    """
    of_fused, of_image = sobel_gradients(fused, "replicate"), sobel_gradients(image, "replicate")
    strong, sources = _strength(of_fused), _strength(of_image)  # (B, 1, *S), (B, 2, *S)
    ratio = strong.minimum(sources) / strong.maximum(sources)
    cosine = (of_fused * of_image).sum(2) / (strong * sources)
    kept = (10 * (ratio - 0.5)).sigmoid() * (25 * (cosine - 0.951)).sigmoid()
    weight = of_image.square().sum(2).sqrt().clamp_min(0).detach()
    return (kept * weight).sum() / weight.sum().clamp_min(1e-6)


def edge_overshoot(fused: Tensor, image: Tensor) -> Tensor:
    """Gradient of the fused image beyond the stronger source's, as a share of the stronger source's gradient.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        A scalar of at least 0; 0 for a copy of a source.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 2, 16, 16)
        >>> float(edge_overshoot(image[:, :1], image))
        0.0
    """
    strong = _strength(sobel_gradients(fused, "replicate"))
    strongest = _strength(sobel_gradients(image, "replicate")).amax(1, keepdim=True)
    return (strong - strongest).relu().sum() / strongest.sum()
