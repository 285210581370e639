"""The fusion loss: its terms by hand, its options, its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from clinicalfmamba_nets.losses import FusionLoss, shading_error


def _pair(*shape: int) -> torch.Tensor:
    return torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(32, 40), (16, 12, 20)])
def test_terms_vanish_for_one_source_given_twice(shape) -> None:
    image = _pair(*shape)[:, :1].repeat(1, 2, *[1] * len(shape))
    for gradient in ("magnitude", "signed"):
        terms = FusionLoss(gradient=gradient).terms(image[:, :1], image)
        assert all(float(value) == pytest.approx(0, abs=1e-6) for value in terms.values())


def test_terms_by_hand() -> None:
    image = _pair(32, 40)
    pred = image.mean(1, keepdim=True)
    terms = FusionLoss().terms(pred, image)
    assert float(terms["pixel"]) == pytest.approx(float((pred - image.amax(1, True)).abs().mean()))
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    kernels = torch.stack([kernel, kernel.t()]).unsqueeze(1)
    size = [F.conv2d(x, kernels, padding=1).abs().sum(1, True) for x in (pred, image[:, :1], image[:, 1:])]
    assert float(terms["gradient"]) == pytest.approx(float((size[0] - torch.maximum(*size[1:])).abs().mean()), rel=1e-5)
    padded = [F.pad(x, [20] * 4)[0, 0].numpy() for x in (pred[:1], image[:1, :1], image[:1, 1:])]
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    maps = [structural_similarity(padded[0], p, full=True, **options)[1][20:-20, 20:-20] for p in padded[1:]]
    alone = FusionLoss().terms(pred[:1], image[:1])
    assert float(alone["ssim"]) == pytest.approx(1 - (maps[0].mean() + maps[1].mean()) / 2, abs=2e-4)
    other = FusionLoss().terms(pred[1:], image[1:])
    assert float(terms["ssim"]) == pytest.approx(float(alone["ssim"] + other["ssim"]) / 2, rel=1e-5)


def test_signed_gradient_sees_a_reversed_edge() -> None:
    edge = torch.zeros(1, 1, 16, 16)
    edge[..., 8:] = 1
    image = torch.cat([edge, torch.zeros_like(edge)], dim=1)
    reversed_edge = 1 - edge
    inside = slice(4, 12)  # away from the zero padding
    magnitude = FusionLoss()._gradient_difference(reversed_edge, image)[..., inside, inside]
    signed = FusionLoss(gradient="signed")._gradient_difference(reversed_edge, image)[..., inside, inside]
    assert magnitude.abs().max() == 0
    assert signed.abs().max() == 8


@pytest.mark.parametrize("options", [{}, {"gradient": "signed"}, {"p": 2}, {"ssim_balance": 0.7}], ids=str)
def test_gradients_are_finite_and_the_sum_is_weighted(options) -> None:
    image = _pair(24, 24)
    pred = torch.full((2, 1, 24, 24), 0.5, requires_grad=True)
    loss = FusionLoss(1.0, 2.0, 3.0, **options)
    total, terms = loss(pred, image), loss.terms(pred, image)
    assert float(total) == pytest.approx(float(terms["pixel"] + 2 * terms["gradient"] + 3 * terms["ssim"]), rel=1e-5)
    total.backward()
    assert torch.isfinite(pred.grad).all() and pred.grad.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient": "sobel"}, "gradient: expected"),
        ({"p": 3}, "p: expected"),
        ({"pixel_weight": -1}, "weight of pixel: expected a number of at least 0, found -1"),
        ({"shading_weight": float("nan")}, "weight of shading: expected a number of at least 0, found nan"),
        ({"ssim_weight": "5"}, "weight of ssim: expected a number of at least 0, found '5'"),
        ({"ssim_balance": 2}, "ssim_balance: expected a share from 0 to 1, found 2"),
    ],
)
def test_wrong_options_are_named(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        FusionLoss(**options)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected fused \(B, 1, \*S\)"):
        FusionLoss()(torch.rand(1, 1, 8, 8), torch.rand(1, 2, 8, 9))


def test_volumes_by_slices_are_the_mean_over_their_slices():
    image, pred = torch.rand(2, 2, 24, 20, 6), torch.rand(2, 1, 24, 20, 6)
    terms = {"edge_weight": 1.0, "information_weight": 1.0, "correlation_weight": 1.0}
    of_volume = FusionLoss(by_slices=True, **terms).terms(pred, image)
    each = [FusionLoss(**terms).terms(pred[..., place], image[..., place]) for place in range(6)]
    for name in ("pixel", "gradient", "ssim", "information"):
        assert of_volume[name].item() == pytest.approx(sum(terms[name].item() for terms in each) / 6, rel=1e-4), name
    whole = FusionLoss(by_slices=True, shading_weight=1.0).terms(pred, image)["shading"]
    assert whole.item() == pytest.approx(shading_error(pred, image).item())  # of the volume: slices see one another
