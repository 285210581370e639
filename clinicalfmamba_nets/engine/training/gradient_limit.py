"""A limit of the gradient's length, so that one odd batch does not throw the weights."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn


class GradientLimit:
    """Shorten the gradient to a greatest length before each step of a trainer.

    Args:
        network: the network that is trained.
        length: the greatest Euclidean length over all parameters; 0 for no limit.

    Raises:
        ValueError: the length is negative.

    Example:
        >>> GradientLimit(nn.Linear(2, 1), 1.0).length
        1.0
    """

    def __init__(self, network: nn.Module, length: float = 0.0) -> None:
        if not length >= 0:
            raise ValueError(f"length: expected at least 0, found {length}")
        self.network, self.length = network, length

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, a MONAI trainer."""
        if self.length > 0:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.shorten)

    def shorten(self, engine: Engine | None = None) -> None:
        """Shorten the present gradient."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.length)
