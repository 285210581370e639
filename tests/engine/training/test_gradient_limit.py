"""The limit of the gradient: long ones are shortened, short ones stay, at the right moment of a step."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer

from clinicalfmamba_nets.engine import GradientLimit


@pytest.mark.parametrize(("length", "expected"), [(1.0, 1.0), (100.0, 40.0), (0.0, 40.0)])
def test_a_step_moves_by_no_more_than_the_limit(length: float, expected: float) -> None:
    network = torch.nn.Linear(4, 1, bias=False)
    start = network.weight.detach().clone()
    data = [{"image": torch.full((2, 4), 10.0), "label": torch.zeros(2, 1)}]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=data,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 1.0),
        loss_function=lambda pred, label: 2 * pred.mean(),
        decollate=False,
    )
    GradientLimit(network, length).attach(trainer)
    trainer.run()
    assert (network.weight - start).norm().item() == pytest.approx(expected, rel=1e-4)


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="length: expected at least 0"):
        GradientLimit(torch.nn.Linear(2, 1), -1.0)
