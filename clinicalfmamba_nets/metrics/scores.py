"""What every fusion metric shares: checked inputs, regions of the image, scores per source."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.functional.ranges import HEAD_THRESHOLD

from .checks import as_floats, check_values, intensity_range


class Scores(NamedTuple):
    """Scores of a batch of fused images, each (B, R): one row per image, one column per region.

    Attributes:
        value: the metric as the literature reports it (mean or sum over the sources, or of the fused image alone).
        a: the score against the first source, None where the metric has no such part.
        b: the score against the second source.
    """

    value: Tensor
    a: Tensor | None = None
    b: Tensor | None = None

    @property
    def minimum(self) -> Tensor | None:
        """The lower score of the two sources: a copy of one source cannot hide behind a mean. (B, R) or None."""
        return None if self.a is None or self.b is None else torch.minimum(self.a, self.b)


class Inputs(NamedTuple):
    """Checked images (B, 1, *spatial) in float64, 1 being the top of the range; regions (B, R, *spatial) bool."""

    fused: Tensor
    image_a: Tensor
    image_b: Tensor
    regions: Tensor


def round_to_8_bit(image: Tensor) -> Tensor:
    """Round an image in [0, 1] to the 256 levels that an 8-bit file can hold.

    Halves go to the even level, within 1e-4 of a level: the mean of two 8-bit images is full of halves, and the noise
    of float32 must not decide them.

    Args:
        image: any shape, floating point; values outside [0, 1] are clipped as in a saved file.

    Returns:
        The same shape, multiples of 1/255.

    Example:
        >>> round_to_8_bit(torch.tensor([-0.2, 0.001, 0.002, 1.5]) * 1.0)
        tensor([0.0000, 0.0000, 0.0039, 1.0000])
    """
    steady = (image.clamp(0, 1) * (255 * 4096)).round() / 4096
    return steady.round() / 255


def head_region(image_a: Tensor, image_b: Tensor, data_range: float = 1.0) -> Tensor:
    """Mark where at least one source shows the head: brighter than 8/255 of the intensity range.

    Args:
        image_a: first source, (B, 1, *spatial).
        image_b: second source, the same shape.
        data_range: the intensity that counts as 1; None for floats in 0..1.

    Returns:
        (B, 1, *spatial) bool.

    Example:
        >>> head_region(torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 0.01], [0.04, 1.0]]]])).sum()
        tensor(2)
    """
    brighter = torch.maximum(as_floats(image_a), as_floats(image_b))
    return brighter > HEAD_THRESHOLD * data_range


def prepare(
    fused: Tensor,
    image_a: Tensor,
    image_b: Tensor,
    data_range: float | None = None,
    regions: Tensor | None = None,
    rounded: bool = True,
) -> Inputs:
    """Check the images of a metric and bring them to one scale.

    Args:
        fused: (B, 1, *spatial), 2D or 3D.
        image_a: first source, the same shape.
        image_b: second source, the same shape.
        data_range: the intensity that counts as 1, for instance 255 for images in 0..255; None for floats in 0..1.
        regions: (B, R, *spatial) bool, the R parts of the image that are scored apart; None for the whole frame.
        rounded: round to 8 bit, as the file that is looked at would be.

    Returns:
        The images in float64 on [0, 1] and the regions.

    Raises:
        FusionInputError: if the shapes disagree, a value is not finite or of another range than `data_range`, or the
            regions are none.
    """
    if fused.dim() not in (4, 5) or fused.shape[1] != 1 or not fused.numel():
        raise FusionInputError(f"fused must be (B, 1, H, W) or (B, 1, H, W, D), got shape {tuple(fused.shape)}")
    if fused.shape != image_a.shape or fused.shape != image_b.shape:
        shapes = [tuple(image.shape) for image in (fused, image_a, image_b)]
        raise FusionInputError(f"fused, image_a and image_b must agree in shape, got {shapes}")
    given = [torch.as_tensor(image).detach() for image in (fused, image_a, image_b)]
    unit = intensity_range(given, data_range)
    check_values(given, unit)
    images = [image.double() / unit for image in given]
    if regions is None:
        regions = torch.ones_like(fused, dtype=torch.bool)
    _check_regions(regions, fused)
    fused, image_a, image_b = (round_to_8_bit(image) if rounded else image for image in images)
    return Inputs(fused, image_a, image_b, regions.bool())


def _check_regions(regions: Tensor, fused: Tensor) -> None:
    expected = f"regions must be (B, R, {tuple(fused.shape[2:])})"
    if not isinstance(regions, Tensor):
        raise FusionInputError(f"{expected}, a bool tensor, got {type(regions).__name__}")
    if regions.shape[0] != fused.shape[0] or regions.shape[2:] != fused.shape[2:]:
        raise FusionInputError(f"{expected}, got shape {tuple(regions.shape)}")
    if regions.isnan().any():
        raise FusionInputError(f"{expected}, true or false, got NaN, which is neither")


def region_sum(values: Tensor, regions: Tensor) -> Tensor:
    """Sum a map over each region.

    Args:
        values: (B, 1, *spatial).
        regions: (B, R, *spatial) bool.

    Returns:
        (B, R) in the dtype of the values.
    """
    return torch.einsum("bp,brp->br", values.flatten(1), regions.flatten(2).to(values.dtype))


def region_mean(values: Tensor, regions: Tensor) -> Tensor:
    """Average a map over each region; NaN where the region is empty.

    Args:
        values: (B, 1, *spatial).
        regions: (B, R, *spatial) bool.

    Returns:
        (B, R) in the dtype of the values.
    """
    return region_sum(values, regions) / regions.flatten(2).sum(dim=2)


def constant_in(image: Tensor, regions: Tensor) -> Tensor:
    """Tell where an image has one value alone.

    Args:
        image: (B, 1, *spatial), finite.
        regions: (B, R, *spatial) bool.

    Returns:
        (B, R) bool; True for an empty region.

    Example:
        >>> constant_in(torch.tensor([[[[0.0, 0.0, 1.0]]]]), torch.tensor([[[[True, True, False]], [[True] * 3]]]))
        tensor([[ True, False]])
    """
    low = image.masked_fill(~regions, torch.inf).flatten(2).amin(dim=2)
    high = image.masked_fill(~regions, -torch.inf).flatten(2).amax(dim=2)
    return low >= high


def per_region(score: Callable[..., Tensor], regions: Tensor, *images: Tensor) -> Tensor:
    """Score the pixels of each region with a function of flat pixel lists, for metrics without a map.

    Args:
        score: takes one (N,) tensor per image and returns a scalar tensor.
        regions: (B, R, *spatial) bool.
        images: (B, 1, *spatial) each.

    Returns:
        (B, R) float64; NaN where the region is empty.
    """
    rows = []
    for index, row in enumerate(regions):
        chosen = [[image[index, 0][region] for image in images] for region in row]
        rows.append([score(*pixels) if pixels[0].numel() else pixels[0].new_tensor(torch.nan) for pixels in chosen])
    return torch.stack([torch.stack(row) for row in rows]).double()


def slice_wise(compute: Callable[..., Scores]) -> Callable[..., Scores]:
    """Let a 2D metric score volumes: the mean over the slices along the last axis in which a source shows anything.

    Args:
        compute: a `compute_*` function for (B, 1, H, W).

    Returns:
        The same function, which takes (B, 1, H, W, D) as well.
    """

    @wraps(compute)
    def wrapped(fused: Tensor, image_a: Tensor, image_b: Tensor, *args, regions: Tensor | None = None, **options):
        if fused.dim() != 5:
            return compute(fused, image_a, image_b, *args, regions=regions, **options)
        volumes = []
        for index in range(fused.shape[0]):
            slices = [as_floats(image[index]).movedim(-1, 0) for image in (fused, image_a, image_b)]  # (D, 1, H, W)
            varied = [image.flatten(1).amax(1) > image.flatten(1).amin(1) for image in slices[1:]]
            shown = varied[0] | varied[1]  # (D,)
            shown[0] |= ~shown.any()  # of sources that show nothing the first slice tells what the metric makes of it
            part = None if regions is None else regions[index].movedim(-1, 0)[shown]  # (shown, R, H, W)
            volumes.append(compute(*(image[shown] for image in slices), *args, regions=part, **options))
        value, part_a, part_b = (_mean_over_slices(parts) for parts in zip(*volumes, strict=True))
        assert value is not None
        return Scores(value, part_a, part_b)

    return wrapped


def _mean_over_slices(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    means = [part.nanmean(dim=0) for part in parts if part is not None]
    return torch.stack(means) if means else None


def crop_border(values: Tensor, margin: int) -> Tensor:
    """Drop the same margin on both sides of every spatial axis, as a window without padding does.

    Args:
        values: (B, C, *spatial).
        margin: number of pixels to drop on each side.

    Returns:
        (B, C, *(spatial - 2 * margin)).
    """
    pad = [-margin] * (2 * (values.dim() - 2))
    return functional.pad(values, pad)
