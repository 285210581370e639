"""A loss that remembers its named terms; any loss of the user's own can be tracked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.errors import FusionInputError, input_error

INTERFACE = "forward(pred, image) of (B, 1, *spatial) and (B, 2, *spatial) that returns one number with a gradient"


class TrackedLoss(nn.Module):
    """Compute a loss and keep its value, and those of its named terms, for the progress line.

    Args:
        loss: any module or function of `(pred, image)` that returns a scalar. Where it has `terms(pred, image)`, which
            returns a dictionary of named scalars, and `weights`, a dictionary of their weights, the loss is their
            weighted sum and each term is shown and logged by its name.

    Raises:
        FusionInputError: it is none of this; also when called, for a result that is not one number with a gradient.

    Example:
        >>> loss, pred = TrackedLoss(torch.nn.L1Loss()), torch.zeros(1, 1, 4, 4, requires_grad=True)
        >>> loss(pred, torch.ones(1, 1, 4, 4)).item(), sorted(loss.latest)
        (1.0, ['loss'])
    """

    def __init__(self, loss: Any) -> None:
        super().__init__()
        if not callable(loss):
            raise input_error("fusion_loss", INTERFACE, type(loss).__name__, "name a class with _target_")
        named = hasattr(loss, "terms") or isinstance(getattr(loss, "weights", None), Mapping)
        if named and not (callable(getattr(loss, "terms", None)) and isinstance(loss.weights, Mapping)):
            remedy = "give both, or neither and forward(pred, image) alone"
            raise input_error("fusion_loss", "terms(pred, image) and weights of them", "one without the other", remedy)
        self.loss: Any = loss
        self.named = named
        self.latest: dict[str, Tensor] = {}
        self.pairs = 0

    def forward(self, pred: Tensor, image: Tensor) -> Tensor:
        """Return the loss, a scalar, of pred (B, 1, *spatial) against image (B, 2, *spatial)."""
        total, terms = self._named_sum(pred, image) if self.named else (self._own(pred, image), {})
        self.latest = {name: value.detach() for name, value in {"loss": total, **terms}.items()}
        self.pairs = pred.shape[0]
        return total

    def _named_sum(self, pred: Tensor, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        terms = self._result(self.loss.terms, pred, image)
        missing = sorted(terms.keys() - self.loss.weights.keys())
        if missing:
            found = f"none for {', '.join(missing)}"
            raise input_error("fusion_loss", "a weight for each of its terms", found, "add them to its weights")
        return torch.stack([self.loss.weights[name] * value for name, value in terms.items()]).sum(), terms

    def _own(self, pred: Tensor, image: Tensor) -> Tensor:
        total = self._result(self.loss, pred, image)
        if not isinstance(total, Tensor) or total.numel() != 1 or (torch.is_grad_enabled() and not total.requires_grad):
            shape = f"a tensor of shape {tuple(total.shape)}" if isinstance(total, Tensor) else repr(total)[:60]
            lost = isinstance(total, Tensor) and total.numel() == 1
            found = "a number without a gradient" if lost else shape
            raise input_error("fusion_loss", INTERFACE, found, "average its result, and compute it by torch alone")
        return total.reshape(())

    @staticmethod
    def _result(function: Any, pred: Tensor, image: Tensor) -> Any:
        try:
            return function(pred, image)
        except FusionInputError:
            raise
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            remedy = "mend the loss; CLINICALFMAMBA_DEBUG=1 shows where it failed"
            raise input_error("fusion_loss", INTERFACE, reason, remedy) from error
