"""The reconstruction loss against scipy, and that it teaches an auto-encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from clinicalfmamba_nets.losses import ReconstructionLoss
from clinicalfmamba_nets.nets import EHDRAN, SingleImageReconstruction


@pytest.mark.parametrize("spatial", [(9, 11), (6, 7, 8)])
def test_value(spatial):
    pred, image = np.random.default_rng(0).random((2, *spatial))
    slopes = [
        sum(np.abs(ndimage.sobel(values, axis, mode="nearest")) for axis in range(len(spatial)))
        for values in (pred, image)
    ]
    expected = ((pred - image) ** 2).mean() + 0.2 * ((slopes[0] - slopes[1]) ** 2).mean()
    given = ReconstructionLoss()(torch.from_numpy(pred)[None, None], torch.from_numpy(image)[None, None])
    assert given.item() == pytest.approx(expected, rel=1e-9)


def test_the_first_stage_learns():
    torch.manual_seed(0)
    network = SingleImageReconstruction(EHDRAN(features=8))
    optimizer, loss = torch.optim.Adam(network.parameters(), 1e-3), ReconstructionLoss()
    image, values = torch.rand(2, 2, 16, 16), []
    for _ in range(30):
        value = loss(network(image), image)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]
