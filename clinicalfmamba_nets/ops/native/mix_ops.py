"""Refined shares of two sources: the kernel behind `engine.Refinement`, and the slopes that it descends."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.native import abi

_WEIGHTS = ("rate", "overshoot", "texture", "information", "structure", "correlation", "brightness", "lesions")


def _check(pair: Tensor, **shares: Tensor) -> None:
    if pair.dim() != 4 or pair.shape[1] != 2:
        raise ValueError(f"refined_shares: pair: expected (B, 2, H, W), found {tuple(pair.shape)}")
    shape = (len(pair), 1, *pair.shape[2:])
    for name, x in shares.items():
        if x.shape != shape:
            raise ValueError(f"refined_shares: {name}: expected {shape}, found {tuple(x.shape)}")


def _dense(x: Tensor) -> Tensor:
    return x.float().resolve_neg().contiguous()


def _fields(pair: Tensor, share: Tensor, steps: int, weights: Mapping[str, float]) -> list[int]:
    numbers = struct.unpack(f"{len(_WEIGHTS)}q", struct.pack(f"{len(_WEIGHTS)}d", *(weights[w] for w in _WEIGHTS)))
    batch, _, rows, columns = pair.shape
    return [batch, rows, columns, steps, abi.threads(), *numbers, abi.address(pair), abi.address(share)]


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
        pair: sources, (B, 2, H, W) float32 in [0, 1] on the CPU; sides are multiples of 8 of at least 16.
        share: of the first source, (B, 1, H, W).
        least, most: bounds of the shares, (B, 1, H, W).
        steps: how many.
        weights: `rate` and the weights of the terms, by the names of `engine.Refinement`.
        squares: weights of the mean squares of the shares of both sources, (B, 2, H, W); None for 0.

    Returns:
        (B, 1, H, W).

    Raises:
        RuntimeError: the kernels are not there, or the sides are others.
        ValueError: a tensor of another shape, or on another device.
    """
    _check(pair, share=share, least=least, most=most)
    if squares is not None and squares.shape != pair.shape:
        raise ValueError(f"refined_shares: squares: expected {tuple(pair.shape)}, found {tuple(squares.shape)}")
    pair, share, least, most = (_dense(t) for t in (pair, share.clone(), least, most))
    squares = None if squares is None else _dense(squares)
    maps = [abi.address(least), abi.address(most), 0 if squares is None else abi.address(squares)]
    abi.call("cfm_mix_refine", [*_fields(pair, share, steps, weights), *maps])
    return share


def loss_slopes(pair: Tensor, share: Tensor, weights: Mapping[str, float]) -> Tensor:
    """The slopes of the loss by the pixels of the mix, (B, 1, H, W); arguments as of `refined_shares`."""
    _check(pair, share=share)
    pair, share = _dense(pair), _dense(share)
    slope = torch.empty_like(share)
    abi.call("cfm_mix_slope", [*_fields(pair, share, 0, weights), 0, 0, 0, abi.address(slope)])
    return slope
