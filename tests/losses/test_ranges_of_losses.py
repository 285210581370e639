"""What every loss must refuse or stand: other ranges and dtypes, black, constant and equal images, tiny ones."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.errors import FusionInputError, FusionWarning
from clinicalfmamba_nets.losses import (
    FusionLoss,
    FusionMambaLoss,
    GradingLoss,
    MRSCFusionLoss,
    ReconstructionLoss,
    edge_overshoot,
    edge_preservation,
    information_fidelity,
    plateau_error,
    shading_error,
    spot_loss,
)

LOSSES = {"fusion": (FusionLoss, 2), "reconstruction": (ReconstructionLoss, 1)}


def batch(name, *spatial):
    loss, sources = LOSSES[name]
    image = torch.rand(2, sources, *spatial, generator=torch.Generator().manual_seed(0))
    return loss(), image.mean(1, keepdim=True), image


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [255, 1023, 4095])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int16, torch.uint16])
def test_images_of_another_range_are_refused(name, scale, dtype):
    loss, pred, image = batch(name, 24, 24)
    scale = min(scale, 255) if dtype is torch.uint8 else scale
    with pytest.raises(FusionInputError, match="image: expected values from 0 to 1, found .*scale the images to 0..1"):
        loss((pred * scale).to(dtype), (image * scale).to(dtype))


@pytest.mark.parametrize("name", LOSSES)
def test_signed_and_unfinished_images_are_refused_and_wild_predictions_told(name):
    loss, pred, image = batch(name, 24, 24)
    with pytest.raises(FusionInputError, match="image: expected values from 0 to 1, found -"):
        loss(pred, 2 * image - 1)
    with pytest.raises(FusionInputError, match="image: expected finite values"):
        loss(pred, image / 0)
    with pytest.warns(FusionWarning, match="pred: expected values from 0 to 1"):
        loss(pred * 255, image)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_constant_images_cost_nothing_and_have_a_gradient(name, value):
    loss, pred, image = batch(name, 20, 20)
    flat = torch.full_like(pred, value).requires_grad_()
    cost = loss(flat, torch.full_like(image, value))
    cost.backward()
    assert cost.item() == pytest.approx(0, abs=1e-5) and flat.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("spatial", [(1, 1), (3, 5), (2, 3, 4)])
def test_images_smaller_than_the_window_have_a_finite_loss(name, spatial):
    loss, pred, image = batch(name, *spatial)
    assert loss(pred, image).isfinite()
    with pytest.raises(FusionInputError, match="at least one value"):
        loss(pred[..., :0], image[..., :0])


def test_shapes_and_labels_are_checked():
    with pytest.raises(ValueError, match=r"one shape, found \(2, 1, 8, 8\), \(2, 2, 8, 8\)"):
        ReconstructionLoss()(torch.rand(2, 1, 8, 8), torch.rand(2, 2, 8, 8))
    with pytest.raises(ValueError, match=r"one shape, found \(2, 1\), \(2,\)"):
        GradingLoss()(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(FusionInputError, match="label: expected values from 0 to 1, found 1 to 2; give 1 for high"):
        GradingLoss()(torch.zeros(2, 1), torch.tensor([[2], [1]]))
    assert GradingLoss()(torch.zeros(2, 1), torch.tensor([[0], [1]])).isfinite()


PUBLIC = [FusionLoss(), FusionMambaLoss(), MRSCFusionLoss(), edge_overshoot, edge_preservation]
PUBLIC += [information_fidelity, plateau_error, shading_error, spot_loss]


@pytest.mark.parametrize("loss", PUBLIC, ids=lambda loss: getattr(loss, "__name__", type(loss).__name__))
def test_fused_images_of_other_pairs_are_refused(loss):
    pred, image = torch.rand(2, 1, 24, 24), torch.rand(2, 2, 24, 24)
    others = [(pred[:1], image), (pred, image[:, :1]), (pred, image[:, [0, 1, 1]]), (pred[..., 1:], image)]
    for fused, sources in [*others, (image, image), (pred[0], image[0])]:
        with pytest.raises(FusionInputError, match=r"expected fused \(B, 1, \*S\) and sources \(B, 2, \*S\), found"):
            loss(fused, sources)
    with pytest.raises(FusionInputError, match="expected two tensors, found Tensor and NoneType"):
        loss(pred, None)


def test_complex_images_are_refused():
    with pytest.raises(FusionInputError, match="expected real numbers, found complex ones"):
        FusionLoss()(torch.rand(1, 1, 16, 16), torch.rand(1, 2, 16, 16) + 0j)
