"""The loss of an auto-encoder of single images: intensities and gradients."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from clinicalfmamba_nets.functional.gradients import gradient_magnitude
from clinicalfmamba_nets.functional.ranges import BatchCheck
from clinicalfmamba_nets.losses.fusion import check_weights


class ReconstructionLoss(nn.Module):
    """Mean squared error plus the weighted mean squared error of the Sobel magnitudes |x| + |y| (+ |z|).

    Source: "Edge-Enhanced Dilated Residual Attention Network for Multimodal Medical Image Fusion", arXiv 2411.11799,
    where a perceptual term of weight 0.2 by VGG features is added. That term is not here: it needs weights trained on
    photographs, which the project does not ship, and which have no 3D form.

    Args:
        gradient_weight: weight of the gradient term.

    Raises:
        FusionInputError: when called with images that are not finite or far outside [0, 1].
        ValueError: when called with two shapes; a weight that is no number of at least 0.

    Example:
        >>> import torch
        >>> float(ReconstructionLoss()(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)))
        0.0
    """

    def __init__(self, gradient_weight: float = 0.2) -> None:
        super().__init__()
        self.weights = check_weights({"pixel": 1.0, "gradient": gradient_weight})
        self.check = BatchCheck("image")

    def terms(self, pred: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Return the unweighted terms `pixel` and `gradient`, scalars, for two (B, C, *spatial)."""
        if pred.shape != image.shape:
            raise ValueError(f"expected pred and image of one shape, found {tuple(pred.shape)}, {tuple(image.shape)}")
        self.check(pred, image)
        pred, image = (values if values.is_floating_point() else values.float() for values in (pred, image))
        own, wanted = (gradient_magnitude(values, "replicate", norm=1) for values in (pred, image))
        return {"pixel": functional.mse_loss(pred, image), "gradient": functional.mse_loss(own, wanted)}

    def forward(self, pred: Tensor, image: Tensor) -> Tensor:
        """Return the weighted sum of the terms."""
        terms = self.terms(pred, image)
        return self.weights["pixel"] * terms["pixel"] + self.weights["gradient"] * terms["gradient"]
