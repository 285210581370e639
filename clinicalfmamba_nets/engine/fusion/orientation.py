"""Volumes turned as the networks know them, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from monai.data import MetaTensor
from torch import Tensor

from clinicalfmamba_nets.functional.layout import row_major
from clinicalfmamba_nets.spatial.grids import axis_order

_THIN = 16  # fewer voxels along an axis make no image
_UNLIKE = 1.3  # axes are sampled unlike one another from this ratio of the distances on


@dataclass(frozen=True)
class Turn:
    """How volumes (B, C, X, Y, Z) are turned.

    Args:
        order: of the axes, all five.
        backwards: axes that are flipped then.

    Example:
        >>> turn = Turn((0, 1, 4, 3, 2), (2,))
        >>> volume = Tensor(1, 2, 3, 4, 5).fill_(1)
        >>> volume[0, 0, 0, 0, 0] = 0
        >>> turn(volume).shape, bool((turn.back(turn(volume)) == volume).all())
        (torch.Size([1, 2, 5, 4, 3]), True)
    """

    order: tuple[int, ...]
    backwards: tuple[int, ...]

    @classmethod
    def to_patient(cls, inputs: Tensor) -> Turn:
        """Tell how the axes of a volume come to run to the right, to the front and up, by its affine if it has one."""
        order, backwards = axis_order(_affine(inputs), np.eye(4))
        return cls((0, 1, *(axis + 2 for axis in order)), tuple(axis + 2 for axis in backwards))

    def __call__(self, volumes: Tensor) -> Tensor:
        """Turn volumes, (B, C, X, Y, Z)."""
        return volumes.permute(self.order).flip(self.backwards)

    def back(self, volumes: Tensor) -> Tensor:
        """Turn turned volumes back; the last axis lies innermost in memory."""
        return row_major(volumes.flip(self.backwards).permute([self.order.index(axis) for axis in range(5)]))


@dataclass(frozen=True)
class UprightSlices:
    """The slices of a volume as radiologists look at them: left on the right, anterior or superior at the top.

    Slices are taken across the axis that is sampled unlike the others, as scanners do; where all are sampled alike,
    they are axial; an axis of fewer than 16 voxels is always the one across.

    Args:
        turn: of (B, C, X, Y, Z) to (B, C, slices, rows, columns).
        sagittal: whether the slices are.
        spacing: distance of slices, rows and columns in mm.
    """

    turn: Turn
    sagittal: bool
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, inputs: Tensor) -> UprightSlices:
        """Read from volumes, (B, C, X, Y, Z), with an affine or without one."""
        affine = _affine(inputs)
        order, backwards = axis_order(affine, np.eye(4))
        spacing = np.linalg.norm(affine[:3, :3], axis=0)[order]
        odd = [abs(math.log(spacing[axis] ** 3 / spacing.prod())) / 2 for axis in range(3)]
        across = int(np.argmax(odd)) if max(odd) > math.log(_UNLIKE) else 2
        sizes = [int(inputs.shape[2 + order[axis]]) for axis in range(3)]
        across = int(np.argmin(sizes)) if min(sizes) < _THIN else across  # a single slice, or a slab of a few
        rows, columns = [
            axis for axis in (2, 1, 0) if axis != across
        ]  # down: inferior or posterior; right: left, posterior
        shown = [across, rows, columns]
        flipped = [place + 2 for place, axis in enumerate(shown) if (axis in backwards) != (axis != across)]
        turn = Turn((0, 1, *(order[axis] + 2 for axis in shown)), tuple(flipped))
        return cls(turn, across == 0, tuple(float(spacing[axis]) for axis in shown))


def _affine(inputs: Tensor) -> np.ndarray:
    """Return the affine of a batch of one orientation, the unit matrix where it has none."""
    return inputs.affine.reshape(-1, 4, 4)[0].cpu().numpy() if isinstance(inputs, MetaTensor) else np.eye(4)
