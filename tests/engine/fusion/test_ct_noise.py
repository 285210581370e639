"""The noise of a CT in HU: measured, taken away where shares are decided, left in what is shown."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import binary_dilation, binary_erosion

from benchmarks.noise import PLACES, contrast_to_noise, head
from clinicalfmamba_nets.engine import Refinement, SliceInferer
from clinicalfmamba_nets.engine.fusion.ct_noise import CTNoise
from clinicalfmamba_nets.engine.fusion.pairs_as_seen import SeenPairs
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.nets import clinicalfmamba_2d
from clinicalfmamba_nets.transforms import WindowIntensityPair

LEVELS = torch.tensor([[[0.0, 1.0], [0.5, 1.0]]])  # an MR, and a CT in the brain window


def known(pair: torch.Tensor, levels: torch.Tensor = LEVELS) -> MetaTensor:
    """Tell that the second image is a CT in HU."""
    return MetaTensor(pair, meta={"tissue_levels": levels})


def measured(pair: torch.Tensor) -> torch.Tensor | None:
    """The deviations of a pair (B, 2, H, W)."""
    noise = CTNoise.of(known(pair), pair.unsqueeze(2))
    return noise.deviations if noise else None


@pytest.mark.parametrize("deviation", [3.0, 8.0, 12.0])
@pytest.mark.parametrize("kernel", [0.0, 0.8])
def test_noise_is_measured(deviation, kernel):
    pair, *_ = head(1, deviation, kernel)
    found = measured(pair[None])
    assert found is not None and found[0, 0] == 0
    assert float(found[0, 1]) * 80 == pytest.approx(deviation, rel=0.2)


@pytest.mark.parametrize("seed", [0, 1])
def test_tissue_is_no_noise(seed):
    pair, *_ = head(seed, 0.0, 0.8)
    assert measured(pair[None]) is None
    slope = torch.linspace(0.1, 0.9, 128).expand(1, 2, 128, 128)
    assert measured(slope.contiguous()) is None, "a shading"


def test_each_slice_has_its_own_noise():
    pairs = torch.stack([head(1, noise, 0.8)[0] for noise in (2.0, 2.0, 2.0, 8.0)], 1)[None]
    noise = CTNoise.of(known(pairs), pairs)
    assert noise is not None
    shown = [float(noise(pairs[:, :, number])[1].max()) * 80 for number in (0, 3)]
    assert shown[0] < 2 and shown[1] == pytest.approx(8, rel=0.2)


def test_what_fills_the_outside_of_a_ct_does_not_hide_its_noise():
    pair, _, brain = head(1, 8.0, 0.8)
    alone = measured(pair[None])
    pair[1][torch.from_numpy(~brain)] = 0.15  # 0 HU in a window that begins below it
    torch.testing.assert_close(measured(pair[None]), alone, rtol=0.1, atol=0)


def test_noise_is_known_of_a_ct_in_hu_alone(tmp_path):
    generator = torch.Generator().manual_seed(0)
    pair = (0.4 + 0.1 * torch.randn(1, 2, 64, 64, generator=generator)).clamp(0, 1)
    slices = pair.unsqueeze(2)
    assert CTNoise.of(known(pair), slices) is not None
    assert CTNoise.of(pair, slices) is None and CTNoise.of(MetaTensor(pair), slices) is None
    assert CTNoise.of(known(pair, torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])), slices) is None, "an MR"
    hounsfield = WindowIntensityPair(task="ct_mri")(
        torch.stack([pair[0, 0] * 900, pair[0, 1] * 80 - (pair[0, 1] < 0.1) * 1000])
    )
    assert CTNoise.of(hounsfield[None], hounsfield.as_tensor()[None].unsqueeze(2)) is not None
    picture = WindowIntensityPair(task="ct_mri")((pair[0] * 255).to(torch.uint8))
    assert CTNoise.of(picture[None], picture.as_tensor()[None].unsqueeze(2)) is None


def test_noise_is_taken_away_and_edges_stay():
    pair, lesions, brain = head(0, 8.0, 0.0)
    clean, *_ = head(0, 0.0, 0.0)
    noise = CTNoise.of(known(pair[None]), pair[None].unsqueeze(2))
    quiet, shown = noise(pair[None])
    assert torch.equal(quiet[:, 0], pair[None, 0]) and not shown[:, 0].any()
    left, there = ((x - clean[1])[torch.from_numpy(brain)].std() for x in (quiet[0, 1], pair[1]))
    assert left < 0.45 * there
    bleeding = lesions["bleeding of 70 HU"]
    middle, whole = (torch.from_numpy(mask) for mask in (binary_erosion(bleeding, iterations=6), bleeding))
    assert quiet[0, 1][middle].mean() == pytest.approx(float(pair[1][middle].mean()), abs=0.02)
    assert quiet[0, 1][whole].mean() > pair[1][whole].mean() - 0.06, "of .4 above the brain"
    bone = clean[1] >= 1
    assert not shown[0, 1][bone].any() and torch.equal(quiet[0, 1][bone], pair[1][bone])
    even = torch.from_numpy(
        brain & ~binary_dilation(clean[1] < 0.3, iterations=8) & ~binary_dilation(clean[1] > 0.5, iterations=8)
    )
    assert (shown[0, 1] > 0).float()[even].mean() > 0.9


def thin_and_small() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A head with noise of 8 HU in its CT, and what of 60 HU the CT alone shows in the brain of 35 HU."""
    y, x = torch.meshgrid(torch.arange(160.0) - 80, torch.arange(160.0) - 80, indexing="ij")
    radius = torch.hypot(x, y)
    parts = {
        "artery, across": ((y + 30).abs() < 1.5) & (x.abs() < 20),
        "artery, oblique": ((y - x + 16).abs() < 2) & (x > 16) & (x < 44),
        "sulcus": ((x + 30 - 3 * torch.sin(y / 6)).abs() < 1.5) & (y.abs() < 20),
        "bleeding": torch.hypot(x, y - 30) < 4,
    }
    noise = (
        torch.randn(1, 2, 160, 160, generator=torch.Generator().manual_seed(3)) * torch.tensor([1.6, 8])[:, None, None]
    )
    mr = torch.where(radius < 60, 40.0, 5.0) * (radius < 74)
    ct = torch.where(radius < 60, 35.0, 1100.0) * (radius < 66) - 1000.0 * (radius >= 74)
    for part in parts.values():
        ct[part] = 60
    return ((torch.stack([mr, ct]) + noise[0]) / 80).clamp(0, 1), parts


def test_dense_arteries_sulci_and_small_bleedings_stay():
    pair, parts = thin_and_small()
    pipeline = FusionPipeline("ct_mri", "cpu")
    with torch.inference_mode():
        fused = torch.as_tensor(pipeline.inferer(known(pair[None]), pipeline.network))[0, 0]
    quiet, _ = CTNoise.of(known(pair[None]), pair[None].unsqueeze(2))(pair[None])
    for name, part in parts.items():
        around = binary_dilation(part, iterations=8) & ~binary_dilation(part, iterations=2)
        given, shown, kept = (float(x[part].mean() - x[around].median()) for x in (pair[1], fused, quiet[0, 1]))
        assert kept > 0.7 * given and shown > 0.6 * given, name


def test_the_mirror_image_gives_the_mirrored_one_to_the_bit():
    pair = head(1, 8.0, 0.8)[0][None]
    noise, turned = measured(pair), measured(pair.flip(3))
    assert torch.equal(noise, turned)
    for here, there in zip(CTNoise(noise)(pair), CTNoise(noise)(pair.flip(3)), strict=True):
        assert torch.equal(here.flip(3), there)


@pytest.mark.parametrize("size", [(3, 40), (16, 5), (7, 7)])
def test_pictures_too_small_to_tell_stay_as_they_are(size):
    assert measured(torch.rand(1, 2, *size)) is None


@pytest.mark.parametrize("return_weights", [False, True])
def test_the_shares_are_decided_without_noise_and_mix_the_images_as_they_are(return_weights):
    torch.manual_seed(0)
    network = clinicalfmamba_2d(
        features=4, dim=16, depth=1, d_state=4, head="mix", return_weights=return_weights
    ).eval()
    pair = head(1, 8.0, 0.8)[0][None, :, 64:160, 64:160]
    image = known(pair)
    with torch.no_grad():
        fused = SliceInferer(smooth=False)(image, network).as_tensor()
        shares = SliceInferer(smooth=False)(pair, network)
        seen = SeenPairs.of(image, pair.unsqueeze(2))(pair)
        given = network(seen)
    assert not torch.allclose(fused, shares)
    least, most = pair.amin(1, keepdim=True), pair.amax(1, keepdim=True)
    assert ((fused[:, :1] >= least - 1e-6) & (fused[:, :1] <= most + 1e-6)).all()
    if return_weights:
        torch.testing.assert_close(fused[:, 1], given[:, 1])
        torch.testing.assert_close(fused[:, :1], torch.lerp(pair[:, 1:], pair[:, :1], given[:, 1:]))


@pytest.mark.parametrize("bone", [1.0, 0.6])
def test_a_network_that_draws_its_result_sees_the_pair_as_it_is(bone):
    torch.manual_seed(0)
    network = clinicalfmamba_2d(features=4, dim=16, depth=1, d_state=4, head="sigmoid").eval()
    pair = head(1, 8.0, 0.8)[0][None, :, 64:160, 64:160]
    image = known(pair, torch.tensor([[[0.0, 1.0], [0.5, bone]]]))
    with torch.no_grad():
        assert torch.equal(SliceInferer()(image, network).as_tensor(), SliceInferer()(pair, network))


def test_pairs_of_a_batch_give_what_they_give_alone():
    pairs = [head(seed, noise, 0.8)[0][None, :, 64:160, 64:160] for seed, noise in ((0, 0.0), (1, 8.0))]
    inferer = SliceInferer(refinement=Refinement(steps=4))
    network = FusionPipeline("ct_mri", "cpu").network
    with torch.no_grad():
        together = inferer(known(torch.cat(pairs), LEVELS.expand(2, 2, 2)), network).as_tensor()
        alone = torch.cat([inferer(known(pair), network).as_tensor() for pair in pairs])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_lesions_of_both_images_keep_their_contrast_to_noise(dims):
    pipeline = FusionPipeline("ct_mri", "cpu")
    pair, lesions, brain = head(1, 8.0, 0.8)
    given = {2: pair, 3: torch.stack([pair] * 2, -1)}[dims][None]

    def kept(image: torch.Tensor) -> dict[str, float]:
        with torch.inference_mode():
            fused = torch.as_tensor(pipeline.inferer(image, pipeline.network))[0, 0]
        fused = fused if dims == 2 else fused[..., 0]
        images = {name: (fused.numpy(), pair[source].numpy()) for name, (*_, source, _) in PLACES.items()}
        shown = {name: [contrast_to_noise(x, name, lesions, brain) for x in both] for name, both in images.items()}
        return {name: found / there for name, (found, there) in shown.items()}

    assert min(kept(known(given)).values()) >= 0.8
    assert kept(given)["MR darker by .2"] < 0.4, "of an image that is not known to be a CT"
