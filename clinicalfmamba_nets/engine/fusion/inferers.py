"""How a batch goes into the network: as a whole, slice by slice, or window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, sliding_window_inference
from torch import Tensor

from clinicalfmamba_nets.engine.fusion.boxes import GRID, Background, Box, box_around, head_mask, inside
from clinicalfmamba_nets.engine.fusion.even_weights import level_weights_
from clinicalfmamba_nets.engine.fusion.pairs_as_seen import SeenPairs
from clinicalfmamba_nets.engine.fusion.refinement import Refinement
from clinicalfmamba_nets.engine.fusion.shares import mixed_by_shares, mixes
from clinicalfmamba_nets.engine.fusion.white_bone import WhiteBone
from clinicalfmamba_nets.engine.run.progress_bar import fusing_bar
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.guided_weights import smooth_weights_
from clinicalfmamba_nets.functional.layout import row_major
from clinicalfmamba_nets.spatial.grids import axis_order

_THIN = 16  # fewer voxels along an axis make no image
_UNLIKE = 1.3  # axes are sampled unlike one another from this ratio of the distances on


def prepare_fusion_batch(
    batchdata: dict[str, Tensor], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Return the pair as input and as target: fusion has no label, its loss compares with both sources.

    Args:
        batchdata: a batch with the key "image", (B, 2, *spatial).
        device: where to move it.
        non_blocking: whether the copy may overlap with the host's work.
        kwargs: further arguments of `Tensor.to`.

    Example:
        >>> image, target = prepare_fusion_batch({"image": torch.zeros(1, 2, 8, 8)}, "cpu")
        >>> image is target
        True
    """
    image = batchdata["image"].to(device=device, non_blocking=non_blocking, **kwargs)
    return image, image


class WholeImageInferer(SimpleInferer):
    """Run the network once on the whole image, as a plain tensor, and give the result the metadata of the input.

    The metadata of a MetaTensor are looked up at every operation of a network; without them a forward is faster and
    equal to the last bit.

    Args:
        amp: compute in bfloat16 where torch's autocast does so, on whatever device the images are. MONAI's own `amp`
            is for one make of GPU only, and does nothing on a processor.
    """

    def __init__(self, amp: bool = False) -> None:
        super().__init__()
        self.amp = amp

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({settings})"

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return network(inputs), (B, 1 or 2, *spatial) in float32, for inputs (B, 2, *spatial)."""
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        with torch.autocast(plain.device.type, torch.bfloat16, enabled=self.amp):
            fused = super().__call__(plain, network, *args, **kwargs)
        fused = fused.float() if self.amp else fused
        return _with_metadata(fused, inputs)


def _with_metadata(fused: Tensor, inputs: Tensor) -> Tensor:
    """Give a result the metadata of its inputs, where these have any."""
    return MetaTensor(fused).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else fused


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


class SliceInferer(WholeImageInferer):
    """Run a network for single images on a single image as a whole, or on a volume slice by slice.

    Slices are taken across the axis that is sampled unlike the others, as scanners do; where all are sampled alike,
    they are axial; an axis of fewer than 16 voxels is always the one across. Each lies as radiologists look
    at it (left of the patient on the right, anterior or superior at the top), so that the result does not depend on
    the order in which the voxels are stored. Of each slice the box around the head is computed (`boxes.head_mask`);
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
        refine = self.refinement if mixes(network) else None
        whole = super().__call__
        if inputs.dim() == 4:
            seen = _seen(inputs, plain.unsqueeze(2), network)
            fused = whole(plain, seen.mixed_by(network), *args, **kwargs).detach().clone()
            if refine is not None:
                box = box_around(head_mask(plain), (self.margin, self.margin), GRID)
                pair = inside(plain, box)
                inside(fused, box).copy_(refine(inside(fused, box), pair, seen.by_refinement(pair)))
            if self.smooth:
                level_weights_(fused.unsqueeze(2), plain.unsqueeze(2))
            return _with_metadata(fused, inputs)
        order, backwards, sagittal, spacing = _upright(inputs)
        upright = plain.permute(order).flip(backwards)  # (B, 2, slices, rows, columns)
        seen = _seen(inputs, upright, network)
        network = seen.mixed_by(network)

        def run(image: Tensor) -> Tensor:
            return whole(image, network, *args, **kwargs)

        mirror = self.mirror and not sagittal  # of the mirrored head sagittal slices are the same ones, reversed

        def refined(part: Tensor, pair: Tensor) -> Tensor:
            return refine.of_volumes()(part, pair, seen.by_refinement(pair)) if refine is not None else part

        fused = self._by_slices(upright, run, refined, mirror, spacing)
        fused = row_major(fused.flip(backwards).permute([order.index(axis) for axis in range(5)])).to(plain.device)
        return _with_metadata(fused, inputs)

    def _by_slices(
        self,
        image: Tensor,
        run: Callable[[Tensor], Tensor],
        refine: Callable[[Tensor, Tensor], Tensor],
        mirror: bool,
        spacing: Sequence[float],
    ) -> Tensor:
        """Fuse (B, 2, slices, rows, columns) of a spacing in mm."""
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
        sides = zip(*boxes.values(), strict=True)
        rows, columns = (slice(min(x.start for x in side), max(x.stop for x in side)) for side in sides)
        place = (slice(shown[0], shown[-1] + 1), rows, columns)
        pair, smooth = inside(image, place).cpu(), self.smooth and len(shown) > 1
        if smooth:
            smooth_weights_(inside(fused, place), pair, spacing)
        for number, box in boxes.items():
            part = inside(fused[:, :, number], box)
            part.copy_(refine(part, inside(image[:, :, number], box).cpu()))
        if smooth:
            level_weights_(inside(fused, place), pair)
        return fused

    def _in_box(self, image: Tensor, mask: Tensor, run: Callable[[Tensor], Tensor]) -> tuple[Tensor, Box]:
        """Fuse the box of a slice (B, 2, rows, columns); return the result, on the CPU, and the box."""
        box = box_around(mask, (self.margin, self.margin), GRID)
        return run(inside(image, box).contiguous()).cpu(), box


def _seen(inputs: Tensor, slices: Tensor, network: Callable[..., Tensor]) -> SeenPairs:
    """Tell how a network is to see its inputs, given slice by slice too, (B, 2, S, H, W); as they are if it draws."""
    return SeenPairs.of(inputs, slices) if mixes(network) else SeenPairs()


def _mean_of_both_sides(part: Tensor, box: Box, mirrored: Tensor, its_box: Box, size: int) -> tuple[Tensor, Box]:
    """Average a result and the mirror image's, turned back, over the columns of `size` that both boxes hold."""
    rows, columns = box
    turned = slice(size - its_box[1].stop, size - its_box[1].start)
    first, last = max(columns.start, turned.start), min(columns.stop, turned.stop)
    parts = (x[..., first - place.start : last - place.start] for x, place in ((part, columns), (mirrored, turned)))
    return torch.stack([*parts]).mean(0), (rows, slice(first, last))


def _upright(inputs: Tensor) -> tuple[list[int], list[int], bool, list[float]]:
    """Tell how (B, C, X, Y, Z) becomes (B, C, slices, rows, columns).

    Returns:
        The order of the axes, those then flipped, whether slices are sagittal, and the spacing in mm after it.
    """
    affine = inputs.affine.reshape(-1, 4, 4)[0].cpu().numpy() if isinstance(inputs, MetaTensor) else np.eye(4)
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
    distances = [float(spacing[axis]) for axis in shown]
    return [0, 1, *(order[axis] + 2 for axis in shown)], flipped, across == 0, distances


class VolumeInferer(WholeImageInferer):
    """Run the network on a volume: on the whole of it, or window by window with Gaussian blending.

    Only the box around the head is computed (`boxes.head_mask`); the air outside it is the mix of the sources that the
    network makes of the air inside, black where both are. Each region where both sources are even gets one share of
    them (`level_weights_`). Windows are made no larger than their even spread over that box needs. A volume with an
    affine is turned to right, anterior, superior for the network and back, so that the
    result does not depend on the order in which the voxels are stored.

    Args:
        mode: "window", or "whole" where the memory allows it.
        roi_size: the largest window; a volume that fits into it is computed as a whole.
        overlap: share of a window that neighboring windows have in common, in [0, 1).
        amp: as in `WholeImageInferer`.
        margin: voxels around the box that are computed as well.
        mirror: average the volume over its mirror image, left and right exchanged; twice the time. Then a mirrored
            volume gives the mirrored result.

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
    ) -> None:
        super().__init__(amp)
        if mode not in ("window", "whole"):
            raise input_error("mode", "window or whole", repr(mode), "choose one of these")
        if not 0 <= overlap < 1:
            raise input_error("overlap", "a share from 0 to below 1", str(overlap), "give one such as 0.25")
        self.mode, self.roi_size, self.overlap, self.margin = mode, tuple(roi_size), overlap, margin
        self.mirror = mirror

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the fused volumes, (B, 1 or 2, *spatial) float32, for inputs (B, 2, *spatial) of one orientation."""
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        order, backwards = _storage(inputs)
        plain = plain.permute(order).flip(backwards)
        mask = head_mask(plain.movedim(4, 2)).movedim(0, 2)
        box = box_around(mask, [self.margin] * 3)
        white = WhiteBone.of(inputs) if mixes(network) else None
        network = mixed_by_shares(network, white) if white else network
        run = network if self.mode == "whole" else partial(self._windows, network)
        run = over_both_sides(run, 2) if self.mirror else run
        part = super().__call__(inside(plain, box).contiguous(), run, *args, **kwargs).to(plain.device)
        background = Background()
        background.add(part, inside(plain, box), ~mask[box].to(plain.device))
        fused = plain.new_zeros([plain.shape[0], part.shape[1], *plain.shape[2:]], dtype=torch.float32)
        inside(fused, box).copy_(part)
        background.fill(fused, plain, box)
        level_weights_(inside(fused, box), inside(plain, box))
        fused = fused.flip(backwards).permute([order.index(axis) for axis in range(len(order))]).contiguous()
        return _with_metadata(fused, inputs)

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


def _storage(inputs: Tensor) -> tuple[list[int], list[int]]:
    """Return how (B, C, X, Y, Z) is permuted, and which axes are then flipped, to run right, anterior, superior."""
    affine = inputs.affine.reshape(-1, 4, 4)[0].cpu().numpy() if isinstance(inputs, MetaTensor) else np.eye(4)
    order, backwards = axis_order(affine, np.eye(4))
    return [0, 1, *(axis + 2 for axis in order)], [axis + 2 for axis in backwards]


def _even_window(size: int, most: int, overlap: float) -> int:
    """Return the least window, a multiple of 8, of which a side needs no more than of windows of the size `most`."""
    if size <= most:
        return size
    count = math.ceil((size - most * overlap) / (most * (1 - overlap)))
    return min(most, math.ceil(size / (count - (count - 1) * overlap) / 8) * 8)
