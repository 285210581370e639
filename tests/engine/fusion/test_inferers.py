"""How a batch reaches the network, and the loss that keeps its terms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor

from clinicalfmamba_nets.engine import (
    SliceInferer,
    TrackedLoss,
    VolumeInferer,
    WholeImageInferer,
    prepare_fusion_batch,
)
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


def head_in_air(shape=(120, 101, 6), noise=0.04):
    """A pair (1, 2, X, Y, Z) whose head grows from slice to slice, in noisy air of the first image."""
    place = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing="ij"))
    head = (place[0] / 0.5).square() + ((place[1] - 0.1) / 0.6).square() < 0.4 + 0.6 * (place[2] + 1) / 2
    generator = torch.Generator().manual_seed(0)
    air = 2 * noise * torch.rand(shape, generator=generator)
    first = torch.where(head, 0.4 + 0.3 * torch.rand(shape, generator=generator), air)
    return torch.stack([first, torch.where(head, torch.full(shape, 0.8), torch.zeros(shape))]).unsqueeze(0), head


@pytest.mark.parametrize("mirror", [False, True])
def test_of_slices_only_the_box_around_the_head_is_computed(mirror):
    pair, head = head_in_air()
    seen = []

    def network(image):
        seen.append(image.shape[2] * image.shape[3])
        return torch.lerp(image[:, 1:], image[:, :1], 0.25)

    fused = SliceInferer(mirror=mirror, smooth=False)(pair, network)
    assert len(seen) == 6 * (1 + mirror) and seen[0] < seen[-1] <= 0.65 * 120 * 101
    torch.testing.assert_close(fused, torch.lerp(pair[:, 1:], pair[:, :1], 0.25), rtol=0, atol=1e-6)
    seen.clear()
    torch.testing.assert_close(VolumeInferer(mirror=mirror)(pair, network), fused)


def test_a_box_keeps_the_grid_of_the_strides_in_place():
    pair, head = head_in_air()

    def network(image):  # strides of 8 pixels
        size = image.shape[2:]
        coarse = F.avg_pool2d(F.pad(image[:, :1], (0, -size[1] % 8, 0, -size[0] % 8), mode="replicate"), 8)
        return F.interpolate(coarse, scale_factor=8.0)[:, :, : size[0], : size[1]]

    fused = SliceInferer(smooth=False)(pair, network)
    for number in range(pair.shape[4]):  # as a radiologist sees a slice: rows are Y from above, columns X
        image = pair[0, :, :, :, number].transpose(1, 2).flip(1, 2).unsqueeze(0)
        whole = network(image)[0, 0].flip(0, 1).transpose(0, 1)
        inside = head[:, :, number]
        assert torch.equal(fused[0, 0, :, :, number][inside], whole[inside])


@pytest.mark.parametrize("width", [120, 101])
def test_a_head_in_air_that_is_mirrored_gives_the_mirrored_result(width):
    pair, _ = head_in_air((width, 96, 5))
    pair = MetaTensor(pair, affine=torch.diag(torch.tensor([-1.0, 1.0, 3.0, 1.0])))

    def network(image):
        weight = torch.linspace(0, 1, image.shape[3])
        return image[:, :1] * weight + image[:, 1:] * (1 - weight)

    inferer = SliceInferer(mirror=True)
    fused, mirrored = inferer(pair, network), inferer(pair.flip(2), network)
    assert torch.equal(mirrored.flip(2).as_tensor(), fused.as_tensor())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_air_outside_the_box_is_mixed_as_the_air_inside(share):
    pair, head = head_in_air()
    weights = []

    def network(image):
        weight = torch.full_like(image[:, :1], share)
        weights.append(weight)
        return torch.cat([torch.lerp(image[:, 1:], image[:, :1], weight), weight], 1)

    fused = SliceInferer(smooth=False)(pair, network)
    torch.testing.assert_close(fused[:, :1], torch.lerp(pair[:, 1:], pair[:, :1], share), rtol=0, atol=1e-6)
    torch.testing.assert_close(fused[:, 1:], torch.full_like(fused[:, 1:], share))


def test_a_bright_thing_outside_the_head_is_computed():
    pair, _ = head_in_air()
    pair[0, 0, 2:7, 2:7, 3] = 0.5
    seen = []

    def network(image):
        seen.append(tuple(image.shape[2:]))
        return image[:, :1]

    SliceInferer()(pair, network)
    assert seen[3][0] * seen[3][1] > 1.5 * seen[2][0] * seen[2][1] and seen[4][0] < seen[3][0]


def test_a_volume_of_background_alone_is_fused():
    assert torch.equal(SliceInferer()(torch.zeros(1, 2, 40, 40, 3), lambda x: x[:, :1]), torch.zeros(1, 1, 40, 40, 3))


def test_slices_that_follow_other_sources_are_led_into_one_another():
    pair = MetaTensor(torch.full((1, 2, 40, 36, 20), 0.3), affine=torch.eye(4))
    pair[:, 0] = 0.7

    def network(image):  # takes the brighter source in one half of the volume, the darker one in the other
        seen.append(0)
        return image[:, :1] if len(seen) > 10 else image[:, 1:]

    steps = []
    for smooth in (False, True):
        seen = []
        fused = SliceInferer(smooth=smooth)(pair, network)
        assert fused.min() > 0.2999 and fused.max() < 0.7001
        steps.append(fused.as_tensor().diff(dim=4).abs().max().item())
    assert steps[0] == pytest.approx(0.4) and steps[1] < 0.15


def test_a_single_slice_stays_as_the_network_gives_it():
    pair = torch.rand(1, 2, 40, 36, 1, generator=torch.Generator().manual_seed(0))
    share = torch.rand(36, 40, generator=torch.Generator().manual_seed(1))

    def network(image):
        return torch.lerp(image[:, 1:], image[:, :1], share)

    assert torch.equal(SliceInferer()(pair, network), SliceInferer(smooth=False)(pair, network))
