"""How much of the contrast of small bright spots inside the skull of a CT the fused image keeps."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .bone import BONE_THRESHOLD
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, prepare, region_mean, slice_wise

SMALLEST, LARGEST = 4, 200
SKULL_DISTANCE = 5.0
WINDOW = 15
NEIGHBORS = np.ones((3, 3))


def find_calcifications(ct: NDArray) -> NDArray:
    """Mark the small bright spots inside the skull of one CT slice.

    A spot is a connected group of 4 to 200 pixels above 0.8 of the range, enclosed by the largest bright group (the
    skull) and more than 5 pixels away from it: calcifications, and any clip, drop of contrast medium or small bleed.

    Args:
        ct: (H, W) in [0, 1].

    Returns:
        (H, W) bool; empty where the slice shows no closed skull.

    Example:
        >>> import numpy as np
        >>> find_calcifications(np.zeros((8, 8))).any()
        np.False_
    """
    from scipy import ndimage

    labels, count = ndimage.label(ct > BONE_THRESHOLD, NEIGHBORS)
    if count == 0:
        return np.zeros(ct.shape, dtype=bool)
    numbers = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(labels > 0, labels, numbers)
    skull = labels == numbers[np.argmax(sizes)]
    inside = ndimage.binary_fill_holes(skull) & (ndimage.distance_transform_edt(~skull) > SKULL_DISTANCE)
    enclosed = ndimage.minimum(inside, labels, numbers).astype(bool)
    chosen = numbers[enclosed & (sizes >= SMALLEST) & (sizes <= LARGEST)]
    return np.isin(labels, chosen)


def _heights(images: Tensor) -> Tensor:
    """Height of each pixel above the opening of its image, (B, 1, H, W)."""
    from scipy import ndimage

    return torch.stack(
        [torch.from_numpy(ndimage.white_tophat(image.cpu().numpy(), (1, WINDOW, WINDOW))) for image in images]
    )


@scored
@slice_wise
def compute_calcification_contrast(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the contrast of calcifications in the fused image as a share of their contrast in the CT.

    Contrast is the mean height of the spots of `find_calcifications` above the opening with a 15 x 15 window, that is
    above the brightest surround in which the spot still stands out. Source: the definition of this project, for the
    reader's question whether the calcification is still brighter than its surround: 1 as in the CT, 0 gone or inverted.

    Args:
        fused: (B, 1, H, W); a volume (B, 1, H, W, D) is scored slice by slice.
        image_a: the other source, the same shape (only checked).
        image_b: the CT.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame. A spot counts with its pixels in the region.

    Returns:
        Scores, (B, R), without a part per source; NaN where the CT shows no such spot.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> empty = torch.zeros(1, 1, 16, 16)
        >>> compute_calcification_contrast(empty, empty, empty).value.isnan().item()
        True
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    spots = torch.stack([torch.from_numpy(find_calcifications(ct[0].cpu().numpy())) for ct in inputs.image_b])
    chosen = inputs.regions & spots.unsqueeze(1).to(fused.device)  # (B, R, H, W)
    kept, present = (region_mean(_heights(image), chosen) for image in (inputs.fused, inputs.image_b))
    return Scores(kept / present)


class CalcificationContrastMetric(FusionMetric):
    """Cumulates `compute_calcification_contrast` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_calcification_contrast)
