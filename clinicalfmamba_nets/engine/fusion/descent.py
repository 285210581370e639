"""The descent of the shares of two sources on the loss of their mix: by a kernel, or by torch's operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from clinicalfmamba_nets.losses.box_fidelity import BoxFidelity
from clinicalfmamba_nets.losses.correlation import difference_correlation
from clinicalfmamba_nets.losses.edges import SourceEdges, SourceTexture
from clinicalfmamba_nets.losses.lone_structures import LoneStructures
from clinicalfmamba_nets.ops import refined_shares, refines_shares

ENOUGH = 1.4  # sum of the correlations of differences: what is above it counts no more
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8  # decay of the moments and least root of the second, as in the paper of Adam


@dataclass(frozen=True)
class Descent:
    """The steps of one pair.

    Args:
        steps: how many.
        weights: `rate` and the weights of the terms, by the names of `engine.Refinement`.
        pair: (1, 2, H, W), sides multiples of 8.
        share: at the start, (1, 1, H, W).
        least: of each share.
        most: of each share.
        squares: weights of the mean squares of the shares of both sources, as `pair`.
    """

    steps: int
    weights: Mapping[str, float]
    pair: Tensor
    share: Tensor
    least: Tensor
    most: Tensor
    squares: Tensor

    def natively(self) -> Tensor:
        """Return the shares after the steps, by the kernel."""
        return refined_shares(self.pair, self.share, self.least, self.most, self.steps, self.weights, self.squares)

    def by_torch(self) -> Tensor:
        """Return the shares after the steps, by torch's operations and derivatives."""
        share = self.share
        second, apart = self.pair[:, 1:], self.pair[:, :1] - self.pair[:, 1:]
        loss = _Loss(self.weights, self.pair)
        mean, square = torch.zeros_like(share), torch.zeros_like(share)
        for step in range(1, self.steps + 1):
            share.requires_grad_(True)
            shown = (self.squares * torch.cat([share, 1 - share], 1).square()).sum(1).mean()
            (slope,) = torch.autograd.grad(loss(second + share * apart) + shown, share)
            share = share.detach()
            mean = torch.lerp(slope, mean, _FIRST)
            square = torch.lerp(slope.square(), square, _SECOND)
            root = (square / (1 - _SECOND**step)).sqrt() + _TINY
            rate = self.weights["rate"] * (self.steps + 1 - step) / self.steps
            moved = share - rate * mean / (1 - _FIRST**step) / root
            share = torch.minimum(torch.maximum(moved, self.least), self.most)
        return share


def descended(descents: Sequence[Descent]) -> list[Tensor]:
    """Return the shares after the steps of each, on as many threads as torch has."""
    if not all(refines_shares(descent.pair) for descent in descents):
        return [descent.by_torch() for descent in descents]
    threads = min(len(descents), torch.get_num_threads())
    if threads < 2:
        return [descent.natively() for descent in descents]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(Descent.natively, descents))


class _Loss:
    """The weighted terms of a refinement for one pair."""

    def __init__(self, weights: Mapping[str, float], pair: Tensor) -> None:
        self.weights, self.pair, self.brighter = weights, pair, pair.amax(1, keepdim=True)
        self.edges = SourceEdges(pair)
        self.texture = SourceTexture(pair) if weights["texture"] else None
        self.fidelity = BoxFidelity(pair) if weights["information"] or weights["structure"] else None
        self.lone = LoneStructures(pair) if weights["lesions"] else None

    def __call__(self, fused: Tensor) -> Tensor:
        weights, pair = self.weights, self.pair
        kept, overshoot = self.edges(fused)
        terms = [weights["overshoot"] * overshoot - kept, weights["brightness"] * (self.brighter - fused).mean()]
        if weights["correlation"]:
            lack = (ENOUGH - difference_correlation(fused, pair)).relu()
            terms.append(weights["correlation"] / 2 * lack.square().mean())
        if self.fidelity is not None:
            information, structure = self.fidelity(fused)
            terms.append(weights["information"] * information + weights["structure"] * structure)
        if self.texture is not None:
            terms.append(weights["texture"] * self.texture(fused))
        if self.lone is not None:
            terms.append(weights["lesions"] * self.lone(fused))
        return torch.stack(terms).sum()
