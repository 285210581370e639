"""Standard deviation of a fused image."""

from __future__ import annotations

from torch import Tensor

from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, per_region, prepare


def _deviation(values: Tensor) -> Tensor:
    return values.std(correction=0)


@scored
def compute_sd(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the standard deviation of the fused image in grey levels of 255.

    The population standard deviation. It rises with noise and contrast: no measure of quality by itself. Source: Ma,
    Ma and Li, "Infrared and visible image fusion methods and applications: a survey", Information Fusion 2019.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape (only checked).
        image_b: second source (only checked).
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        Scores, 0 to 127.5, (B, R), without a part per source.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> compute_sd(image, image, image).value.item()
        127.5
    """
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    return Scores(per_region(_deviation, inputs.regions, inputs.fused * 255))


class StandardDeviationMetric(FusionMetric):
    """Cumulates `compute_sd` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_sd)
