"""Volumes by a network for volumes: their shares refined slice by slice, the noise of a CT known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from benchmarks.noise import head
from clinicalfmamba_nets.blocks.heads import MixHead, mix
from clinicalfmamba_nets.engine import Refinement, VolumeInferer
from clinicalfmamba_nets.nets import clinicalfmamba_3d

FEW = Refinement(steps=6, lesions=6.0)
LEVELS = torch.tensor([[[0.0, 1.0], [0.5, 1.0]]])
RIGHT_TO_LEFT = torch.diag(torch.tensor([-1.0, 1.0, 3.0, 1.0]))


class Even(nn.Module):
    """One share everywhere; what it sees is kept."""

    def __init__(self, share: float = 0.6, return_weights: bool = False) -> None:
        super().__init__()
        self.head = MixHead(3, 2, return_weights)
        self.share, self.seen = share, []

    def forward(self, image):
        self.seen.append(image)
        shares = torch.full_like(image[:, :1], self.share)
        fused = mix(image, shares)
        return torch.cat([fused, shares], 1) if self.head.return_weights else fused


def small_network(kind: str = "mix", return_weights: bool = False) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"features": 4, "dim": 16, "depth": 1, "d_state": 4}
    return clinicalfmamba_3d(**sizes, head=kind, return_weights=return_weights).eval()


def two_sources(shape=(41, 36, 20)) -> torch.Tensor:
    """A pair (1, 2, X, Y, Z) of smooth sources with some noise, in air."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 2, 5, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, shape, mode="trilinear")
    image = (smooth + 0.05 * torch.rand(1, 2, *shape, generator=generator)).clamp(0, 1)
    image[:, :, :3], image[..., -2:] = 0, 0
    return image


def noisy_ct(size: int = 96, slices: int = 4) -> torch.Tensor:
    """An MR and a CT in HU with noise of 8 HU, (1, 2, X, Y, Z), and the lesions of each."""
    pair = head(1, 8.0, 0.8)[0][:, 64 : 64 + size, 64 : 64 + size]
    return torch.stack([pair] * slices, -1)[None]


def run(inferer: VolumeInferer, image: torch.Tensor, network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(inferer(image, network)).clone()


def test_each_axial_slice_is_refined_by_itself():
    image = two_sources()
    fused = run(VolumeInferer(margin=40, refinement=replace(FEW, settling=0)), image, Even())
    start = mix(image, torch.full_like(image[:, :1], 0.6))
    for number in range(0, 18, 4):  # rows run down from the front, columns from the right
        pair, given = (x[..., number].transpose(2, 3).flip(2, 3) for x in (image, start))
        expected = FEW(given, pair).flip(2, 3).transpose(2, 3)
        torch.testing.assert_close(fused[..., number], expected)
    assert (fused - start).abs().max() > 0.05


def test_the_correlation_weighs_as_in_volumes():
    image = two_sources()
    own = Refinement(steps=6, correlation=2.0, volume_correlation=0.1)
    results = [run(VolumeInferer(refinement=given), image, Even()) for given in (own, own.of_volumes())]
    assert torch.equal(*results)


@pytest.mark.parametrize("return_weights", [False, True])
def test_every_result_is_a_mix(return_weights):
    image, network = two_sources(), small_network(return_weights=return_weights)
    fused = run(VolumeInferer(refinement=FEW, mirror=True), image, network)
    assert (fused[:, :1] <= image.amax(1, keepdim=True) + 1e-5).all()
    assert (fused[:, :1] >= image.amin(1, keepdim=True) - 1e-5).all()
    assert fused.shape[1] == 1 + return_weights
    if return_weights:
        torch.testing.assert_close(mix(image, fused[:, 1:]), fused[:, :1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("known", [False, True])
def test_a_mirrored_volume_gives_the_mirrored_result(known):
    image = noisy_ct(95) if known else two_sources()
    meta = {"tissue_levels": LEVELS} if known else {}
    inferer, network = VolumeInferer(refinement=FEW, mirror=True), small_network()
    pairs = [MetaTensor(x, affine=RIGHT_TO_LEFT, meta=meta) for x in (image, image.flip(2))]
    fused, mirrored = (run(inferer, pair, network) for pair in pairs)
    torch.testing.assert_close(mirrored.flip(2), fused, atol=1e-5, rtol=0)
    assert not torch.allclose(fused, run(VolumeInferer(mirror=True), pairs[0], network), atol=1e-2)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_order_of_storage_changes_nothing(order):
    image, affine = noisy_ct(), RIGHT_TO_LEFT.clone()
    inferer, network = VolumeInferer(refinement=FEW), small_network()
    expected = run(inferer, MetaTensor(image, affine=affine, meta={"tissue_levels": LEVELS}), network)
    affine[:, 1] *= -1
    affine[1, 3] = image.shape[3] - 1
    stored = image.flip(3).permute(0, 1, *(2 + axis for axis in order)).contiguous()
    turned = MetaTensor(stored, affine=affine[:, [*order, 3]], meta={"tissue_levels": LEVELS})
    places = [2 + order.index(axis) for axis in range(3)]
    found = run(inferer, turned, network).permute(0, 1, *places).flip(3)
    assert torch.equal(found, expected)


def test_a_network_sees_a_ct_without_its_noise_and_the_result_mixes_the_ct_as_it_is():
    image, network = noisy_ct(), Even(0.5, return_weights=True)
    fused = run(VolumeInferer("whole"), MetaTensor(image, meta={"tissue_levels": LEVELS}), network)
    (seen,) = network.seen
    grain, left = (x[0, 1].diff(dim=0)[40:56, 8:24].std() for x in (image, seen))
    assert seen.shape == image.shape and torch.equal(seen[:, 0], image[:, 0])
    assert left < 0.3 * grain
    torch.testing.assert_close(fused[:, :1], mix(image, fused[:, 1:]))
    unknown = Even(0.5)
    run(VolumeInferer("whole"), image, unknown)
    assert torch.equal(unknown.seen[0], image)


def test_windows_see_the_noise_of_the_whole_slice():
    image, network = noisy_ct(), small_network(return_weights=True)
    pair = MetaTensor(image, meta={"tissue_levels": LEVELS})
    fused = run(VolumeInferer(roi_size=(48, 48, 16)), pair, network)
    torch.testing.assert_close(fused[:, :1], mix(image, fused[:, 1:]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "changed"), [("mix", True), ("sigmoid", False), ("gain", False)])
def test_only_what_a_network_mixes_is_refined(kind, changed):
    image, network = two_sources(), small_network(kind)
    refined, plain = (run(VolumeInferer(refinement=given), image, network) for given in (FEW, None))
    assert torch.equal(refined, plain) is not changed


@pytest.mark.parametrize("shape", [(24, 20, 3), (3, 24, 20), (24, 20, 1)])
def test_thin_volumes(shape):
    image = torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(0))
    fused = run(VolumeInferer(refinement=FEW, mirror=True), image, Even())
    assert fused.shape == (1, 1, *shape) and not torch.equal(fused, mix(image, torch.full_like(image[:, :1], 0.6)))


def test_a_volume_of_background_alone():
    image = torch.zeros(1, 2, 20, 20, 18)
    assert torch.equal(run(VolumeInferer(refinement=FEW), image, Even()), image[:, :1])
