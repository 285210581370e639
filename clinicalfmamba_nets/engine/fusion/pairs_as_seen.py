"""Pairs as the shares of their sources are best decided by: a CT without its noise, and with white bone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from clinicalfmamba_nets.engine.fusion.ct_noise import CTNoise
from clinicalfmamba_nets.engine.fusion.refinement import Seen
from clinicalfmamba_nets.engine.fusion.shares import mixed_by_shares
from clinicalfmamba_nets.engine.fusion.white_bone import WhiteBone


@dataclass(frozen=True)
class SeenPairs:
    """How a network and the refinement see pairs that the result mixes as they are.

    Args:
        noise: that of the CTs; None for none.
        bone: where that of the CTs is not white; None where it is.
    """

    noise: CTNoise | None = None
    bone: WhiteBone | None = None

    @classmethod
    def of(cls, image: Tensor, slices: Tensor) -> SeenPairs:
        """Tell of pairs with their meta, (B, 2, *spatial), and the same slice by slice, (B, 2, S, H, W)."""
        return cls(CTNoise.of(image, slices), WhiteBone.of(image))

    @property
    def unchanged(self) -> bool:
        """Whether pairs are seen as they are."""
        return self == SeenPairs()

    def mixed_by(self, network: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return what mixes pairs as they are by the shares that a network gives to them as they are seen."""
        return network if self.unchanged else mixed_by_shares(network, self)

    def __call__(self, image: Tensor) -> Tensor:
        """Return pairs (B, 2, H, W) without noise and with white bone."""
        return self.by_refinement(image).white

    def by_slices(self, slices: Tensor) -> Tensor:
        """Return the slices of volumes, (B, 2, S, H, W), without noise and with white bone."""
        return torch.stack([self(slices[:, :, number]) for number in range(slices.shape[2])], 2)

    def by_refinement(self, image: Tensor) -> Seen:
        """Return what the refinement is to know of pairs (B, 2, H, W)."""
        quiet, noise = self.noise(image) if self.noise is not None else (image, torch.zeros_like(image))
        return Seen(quiet, self.bone(quiet) if self.bone is not None else quiet, noise)
