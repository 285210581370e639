"""How a batch reaches the network, and the loss that keeps its terms."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from clinicalfmamba_nets.engine.fusion.inferers import (
    SliceInferer,
    VolumeInferer,
    WholeImageInferer,
    prepare_fusion_batch,
)
from clinicalfmamba_nets.engine.training.tracked_loss import TrackedLoss
from clinicalfmamba_nets.losses import FusionLoss


def test_the_pair_is_input_and_target():
    image, target = prepare_fusion_batch({"image": torch.zeros(2, 2, 4, 4)}, "cpu", dtype=torch.float64)
    assert image is target
    assert image.dtype == torch.float64


def test_inferer_gives_the_network_a_plain_tensor_and_keeps_the_place():
    seen = []

    def network(image):
        seen.append(type(image))
        return image.mean(1, keepdim=True)

    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0]))
    image = MetaTensor(torch.rand(1, 2, 4, 4), affine=affine, meta={"filename_or_obj": "a.png"})
    fused = WholeImageInferer()(image, network)
    assert seen == [torch.Tensor]
    assert fused.meta["filename_or_obj"] == "a.png"
    assert torch.equal(fused.affine.float(), affine)
    assert type(WholeImageInferer()(torch.rand(1, 2, 4, 4), network)) is torch.Tensor


def test_amp_computes_in_bfloat16_on_any_device():
    seen = []

    def network(image):
        mixed = image.flatten(1) @ torch.rand(image[0].numel(), 16)
        seen.append(mixed.dtype)
        return mixed.reshape(-1, 1, 4, 4)

    for amp, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        fused = WholeImageInferer(amp)(torch.rand(1, 2, 4, 4), network)
        assert (seen[-1], fused.dtype) == (dtype, torch.float32)


def test_tracked_loss_equals_the_loss_and_keeps_its_terms():
    loss = FusionLoss()
    tracked = TrackedLoss(loss)
    image = torch.rand(3, 2, 16, 16)
    pred = torch.rand(3, 1, 16, 16, requires_grad=True)
    value = tracked(pred, image)
    assert value.item() == pytest.approx(loss(pred, image).item(), rel=1e-6)
    assert set(tracked.latest) == {"loss", *loss.terms(pred, image)}
    assert not any(term.requires_grad for term in tracked.latest.values())
    assert tracked.pairs == 3
    value.backward()
    assert pred.grad.abs().sum() > 0


def test_a_thin_axis_is_the_one_across():
    seen = []

    def network(pair):
        seen.append(tuple(pair.shape[2:]))
        return pair.mean(1, keepdim=True)

    for shape in ((1, 20, 24), (20, 1, 24), (20, 24, 1), (3, 20, 24)):
        pair = MetaTensor(torch.rand(1, 2, *shape), affine=torch.eye(4))
        fused = SliceInferer()(pair, network)
        assert fused.shape == (1, 1, *shape) and torch.allclose(fused.as_tensor(), pair.as_tensor().mean(1, True))
    assert {tuple(sorted(plane)) for plane in seen} == {(20, 24)} and len(seen) == 6


@pytest.mark.parametrize("inferer", [SliceInferer(mirror=True), VolumeInferer(roi_size=(16, 16, 16), mirror=True)])
@pytest.mark.parametrize("shape", [(24, 20, 18), (24, 20, 3), (3, 20, 24)])
def test_a_mirrored_volume_gives_the_mirrored_result(inferer, shape):
    def network(pair):  # unlike on both sides
        place = torch.linspace(0, 1, pair.shape[-1])
        return pair[:, :1] * place + pair[:, 1:] * (1 - place) * torch.linspace(0, 1, pair.shape[2]).reshape(
            -1, *[1] * (pair.dim() - 3)
        )

    pair = MetaTensor(torch.rand(1, 2, *shape), affine=torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0])))
    fused, mirrored = inferer(pair, network), inferer(pair.flip(2), network)
    assert torch.equal(mirrored.flip(2).as_tensor(), fused.as_tensor())
    apart = type(inferer)()(pair, network).as_tensor()
    assert shape[0] == 3 or not torch.equal(apart, type(inferer)()(pair.flip(2), network).flip(2).as_tensor())


@pytest.mark.parametrize(("rows", "box"), [((30, 60), 64), ((0, 40), 56), ((0, 2), 33), ((40, 41), 65), ((0, 96), 96)])
def test_of_slices_only_the_box_around_the_head_is_computed(rows, box):
    pair = torch.zeros(1, 2, 96, 96, 20)
    pair[0, 0, 40:60, rows[0] : rows[1], 3:9] = 0.5
    pair[0, 1, 30:70, rows[0] : rows[1], 5:11] = 1
    seen = []

    def network(image):
        seen.append(tuple(image.shape[2:]))
        return image.mean(1, keepdim=True)

    assert torch.equal(SliceInferer()(pair, network), pair.mean(1, keepdim=True))
    assert seen == [(box, 72)] * 8


def test_a_volume_of_background_alone_is_fused():
    assert torch.equal(SliceInferer()(torch.zeros(1, 2, 40, 40, 3), lambda x: x[:, :1]), torch.zeros(1, 1, 40, 40, 3))
