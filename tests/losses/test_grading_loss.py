"""The focal loss of a logit against MONAI's."""

from __future__ import annotations

import pytest
import torch
from monai.losses import FocalLoss

from clinicalfmamba_nets.losses import GradingLoss


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_equal_to_monai(gamma, alpha):
    generator = torch.Generator().manual_seed(0)
    pred = 3 * torch.randn(6, 1, generator=generator)
    label = torch.tensor([[0.0], [1], [1], [0], [1], [0]])
    expected = FocalLoss(gamma=gamma, alpha=alpha)(pred, label)
    assert GradingLoss(gamma, alpha)(pred, label).item() == pytest.approx(expected.item(), rel=1e-5)


def test_refusal():
    with pytest.raises(ValueError, match="alpha in"):
        GradingLoss(alpha=1.5)
