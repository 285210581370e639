"""The loss of a grading network: binary focal loss of one logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clinicalfmamba_nets.functional.ranges import check_range


class GradingLoss(nn.Module):
    """Mean focal loss of a logit against a label of 0 or 1: -w (1 - p)^gamma log p, p the probability of the label.

    Source: Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002, equation 5. Equal to MONAI's
    `FocalLoss` of one channel, with named terms for the progress of a training.

    Args:
        gamma: how much less a case counts that is graded well; 0 gives cross entropy.
        alpha: weight w of label 1, that of label 0 is 1 - alpha; None weighs both by 1.

    Raises:
        ValueError: a negative gamma, or an alpha outside (0, 1).

    Example:
        >>> round(GradingLoss(gamma=0)(torch.zeros(1, 1), torch.ones(1, 1)).item(), 4)
        0.6931
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        if gamma < 0 or (alpha is not None and not 0 < alpha < 1):
            raise ValueError(f"expected gamma of at least 0 and alpha in (0, 1) or None, found {gamma} and {alpha}")
        self.gamma, self.alpha = gamma, alpha
        self.weights = {"focal": 1.0}

    def terms(self, pred: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Return the term `focal` for logits and labels of one shape.

        Raises:
            ValueError: two shapes, or labels outside [0, 1].
        """
        if pred.shape != label.shape:
            raise ValueError(
                f"expected logits and labels of one shape, found {tuple(pred.shape)}, {tuple(label.shape)}"
            )
        label = label.to(pred.dtype)
        check_range("label", label, slack=0.0, remedy="give 1 for high grade, 0 for low")
        cost = functional.binary_cross_entropy_with_logits(pred, label, reduction="none")  # -log p
        cost = cost * (1 - torch.exp(-cost)).pow(self.gamma)
        if self.alpha is not None:
            cost = cost * (self.alpha * label + (1 - self.alpha) * (1 - label))
        return {"focal": cost.mean()}

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Return the loss, a scalar, of logits (B, 1) against labels (B, 1)."""
        return self.terms(pred, label)["focal"]
