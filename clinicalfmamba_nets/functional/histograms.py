"""Histograms of intensities in [0, 1], their entropy and the mutual information of two images."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256


def to_levels(values: Tensor, levels: int = LEVELS) -> Tensor:
    """Round intensities in [0, 1] to the nearest of equally spaced levels.

    Args:
        values: any shape, floating point; values outside [0, 1] are clipped.
        levels: number of levels, at least 2.

    Returns:
        The same shape, int64 in 0..levels - 1.

    Raises:
        ValueError: for fewer than 2 levels.

    Example:
        >>> to_levels(torch.tensor([-1.0, 0.0, 0.5, 1.0]))
        tensor([  0,   0, 128, 255])
    """
    if levels < 2:
        raise ValueError(f"a histogram needs at least 2 levels, got {levels}")
    return (values.clamp(0, 1) * (levels - 1)).round().long()


def histogram(values: Tensor, levels: int = LEVELS) -> Tensor:
    """Count how often each level occurs.

    Args:
        values: any shape, floating point in [0, 1].
        levels: number of levels.

    Returns:
        (levels,) float64 counts.

    Example:
        >>> histogram(torch.tensor([0.0, 1.0, 1.0]), levels=2)
        tensor([1., 2.], dtype=torch.float64)
    """
    return torch.bincount(to_levels(values, levels).flatten(), minlength=levels).double()


def joint_histogram(values_a: Tensor, values_b: Tensor, levels: int = LEVELS) -> Tensor:
    """Count how often each pair of levels occurs at one pixel.

    Args:
        values_a: any shape, floating point in [0, 1].
        values_b: the same shape.
        levels: number of levels of each image.

    Returns:
        (levels, levels) float64 counts; the first axis is image a.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> joint_histogram(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]), levels=2)
        tensor([[0., 1.],
                [0., 1.]], dtype=torch.float64)
    """
    if values_a.shape != values_b.shape:
        raise ValueError(f"the two images must agree in shape, got {tuple(values_a.shape)} and {tuple(values_b.shape)}")
    codes = to_levels(values_a, levels) * levels + to_levels(values_b, levels)
    return torch.bincount(codes.flatten(), minlength=levels * levels).double().view(levels, levels)


def entropy(counts: Tensor) -> Tensor:
    """Compute the Shannon entropy of a histogram.

    Source: C. E. Shannon, "A mathematical theory of communication", 1948.

    Args:
        counts: any shape, non-negative, one cell per symbol.

    Returns:
        Scalar in bits, at most log2 of the number of cells; 0 for an empty histogram.

    Example:
        >>> entropy(torch.tensor([2.0, 2.0, 0.0]))
        tensor(1.)
    """
    probability = counts / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)
    return -torch.special.xlogy(probability, probability).sum() / torch.log(probability.new_tensor(2.0))


def mutual_information(values_a: Tensor, values_b: Tensor, levels: int = LEVELS) -> Tensor:
    """Compute the mutual information of the intensities of two images, H(a) + H(b) - H(a, b).

    Args:
        values_a: any shape, floating point in [0, 1].
        values_b: the same shape.
        levels: number of levels of each image.

    Returns:
        Scalar in bits, float64, at least 0.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> image = torch.tensor([0.0, 0.0, 1.0, 1.0])
        >>> round(mutual_information(image, 1 - image).item(), 6)
        1.0
    """
    joint = joint_histogram(values_a, values_b, levels)
    information = entropy(joint.sum(dim=1)) + entropy(joint.sum(dim=0)) - entropy(joint)
    return information.clamp(min=0)
