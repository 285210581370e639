"""Fused volumes whose voxels differ from their neighbors by no more than the sources account for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TIMES, FREE = 2.0, 0.03  # steps of the sources, and share of the range, that a step of the result may have
ROUNDS, PULL = 8, 1 / 3  # of what is too much for it each neighbor takes a third: a stripe is gone at once
_LEAST, _APART = 1e-3, 1e-3  # what is too much by less stays; sources closer to each other have no shares


def settle_steps_(fused: Tensor, image: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Lessen the steps of a fused volume from voxel to voxel that neither source has, in place.

    Where shares were decided slice by slice, or pixel by pixel, the result may go from one source to the other at a
    place that neither marks: a border, or the stripe of a single slice, in a plane across the slices. Neighbors, along
    all three axes, are pulled towards each other until they differ by no more than twice the greater step of the
    sources and 3 % of the range. Every result of a mix stays a mix. With rows or columns exchanged the result is
    mirrored to the bit. Source: ours.

    Args:
        fused: results F, (B, 1 or 2, S, H, W) float32, the shares of the first source second where they are there;
            changed.
        image: pairs, (B, 2, S, H, W) in [0, 1].
        rounds: how often all voxels are pulled at most.

    Returns:
        `fused`.

    Example:
        >>> image = torch.stack([torch.full((8, 9, 9), 0.6), torch.full((8, 9, 9), 0.2)])[None]
        >>> fused = torch.where(torch.arange(8).view(8, 1, 1) < 4, image[:, :1], image[:, 1:])  # 0.6 or 0.2
        >>> [round(x, 2) for x in settle_steps_(fused, image)[0, 0, :, 4, 4].tolist()]
        [0.6, 0.56, 0.5, 0.44, 0.36, 0.3, 0.24, 0.2]
    """
    for one, pair in zip(fused, image, strict=True):
        pair = pair.to(fused.dtype).contiguous()
        settled = _settled(one[0].contiguous(), pair, rounds)
        apart = pair[0] - pair[1]
        known = apart.abs() > _APART
        moved = ((settled - one[0]) / apart.where(known, 1.0)).where(known, 0.0)
        one[1:] = (one[1:] + moved).clamp(0, 1)
        one[0] = settled
    return fused


def _settled(result: Tensor, pair: Tensor, rounds: int) -> Tensor:
    """Return results (S, H, W) of a pair (2, S, H, W) after so many rounds."""
    result, free = result.clone(), [_free(pair, axis) for axis in range(3)]
    for _ in range(rounds):
        before, most = torch.zeros_like(result[0]), 0.0
        for k in range(len(result)):
            behind = torch.zeros_like(before)
            if k + 1 < len(result):
                behind = _too_much(result[k + 1] - result[k], free[0][k])
            pull = (behind - before).add_(_pull(result[k], free[1][k], 0)).add_(_pull(result[k], free[2][k], 1))
            most = max(most, float(pull.abs().max()))
            first, second = pair[:, k]
            torch.clamp(result[k].add_(pull, alpha=PULL), first.minimum(second), first.maximum(second), out=result[k])
            before = behind
        if most < _LEAST:
            break
    return result


def _free(pair: Tensor, axis: int) -> Tensor:
    """Return by how much neighbors along an axis of (2, S, H, W) may differ, without the 2."""
    return pair.diff(dim=axis + 1).abs_().amax(0).mul_(TIMES).add_(FREE)


def _too_much(step: Tensor, free: Tensor) -> Tensor:
    """Return by how much a step exceeds what is free, with its sign."""
    return step - step.clamp(min=-free, max=free)


def _pull(result: Tensor, free: Tensor, axis: int) -> Tensor:
    """Return what the neighbors along an axis pull each pixel of (H, W) by."""
    apart = _too_much(result.diff(dim=axis), free)
    return functional.pad(apart, (1, 1) if axis == 1 else (0, 0, 1, 1)).diff(dim=axis)
