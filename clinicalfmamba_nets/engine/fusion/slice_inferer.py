"""How single images, and volumes slice by slice, go into a network for images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from clinicalfmamba_nets.engine.fusion.boxes import GRID, Background, Box, box_around, head_mask, inside
from clinicalfmamba_nets.engine.fusion.even_weights import level_weights_
from clinicalfmamba_nets.engine.fusion.finishing import Finish
from clinicalfmamba_nets.engine.fusion.inferers import WholeImageInferer, with_metadata
from clinicalfmamba_nets.engine.fusion.orientation import UprightSlices
from clinicalfmamba_nets.engine.fusion.pairs_as_seen import SeenPairs
from clinicalfmamba_nets.engine.fusion.refinement import Refinement
from clinicalfmamba_nets.engine.fusion.shares import mixes
from clinicalfmamba_nets.engine.run.progress_bar import fusing_bar


class SliceInferer(WholeImageInferer):
    """Run a network for single images on a single image as a whole, or on a volume slice by slice.

    The slices are those that radiologists look at (`UprightSlices`), so that the result does not depend on the order in
    which the voxels are stored. Of each slice the box around the head is computed (`boxes.head_mask`);
    the air outside it is the mix of the sources that the network makes of the air inside, black where both are. Then
    the shares of the sources are smoothed over neighboring slices (`smooth_weights_`), and, of a network that mixes the
    sources, refined in each box (`Refinement`). Each region where both sources are even gets one share
    (`level_weights_`). Single images are refined and levelled too.

    Args:
        amp: as in `WholeImageInferer`.
        mirror: average each slice of a volume over its mirror image, left and right exchanged; twice the time. Then a
            mirrored volume gives the mirrored result.
        margin: pixels around the box that are computed as well.
        smooth: whether the shares of the sources are smoothed and levelled.
        refinement: how the shares are refined; None for those of the network.

    Example:
        >>> SliceInferer()(torch.ones(1, 2, 8, 8, 3), lambda x: x.mean(1, keepdim=True)).shape
        torch.Size([1, 1, 8, 8, 3])
    """

    def __init__(
        self,
        amp: bool = False,
        mirror: bool = False,
        margin: int = GRID,
        smooth: bool = True,
        refinement: Refinement | None = None,
    ) -> None:
        super().__init__(amp)
        self.mirror, self.margin, self.smooth, self.refinement = mirror, margin, smooth, refinement

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the fused images, (B, 1 or 2, *spatial) in float32, for inputs (B, 2, *spatial) of one orientation."""
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        mixing = mixes(network)
        refine = self.refinement if mixing else None
        whole = super().__call__
        if inputs.dim() == 4:
            seen = SeenPairs.of(inputs, plain.unsqueeze(2)) if mixing else SeenPairs()
            fused = whole(plain, seen.mixed_by(network), *args, **kwargs).detach().clone()
            if refine is not None:
                box = box_around(head_mask(plain), (self.margin, self.margin), GRID)
                pair = inside(plain, box)
                inside(fused, box).copy_(refine(inside(fused, box), pair, seen.by_refinement(pair)))
            if self.smooth:
                level_weights_(fused.unsqueeze(2), plain.unsqueeze(2))
            return with_metadata(fused, inputs)
        slices = UprightSlices.of(inputs)
        upright = slices.turn(plain)
        seen = SeenPairs.of(inputs, upright) if mixing else SeenPairs()
        network = seen.mixed_by(network)

        def run(image: Tensor) -> Tensor:
            return whole(image, network, *args, **kwargs)

        mirror = self.mirror and not slices.sagittal  # of the mirrored head sagittal slices are the same ones, reversed
        fused, boxes = self._by_slices(upright, run, mirror)
        smooth = self.smooth and len(boxes) > 1
        Finish(smooth, refine, smooth)(fused, upright, boxes, seen, slices.spacing)
        return with_metadata(slices.turn.back(fused).to(plain.device), inputs)

    def _by_slices(self, image: Tensor, run: Callable[[Tensor], Tensor], mirror: bool) -> tuple[Tensor, dict[int, Box]]:
        """Fuse (B, 2, slices, rows, columns); return the result, on the CPU, and the boxes that were computed."""
        masks = [head_mask(image[:, :, number]) for number in range(image.shape[2])]
        shown = [number for number, mask in enumerate(masks) if mask.any()] or list(range(len(masks)))
        fused, background = torch.empty(0), Background()
        boxes: dict[int, Box] = {}
        with fusing_bar(len(shown), "slice", slow=50) as bar:
            for number in shown:
                pair, mask = image[:, :, number], masks[number]
                part, box = self._in_box(pair, mask, run)
                if mirror:
                    mirrored, its_box = self._in_box(pair.flip(3), mask.flip(1), run)
                    part, box = _mean_of_both_sides(part, box, mirrored.flip(3), its_box, pair.shape[3])
                if not len(fused):
                    fused = torch.zeros([len(part), part.shape[1], *image.shape[2:]], dtype=torch.float32)
                background.add(part, inside(pair, box).cpu(), ~mask[box])
                inside(fused[:, :, number], box).copy_(part)
                boxes[number] = box
                bar.update()
        for number in range(image.shape[2]):
            background.fill(fused[:, :, number], image[:, :, number].cpu(), boxes.get(number))
        return fused, boxes

    def _in_box(self, image: Tensor, mask: Tensor, run: Callable[[Tensor], Tensor]) -> tuple[Tensor, Box]:
        """Fuse the box of a slice (B, 2, rows, columns); return the result, on the CPU, and the box."""
        box = box_around(mask, (self.margin, self.margin), GRID)
        return run(inside(image, box).contiguous()).cpu(), box


def _mean_of_both_sides(part: Tensor, box: Box, mirrored: Tensor, its_box: Box, size: int) -> tuple[Tensor, Box]:
    """Average a result and the mirror image's, turned back, over the columns of `size` that both boxes hold."""
    rows, columns = box
    turned = slice(size - its_box[1].stop, size - its_box[1].start)
    first, last = max(columns.start, turned.start), min(columns.stop, turned.stop)
    parts = (x[..., first - place.start : last - place.start] for x, place in ((part, columns), (mirrored, turned)))
    return torch.stack([*parts]).mean(0), (rows, slice(first, last))
