"""The shares of two sources in a mix, refined by the native kernel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from clinicalfmamba_nets.ops import native
from clinicalfmamba_nets.ops.backends import resolve_backend


def refines_shares(pair: Tensor) -> bool:
    """Tell whether :func:`refined_shares` serves: native kernels, a pair of float32 on the CPU, no torch backend asked.

    Args:
        pair: sources, (B, 2, H, W).

    Example:
        >>> refines_shares(torch.rand(1, 2, 16, 16, dtype=torch.float64))
        False
    """
    return pair.dtype == torch.float32 and pair.device.type == "cpu" and resolve_backend(pair, 8) == "native"


def refined_shares(
    pair: Tensor,
    share: Tensor,
    least: Tensor,
    most: Tensor,
    steps: int,
    weights: Mapping[str, float],
    squares: Tensor | None = None,
) -> Tensor:
    """Move shares by steps of Adam on a loss of the mix, as `engine.Refinement` tells, in one call for all of them.

    Args:
        pair: sources, (B, 2, H, W) in [0, 1]; sides are multiples of 8, at least 16.
        share: of the first source, (B, 1, H, W).
        least: lower bounds of the shares, (B, 1, H, W).
        most: upper bounds of the shares, (B, 1, H, W).
        steps: how many.
        weights: ``rate`` and the weights of the terms, by the names of `engine.Refinement`.
        squares: weights of the mean squares of the shares of both sources, (B, 2, H, W); None for 0.

    Returns:
        (B, 1, H, W).

    Raises:
        RuntimeError: the kernels are not there, or the sides are others.
        ValueError: a tensor of another shape, or on another device.
    """
    return native.refined_shares(pair, share, least, most, steps, weights, squares)
