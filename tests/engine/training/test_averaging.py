"""The moving average of the weights, against its formula."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from clinicalfmamba_nets.engine.training.averaging import AverageHandler, WeightAverage


def test_average_follows_the_formula():
    network = nn.BatchNorm1d(1)
    average = WeightAverage(network, decay=0.5)
    expected = network.weight.item()
    for step, value in enumerate([3.0, 5.0, -1.0, 2.0]):
        decay = min(0.5, (1 + step) / (10 + step))
        with torch.no_grad():
            network.weight.fill_(value)
        network.num_batches_tracked.fill_(step)
        expected = decay * expected + (1 - decay) * value
        average.update()
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert average.module.num_batches_tracked.item() == 3


def test_the_network_is_not_touched_and_the_average_needs_no_gradient():
    network = nn.Linear(2, 1)
    before = network.weight.clone()
    average = WeightAverage(network, decay=0.9)
    average.update()
    assert torch.equal(network.weight, before)
    assert not any(value.requires_grad for value in average.module.parameters())


def test_decay_zero_is_the_network_itself():
    network = nn.Linear(2, 1)
    average = WeightAverage(network)
    assert average.module is network
    assert average.state_dict() == {}


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_outside_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        WeightAverage(nn.Linear(1, 1), decay)


def test_handler_updates_after_each_step():
    average = WeightAverage(nn.Linear(1, 1), decay=0.9)
    engine = Engine(lambda engine, batch: None)
    AverageHandler(average).attach(engine)
    engine.run([0, 1, 2], max_epochs=2)
    assert average.updates == 6


def test_state_is_taken_back():
    network = nn.Linear(2, 1)
    first = WeightAverage(network, decay=0.9)
    first.update()
    second = WeightAverage(nn.Linear(2, 1), decay=0.9)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.module.weight, first.module.weight)
    assert second.updates == 1
