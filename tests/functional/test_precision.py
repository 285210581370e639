"""Losses and metrics within torch.autocast: as outside, with their gradients."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.losses import FusionLoss
from clinicalfmamba_nets.losses.mrsc_fusion import AutoEncoderLoss, MRSCFusionLoss
from clinicalfmamba_nets.metrics.registry import ALL_METRICS

WEIGHTS = ("edge", "information", "overshoot", "plateau", "spot", "correlation", "shading")
LOSSES = {
    "fusion": FusionLoss(**{f"{name}_weight": 1.0 for name in WEIGHTS}),
    "mrsc fusion": MRSCFusionLoss(),
    "auto-encoder": AutoEncoderLoss(),
}


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A fused image and its sources, smooth as images are."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 2, 8, 8, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 1)
    noise = 0.02 * torch.rand(2, 1, 64, 64, generator=generator)
    return (image.mean(1, keepdim=True) + noise).clamp(0, 1).requires_grad_(), image


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_autocast_changes_no_loss_and_no_gradient(loss, dtype, pair) -> None:
    pred, image = pair
    image = image[:, :1] if isinstance(loss, AutoEncoderLoss) else image
    plain = loss(pred, image)
    with torch.autocast("cpu", dtype):
        value = loss(pred, image)
    assert torch.equal(value, plain)
    assert torch.equal(*(torch.autograd.grad(x, pred)[0] for x in (value, plain)))


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
@pytest.mark.filterwarnings("ignore")
def test_autocast_changes_no_metric(name, pair) -> None:
    pred, image = (x.detach() for x in pair)
    images = pred[:1], image[:1, :1], image[:1, 1:]
    plain = ALL_METRICS[name](*images)
    with torch.autocast("cpu", torch.bfloat16):
        found = ALL_METRICS[name](*images)
    torch.testing.assert_close(found.value, plain.value, rtol=0, atol=0, equal_nan=True)
