"""A loss that remembers its named terms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class TrackedLoss(nn.Module):
    """Compute a fusion loss and keep the values of its named terms for the progress line.

    Args:
        loss: a loss whose `terms(pred, image)` are its named, unweighted terms and whose `weights` go with them.
    """

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss: Any = loss
        self.latest: dict[str, Tensor] = {}
        self.pairs = 0

    def forward(self, pred: Tensor, image: Tensor) -> Tensor:
        """Return the weighted sum, a scalar, of pred (B, 1, *spatial) against image (B, 2, *spatial)."""
        terms = self.loss.terms(pred, image)
        total = torch.stack([self.loss.weights[name] * value for name, value in terms.items()]).sum()
        self.latest = {name: value.detach() for name, value in {"loss": total, **terms}.items()}
        self.pairs = pred.shape[0]
        return total
