"""Structures of a fused image, bright or dark, that neither source shows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, prepare, region_mean

WINDOW = 9
TOLERANCE = 5
HEIGHT = 10 / 255


def _dilate(image: Tensor, size: int) -> Tensor:
    """Maximum over a square (cubic) window, one axis after the other."""
    pool = functional.max_pool2d if image.dim() == 4 else functional.max_pool3d
    dims = image.dim() - 2
    for axis in range(dims):
        window = [size if other == axis else 1 for other in range(dims)]
        image = pool(image, window, stride=1, padding=[extent // 2 for extent in window])
    return image


def _erode(image: Tensor, size: int) -> Tensor:
    return -_dilate(-image, size)


def extremum_heights(image: Tensor) -> tuple[Tensor, Tensor]:
    """Measure how far each pixel stands out, as a bright or a dark structure narrower than 9 pixels.

    Args:
        image: (B, 1, *spatial), floating point.

    Returns:
        Height above the opening (bright structures) and depth below the closing (dark structures) with a 9 x 9 (x 9)
        window, each (B, 1, *spatial), at least 0.

    Example:
        >>> image = torch.zeros(1, 1, 21, 21)
        >>> image[..., 10, 10] = 0.5
        >>> [round(height.max().item(), 2) for height in extremum_heights(image)]
        [0.5, 0.0]
    """
    opened = _dilate(_erode(image, WINDOW), WINDOW)
    closed = _erode(_dilate(image, WINDOW), WINDOW)
    return image - opened, closed - image


@scored
def compute_extrema(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the share of the frame, in percent, that shows a local extremum present in neither source.

    A local extremum is what an opening (bright) or a closing (dark) with a 9 x 9 window removes: spots, lines and rings
    narrower than 9 pixels. It is invented where it stands out by 10/255 more than any extremum of the same sign within
    2 pixels in either source. An invented dark ring around a haemorrhage counts; a copy of a source scores 0. Both
    signs count. Source: the definition of this project, from the top-hats of J. Serra, "Image analysis and
    mathematical morphology", 1982.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in percent of the pixels, (B, R), lower is better, without a part per source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> flat = torch.full((1, 1, 20, 20), 0.5)
        >>> dotted = flat.clone()
        >>> dotted[..., 10, 10] = 1
        >>> compute_extrema(dotted, flat, flat).value.item()
        0.25
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    heights = [extremum_heights(image.float()) for image in inputs[:3]]
    invented = torch.zeros_like(inputs.fused, dtype=torch.bool)
    for found, in_a, in_b in zip(*heights, strict=True):  # bright structures, then dark ones
        invented |= found - _dilate(torch.maximum(in_a, in_b), TOLERANCE) > HEIGHT
    return Scores(100 * region_mean(invented.double(), inputs.regions))


class InventedExtremaMetric(FusionMetric):
    """Cumulates `compute_extrema` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_extrema)
