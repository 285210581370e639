"""The last steps of a fused volume: its shares smoothed, refined slice by slice, and levelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clinicalfmamba_nets.engine.fusion.boxes import Box, inside
from clinicalfmamba_nets.engine.fusion.even_weights import level_weights_
from clinicalfmamba_nets.engine.fusion.pairs_as_seen import SeenPairs
from clinicalfmamba_nets.engine.fusion.refinement import Refinement
from clinicalfmamba_nets.functional.guided_weights import smooth_weights_
from clinicalfmamba_nets.functional.settled_steps import settle_steps_


@dataclass(frozen=True)
class Finish:
    """What the shares of a volume go through after the network.

    Args:
        smooth: whether they are smoothed over neighboring slices and pixels first (`smooth_weights_`).
        refinement: how they are refined then, each slice by itself, and of a volume the steps between voxels settled
            that neither source has (`settle_steps_`); None for not at all.
        level: whether each region where both sources are even gets one share at the end (`level_weights_`).
    """

    smooth: bool = True
    refinement: Refinement | None = None
    level: bool = True

    def __call__(
        self, fused: Tensor, image: Tensor, boxes: Mapping[int, Box], seen: SeenPairs, spacing: Sequence[float]
    ) -> None:
        """Finish volumes in place.

        Args:
            fused: results, (B, 1 or 2, slices, rows, columns) float32 on the CPU, the shares second; changed.
            image: pairs, (B, 2, slices, rows, columns) in [0, 1].
            boxes: rows and columns of each slice that shows something, by its number in rising order.
            seen: how the pairs are seen where shares are decided.
            spacing: distance of slices, rows and columns in mm.
        """
        place = _around(boxes)
        pair = inside(image, place).cpu()
        if self.smooth:
            smooth_weights_(inside(fused, place), pair, spacing)
        if self.refinement is not None:
            self._refine(self.refinement.of_volumes(), fused, image, boxes, seen)
            if image.shape[2] > 1:
                settle_steps_(inside(fused, place), pair, self.refinement.settling)
        if self.level:
            level_weights_(inside(fused, place), pair)

    @staticmethod
    def _refine(
        refinement: Refinement, fused: Tensor, image: Tensor, boxes: Mapping[int, Box], seen: SeenPairs
    ) -> None:
        """Refine each slice by itself, a few at once on each thread."""
        slices, at_once = list(boxes.items()), 4 * torch.get_num_threads()
        for first in range(0, len(slices), at_once):
            parts = []
            for number, box in slices[first : first + at_once]:
                shown = inside(image[:, :, number], box).cpu()
                parts.append((inside(fused[:, :, number], box), shown, seen.by_refinement(shown)))
            for (part, *_), refined in zip(parts, refinement.of_many(parts), strict=True):
                part.copy_(refined)


def _around(boxes: Mapping[int, Box]) -> Box:
    """Return the box of a volume around those of its slices."""
    rows, columns = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes.values(), strict=True)
    )
    return slice(min(boxes), max(boxes) + 1), rows, columns
