"""The losses of MRSCFusion against their terms written out, and against the package pytorch-msssim."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim, ssim
from scipy import ndimage

from clinicalfmamba_nets.losses import AutoEncoderLoss, FusionLoss, MRSCFusionLoss, ReconstructionLoss
from clinicalfmamba_nets.losses.mrsc_fusion import energy_shares, multi_scale_similarity


def images(*size):
    torch.manual_seed(0)
    image = torch.nn.functional.avg_pool2d(torch.rand(2, 2, *(2 * length for length in size)), 2)
    return image, (image.mean(1, keepdim=True) + 0.1 * torch.rand(2, 1, *size)).clamp(0, 1)


def test_similarity_is_that_of_pytorch_msssim():
    image, pred = images(176, 176)
    found = multi_scale_similarity(pred, image[:, :1])
    # There the five shares sum to 1.0001.
    expected = ms_ssim(pred, image[:, :1], 1.0, size_average=False)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_small_images_are_compared_at_fewer_scales():
    image, pred = images(21, 30)
    expected = ssim(pred, image[:, :1], 1.0, size_average=False)
    torch.testing.assert_close(multi_scale_similarity(pred, image[:, :1]), expected, atol=1e-5, rtol=0)


def test_shares_are_those_of_scipy():
    image, _ = images(20, 24)
    energy = [np.square(ndimage.laplace(255 * one.double().numpy(), mode="nearest")).mean() for one in image[0]]
    weights = np.exp(np.array(energy) / 3000 - max(energy) / 3000)
    np.testing.assert_allclose(energy_shares(image)[0], weights / weights.sum(), atol=1e-4)


def test_terms():
    image, pred = images(16, 16)
    pred.requires_grad_()
    scales = [torch.rand(3, 2, 4, 8, 8).unbind(0) for _ in range(4)]
    loss = MRSCFusionLoss(SimpleNamespace(features=scales))
    terms, shares = loss.terms(pred, image), energy_shares(image)
    distances = 0
    for weight, (fused, first, second) in zip((1, 10, 100, 1000), scales, strict=True):
        target = 10 * (shares[:, 0].view(-1, 1, 1, 1) * first + shares[:, 1].view(-1, 1, 1, 1) * second)
        distances = distances + weight * (fused - target).abs().mean()
    torch.testing.assert_close(terms["features"], distances)
    lost = [1 - multi_scale_similarity(pred, image[:, n : n + 1]) for n in range(2)]
    torch.testing.assert_close(terms["ssim"], (shares[:, 0] * lost[0] + shares[:, 1] * lost[1]).mean())
    assert terms["gradient"] == FusionLoss().terms(pred, image)["gradient"]
    total = loss(pred, image)
    torch.testing.assert_close(total, 1000 * terms["ssim"] + terms["gradient"] + terms["features"])
    total.backward()
    assert torch.isfinite(pred.grad).all() and pred.grad.any()


def test_the_auto_encoder():
    image, _ = images(16, 20)
    pred = (image + 0.1).requires_grad_()
    terms = AutoEncoderLoss().terms(pred, image)
    assert terms["pixel"].item() == pytest.approx(0.01, rel=1e-4)
    assert terms["pixel"] == ReconstructionLoss().terms(pred, image)["pixel"]
    torch.testing.assert_close(terms["ssim"], 1 - ssim(pred, image, 1.0))
    torch.testing.assert_close(AutoEncoderLoss(3.0)(pred, image), terms["pixel"] + 3 * terms["ssim"])
