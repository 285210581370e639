"""How volumes go into a network for volumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch import Tensor

from clinicalfmamba_nets.engine.fusion.boxes import Background, box_around, head_mask, inside
from clinicalfmamba_nets.engine.fusion.finishing import Finish
from clinicalfmamba_nets.engine.fusion.inferers import WholeImageInferer, with_metadata
from clinicalfmamba_nets.engine.fusion.orientation import Turn, UprightSlices
from clinicalfmamba_nets.engine.fusion.pairs_as_seen import SeenPairs
from clinicalfmamba_nets.engine.fusion.refinement import Refinement
from clinicalfmamba_nets.engine.fusion.shares import Shares, mixes
from clinicalfmamba_nets.engine.run.progress_bar import fusing_bar
from clinicalfmamba_nets.errors import input_error


def over_both_sides(network: Callable[..., Tensor], axis: int) -> Callable[..., Tensor]:
    """Return the network averaged over an image and its mirror image along an axis.

    Args:
        network: of an image (B, 2, *spatial) to (B, 1 or 2, *spatial).
        axis: of the image, from left to right.

    Example:
        >>> symmetric = over_both_sides(lambda x: x[:, :1] * torch.arange(3.0), 3)
        >>> symmetric(torch.ones(1, 2, 1, 3)).flatten().tolist()
        [1.0, 1.0, 1.0]
    """

    def averaged(image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        mirrored = network(image.flip(axis), *args, **kwargs).flip(axis)
        return (network(image, *args, **kwargs) + mirrored) / 2

    return averaged


class VolumeInferer(WholeImageInferer):
    """Run the network on a volume: on the whole of it, or window by window with Gaussian blending.

    Only the box around the head is computed (`boxes.head_mask`); the air outside it is the mix of the sources that the
    network makes of the air inside, black where both are. Windows are made no larger than their even spread over that
    box needs. A volume with an affine is turned to right, anterior, superior for the network and back, so that the
    result does not depend on the order in which the voxels are stored. Then the shares of a network that mixes the
    sources are refined in the slices that radiologists look at (`UprightSlices`), each by itself, and each region where
    both sources are even gets one share of them (`level_weights_`).

    Args:
        mode: "window", or "whole" where the memory allows it.
        roi_size: the largest window; a volume that fits into it is computed as a whole.
        overlap: share of a window that neighboring windows have in common, in [0, 1).
        amp: as in `WholeImageInferer`.
        margin: voxels around the box that are computed as well.
        mirror: average the volume over its mirror image, left and right exchanged; twice the time. Then a mirrored
            volume gives the mirrored result.
        refinement: how the shares are refined; None for those of the network.

    Raises:
        FusionInputError: another mode, or an overlap outside [0, 1).

    Example:
        >>> inferer = VolumeInferer(roi_size=(16, 16, 16))
        >>> inferer(torch.ones(1, 2, 24, 16, 20), lambda x: x.mean(1, keepdim=True)).shape
        torch.Size([1, 1, 24, 16, 20])
    """

    def __init__(
        self,
        mode: str = "window",
        roi_size: Sequence[int] = (128, 128, 128),
        overlap: float = 0.5,
        amp: bool = False,
        margin: int = 8,
        mirror: bool = False,
        refinement: Refinement | None = None,
    ) -> None:
        super().__init__(amp)
        if mode not in ("window", "whole"):
            raise input_error("mode", "window or whole", repr(mode), "choose one of these")
        if not 0 <= overlap < 1:
            raise input_error("overlap", "a share from 0 to below 1", str(overlap), "give one such as 0.25")
        self.mode, self.roi_size, self.overlap, self.margin = mode, tuple(roi_size), overlap, margin
        self.mirror, self.refinement = mirror, refinement

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the fused volumes, (B, 1 or 2, *spatial) float32, for inputs (B, 2, *spatial) of one orientation."""
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        slices, mixing = UprightSlices.of(inputs), mixes(network)
        seen = SeenPairs.of(inputs, slices.turn(plain)) if mixing else SeenPairs()

        def whole(image: Tensor, network: Callable[..., Tensor]) -> Tensor:
            return super(VolumeInferer, self).__call__(image, self._run(network), *args, **kwargs).to(plain.device)

        def drawn(pair: Tensor, shown: Tensor) -> Tensor:
            if seen.unchanged:
                return whole(pair, network)
            shares = Shares(network)
            return shares.mixed(pair, whole(shown, shares))

        fused = self._in_box(plain, slices, seen, Turn.to_patient(inputs), drawn)
        return with_metadata(self._finished(fused, plain, slices, seen, mixing), inputs)

    def _in_box(
        self,
        plain: Tensor,
        slices: UprightSlices,
        seen: SeenPairs,
        to_patient: Turn,
        drawn: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Fuse the box of volumes (B, 2, X, Y, Z) around the head, and fill the air outside it."""
        image = to_patient(plain)
        mask = head_mask(image.movedim(4, 2)).movedim(0, 2)
        box = box_around(mask, [self.margin] * 3)
        pair = shown = inside(image, box).contiguous()
        if not seen.unchanged:
            shown = inside(to_patient(slices.turn.back(seen.by_slices(slices.turn(plain)))), box).contiguous()
        part = drawn(pair, shown)
        background = Background()
        background.add(part, pair, ~mask[box].to(plain.device))
        fused = plain.new_zeros([plain.shape[0], part.shape[1], *image.shape[2:]], dtype=torch.float32)
        inside(fused, box).copy_(part)
        background.fill(fused, image, box)
        return to_patient.back(fused)

    def _finished(self, fused: Tensor, plain: Tensor, slices: UprightSlices, seen: SeenPairs, mixing: bool) -> Tensor:
        """Refine and level results (B, 1 or 2, X, Y, Z) of pairs (B, 2, X, Y, Z)."""
        upright, result = slices.turn(plain), slices.turn(fused).cpu()
        masks = head_mask(upright)
        shown = [number for number, mask in enumerate(masks) if mask.any()] or list(range(len(masks)))
        boxes = {number: box_around(masks[number], (self.margin, self.margin)) for number in shown}
        finish = Finish(smooth=False, refinement=self.refinement if mixing else None)
        finish(result, upright, boxes, seen, slices.spacing)
        return slices.turn.back(result).to(plain.device)

    def _run(self, network: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return what runs a network on a volume (B, 2, X, Y, Z) whose first axis runs from left to right."""
        run = network if self.mode == "whole" else partial(self._windows, network)
        return over_both_sides(run, 2) if self.mirror else run

    def _windows(self, network: Callable[..., Tensor], image: Tensor) -> Tensor:
        """Fuse (B, 2, *spatial) window by window; the progress goes to stderr."""
        sizes = tuple(image.shape[2:])
        window = [_even_window(size, most, self.overlap) for size, most in zip(sizes, self.roi_size, strict=True)]
        if all(side >= size for side, size in zip(window, sizes, strict=True)):
            return network(image)
        steps = [max(1, int(side * (1 - self.overlap))) for side in window]
        counts = [math.ceil((size - side) / step) + 1 for size, side, step in zip(sizes, window, steps, strict=True)]
        with fusing_bar(math.prod(counts) * len(image), "window", slow=4) as bar:

            def counted(part: Tensor) -> Tensor:
                result = network(part)
                bar.update()
                return result

            fused = sliding_window_inference(image, window, 1, counted, self.overlap, mode="gaussian")
        assert isinstance(fused, Tensor)
        return fused


def _even_window(size: int, most: int, overlap: float) -> int:
    """Return the least window, a multiple of 8, of which a side needs no more than of windows of the size `most`."""
    if size <= most:
        return size
    count = math.ceil((size - most * overlap) / (most * (1 - overlap)))
    return min(most, math.ceil(size / (count - (count - 1) * overlap) / 8) * 8)
