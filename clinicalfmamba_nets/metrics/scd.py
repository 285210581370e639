"""Sum of the correlations of differences of a fused image."""

from __future__ import annotations

import torch
from torch import Tensor

from .cc import pearson
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, constant_in, per_region, prepare


def _added(difference: Tensor, source: Tensor) -> Tensor:
    """Correlation of what was added with the source that it should come from; 0 where nothing was added."""
    similar = pearson(difference, source)
    return similar.nan_to_num(0.0) if bool(source.max() > source.min()) else similar


@scored
def compute_scd(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the sum of the correlations of differences: r(fused - b, a) + r(fused - a, b).

    What the fused image adds to one source should look like the other. A difference that is constant counts as 0: a
    copy of one source adds nothing to it. Source: Aslantas and Bendes, "A new image quality metric for image fusion:
    the sum of the correlations of differences", AEU 2015.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores, each (B, R): `a` is r(fused - b, a), the value is the sum, -2 to 2. NaN for a constant source, and for
        two equal sources, to which nothing can be added.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> import torch
        >>> image_a, image_b = torch.rand(2, 1, 1, 8, 8) / 2
        >>> compute_scd(image_a + image_b, image_a, image_b).value.item() > 1.99
        True
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    twins = constant_in(inputs.image_a - inputs.image_b, inputs.regions)
    to_a = per_region(_added, inputs.regions, inputs.fused - inputs.image_b, inputs.image_a).masked_fill(
        twins, torch.nan
    )
    to_b = per_region(_added, inputs.regions, inputs.fused - inputs.image_a, inputs.image_b).masked_fill(
        twins, torch.nan
    )
    return Scores(to_a + to_b, to_a, to_b)


class SCDMetric(FusionMetric):
    """Cumulates `compute_scd` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_scd)
