"""How bright the fused image shows the bone of the CT."""

from __future__ import annotations

from torch import Tensor

from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, prepare, region_mean

BONE_THRESHOLD = 0.8


@scored
def compute_bone_mean(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the mean of the fused image where the CT is brighter than 0.8 of its range.

    A skull that is complete and bright has a mean near 1; the average image has 0.5 to 0.6. Source: the definition of
    this project; in the brain window of the test images bone is saturated.

    Args:
        fused: (B, 1, *spatial).
        image_a: the other source, the same shape (only checked).
        image_b: the CT.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in [0, 1], (B, R), without a part per source; NaN where the CT shows no bone.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> import torch
        >>> ct = torch.tensor([[[[0.0, 1.0], [0.9, 0.2]]]])
        >>> round(compute_bone_mean(ct / 2, ct, ct).value.item(), 2)
        0.48
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    return Scores(region_mean(inputs.fused, inputs.regions & (inputs.image_b > BONE_THRESHOLD)))


class BoneMeanMetric(FusionMetric):
    """Cumulates `compute_bone_mean` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_bone_mean)
