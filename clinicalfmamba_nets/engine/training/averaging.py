"""An exponential moving average of the weights, used for validation and for the weights that are kept."""

from __future__ import annotations

import copy
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn


class WeightAverage:
    """Keep an exponential moving average of a network's weights and floating-point buffers.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30
    (1992), in the exponential form; the decay grows with the number of updates n as min(decay, (1 + n) / (10 + n)), so
    that the random initial weights are soon forgotten.

    Args:
        network: the network that is trained; give the bare module, not its distributed wrapper.
        decay: share of the average that is kept at each step, in [0, 1); 0 turns averaging off, and `module` is then
            the network itself.

    Raises:
        ValueError: the decay is outside [0, 1).

    Example:
        >>> average = WeightAverage(nn.Linear(2, 1), decay=0.999)
        >>> average.update()
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.network = network
        self.decay = decay
        self.updates = 0
        self.module = copy.deepcopy(network).eval().requires_grad_(False) if decay > 0 else network

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's present weights; counters are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = self.network.state_dict()
        for name, mean in self.module.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name], 1 - decay)
            else:
                mean.copy_(current[name])
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; empty when averaging is off."""
        return {"updates": self.updates, "module": self.module.state_dict()} if self.decay > 0 else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; an empty state lets the average start at the network's weights."""
        if self.decay > 0:
            self.updates = state.get("updates", 0)
            self.module.load_state_dict(state.get("module", self.network.state_dict()))


class AverageHandler:
    """Update a weight average after each step of a trainer.

    Args:
        average: the average; with decay 0 nothing is done.
    """

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, a trainer."""
        if self.average.decay > 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: self.average.update())
