"""The loss of FusionMamba against its three terms written out."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.losses import FusionLoss, FusionMambaLoss


def test_only_the_intensities_are_squared():
    torch.manual_seed(0)
    image, pred = torch.rand(2, 2, 20, 24), torch.rand(2, 1, 20, 24)
    own, plain = FusionMambaLoss(2, 3, 4), FusionLoss(2, 3, 4)
    terms, others = own.terms(pred, image), plain.terms(pred, image)
    assert terms["pixel"].item() == pytest.approx(((pred - image.amax(1, keepdim=True)) ** 2).mean().item())
    assert terms["gradient"] == others["gradient"] and terms["ssim"] == others["ssim"]
    expected = 2 * terms["pixel"] + 3 * terms["gradient"] + 4 * terms["ssim"]
    torch.testing.assert_close(own(pred, image), expected)
    assert FusionMambaLoss().weights == {"pixel": 20.0, "gradient": 10.0, "ssim": 10.0}
