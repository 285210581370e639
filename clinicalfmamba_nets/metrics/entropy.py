"""Entropy of a fused image: of its 256 grey levels, and the count of distinct floats that some papers print."""

from __future__ import annotations

import torch
from torch import Tensor

from ..functional import histograms
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, per_region, prepare


def _entropy_of_levels(values: Tensor) -> Tensor:
    return histograms.entropy(histograms.histogram(values)).abs()  # 0, not -0, for one level


def _entropy_of_floats(values: Tensor) -> Tensor:
    return histograms.entropy(torch.unique(values, return_counts=True)[1].double()).abs()


@scored
def compute_entropy(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the entropy of the fused image's histogram of 256 grey levels.

    Source: Roberts, van Aardt and Ahmed, "Assessment of image fusion procedures using entropy, image quality, and
    multispectral classification", J. Appl. Remote Sensing 2008. It rises with noise: no measure of quality by itself.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape (only checked).
        image_b: second source (only checked).
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in bits, 0 to 8, (B, R), without a part per source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> compute_entropy(image, image, image).value.item()
        1.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    return Scores(per_region(_entropy_of_levels, inputs.regions, inputs.fused))


@scored
def compute_entropy_float(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the entropy of the distinct float values of the fused image, which the paper's tables call EN.

    It counts how many different floats occur (at most log2 of the number of pixels: 16 bits for 256 x 256): noise of
    1e-5 on an average image raises it from 4.4 to 15.5. It says nothing about information; it is here only so that the
    printed numbers can be compared. The image is not rounded to 8 bit.

    Source: `skimage.measure.shannon_entropy` applied to a float image.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape (only checked).
        image_b: second source (only checked).
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores in bits, (B, R), without a part per source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> image = torch.arange(16.0).view(1, 1, 4, 4) / 1e4
        >>> compute_entropy_float(image, image, image).value.item()
        4.0
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions, rounded=False)
    return Scores(per_region(_entropy_of_floats, inputs.regions, inputs.fused))


class EntropyMetric(FusionMetric):
    """Cumulates `compute_entropy` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_entropy)


class FloatEntropyMetric(FusionMetric):
    """Cumulates `compute_entropy_float` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_entropy_float)
