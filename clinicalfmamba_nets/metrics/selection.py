"""One number that chooses weights: what is kept of both sources, less what is invented."""

from __future__ import annotations

from torch import Tensor

from .checks import as_image
from .fusion_metric import FusionMetric
from .plateau import mean_on_plateaus
from .qabf import compute_n_abf, compute_qabf
from .remarks import IMAGES
from .scores import Scores, prepare
from .ssim import compute_ssim
from .vif import compute_vif


def compute_selection_score(
    fused: Tensor, image_a: Tensor, image_b: Tensor, data_range: float | None = None, regions: Tensor | None = None
) -> Scores:
    """Compute the score by which a training keeps its best weights: Qabf + VIF / 2 + SSIM - N_abf - plateau error.

    Fixed for all trainings, so that their choices can be compared; VIF counts half because following one source alone
    raises it. A plateau error that is undefined, since the sources have no plateau, counts as 0. Source: ours.

    Args:
        fused: (B, 1, H, W).
        image_a: first source, the same shape.
        image_b: second source, the same shape.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, H, W) bool; None for the whole frame.

    Returns:
        Scores, (B, R), without a part per source; higher is better.

    Raises:
        FusionInputError: for images that disagree in shape, are not finite or leave their range.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 1, 32, 32)
        >>> compute_selection_score(image, image, image).value.item() > 2.5
        True
    """
    fused, image_a, image_b = map(as_image, IMAGES, (fused, image_a, image_b))
    images = (fused, image_a, image_b, data_range, regions)
    kept = compute_qabf(*images).value + compute_vif(*images).value / 2 + compute_ssim(*images).value
    return Scores(kept - compute_n_abf(*images).value - mean_on_plateaus(prepare(*images)).nan_to_num(0.0))


class SelectionScoreMetric(FusionMetric):
    """Cumulates `compute_selection_score` over pairs; arguments as `FusionMetric`."""

    compute = staticmethod(compute_selection_score)
