"""Refined shares: between the sources, alike over the mirror, what was lost comes back, what is bright stays."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.blocks.heads import MixHead
from clinicalfmamba_nets.engine import Refinement, SliceInferer
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.losses.edges import SourceTexture, edge_preservation
from clinicalfmamba_nets.nets import clinicalfmamba_2d
from clinicalfmamba_nets.ops import native, scan_backend

CT_MRI = Refinement(overshoot=0.12, information=0.2, lesions=12.0)


@pytest.fixture(params=["auto", "torch"])
def backend(request):
    """The kernel where it is built, and torch's operations."""
    with scan_backend(request.param):
        yield request.param


def random_pair(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Two smooth images with some noise, (1, 2, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 2, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (smooth + 0.05 * torch.rand(1, 2, height, width, generator=generator)).clamp(0, 1)


def mixed(image: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The mix and its share, (1, 2, H, W)."""
    return torch.cat([share * image[:, :1] + (1 - share) * image[:, 1:], share], 1)


def head(texture: float = 0.06) -> torch.Tensor:
    """An MRI with texture and a CT of even brain, 96 x 96, with a skull of 8 pixels that the MRI does not show."""
    rows, columns = torch.meshgrid(torch.arange(96.0) - 47.5, torch.arange(96.0) - 47.5, indexing="ij")
    radius = torch.hypot(rows, columns)
    generator = torch.Generator().manual_seed(3)
    coarse = torch.nn.functional.interpolate(torch.randn(1, 1, 24, 24, generator=generator), (96, 96), mode="bilinear")
    mri = torch.where(radius < 38, 0.55 + texture * coarse[0, 0], 0.0)
    ct = torch.where(radius < 38, 0.45, 0.0) + 0.01 * torch.randn(96, 96, generator=generator)
    return torch.stack([mri, torch.where((radius >= 38) & (radius < 46), 1.0, ct)])[None].clamp(0, 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", [Refinement(), CT_MRI])
def test_every_pixel_stays_between_the_sources_and_within_reach(seed, weights):
    image = random_pair(56, 64, seed)
    fused = mixed(image, torch.rand(1, 1, 56, 64, generator=torch.Generator().manual_seed(seed)))
    refined = weights(fused, image)
    assert (refined[:, :1] <= image.amax(1, keepdim=True) + 1e-5).all()
    assert (refined[:, :1] >= image.amin(1, keepdim=True) - 1e-5).all()
    assert torch.allclose(mixed(image, refined[:, 1:]), refined, atol=1e-5)  # the shares are those of the result
    assert (refined - fused)[:, 0].abs().max() <= weights.reach + 1e-5
    assert edge_preservation(refined[:, :1], image) > edge_preservation(fused[:, :1], image) + 0.02


def test_a_dark_lesion_of_the_ct_alone_comes_back(backend):
    image = head()
    image[0, 1, 40:54, 54:68] -= 0.2
    fused = mixed(image, (image[:, :1] > image[:, 1:]).float())  # the brain is the MRI's, as of the network
    kept = {}
    for name, weights in {"without": Refinement(), "with": CT_MRI}.items():
        result = weights(fused, image)[0, 0]
        kept[name] = (result[38:56, 68:72].mean() - result[42:52, 56:66].mean()).item() / 0.2
    assert kept["without"] < 0.6 and kept["with"] >= 0.8


@pytest.mark.parametrize("darker", [0.05, 0.15])
def test_a_bleeding_and_bone_stay_as_bright_as_they_are(darker):
    image = head()
    image[0, 0, 40:54, 54:68], image[0, 1, 40:54, 54:68] = darker, 0.85  # dark in the MRI, bright in the CT
    image[0, 0, 37:40, 51:71] = image[0, 0, 54:57, 51:71] = 0.95  # within an edge that is the sharpest of all
    fused = mixed(image, (image[:, :1] > image[:, 1:]).float())
    refined = CT_MRI(fused, image)
    assert (fused - refined)[0, 0, 42:52, 56:66].max() <= 0.05
    skull = image[0, 1] == 1
    assert (fused - refined)[0, 0][skull].mean() <= 0.02


def test_a_calcification_within_an_edge_of_the_mri_stays():
    image = head()
    image[0, 0, 43:48, 43:48], image[0, 0, 44:47, 44:47] = 0.95, 0.1  # a bright rim in the MRI, dark within
    image[0, 1, 44:47, 44:47] = 0.95
    fused = mixed(image, (image[:, :1] > image[:, 1:]).float())
    assert (fused - CT_MRI(fused, image))[0, 0, 44:47, 44:47].max() <= 0.05  # 0.45 where spots give way


@pytest.mark.parametrize("of", [0, 1])
def test_a_small_bright_spot_that_the_network_has_lost_is_drawn_again(of):
    image = head() if of else head().flip(1)
    image[0, of, 44:47, 44:47] = 0.95
    fused = mixed(image, torch.full_like(image[:, :1], float(of)))  # without the spot
    shown = {spots: Refinement(steps=1, spots=spots)(fused, image)[0, 0, 44:47, 44:47].mean() for spots in (0.0, 1.0)}
    assert shown[1.0] > 0.9 and shown[0.0] < 0.75
    turned = Refinement(steps=1, spots=1.0)(fused.flip(3), image.flip(3)).flip(3)
    torch.testing.assert_close(turned, Refinement(steps=1, spots=1.0)(fused, image), atol=4e-3, rtol=0)


def test_volumes_have_a_weight_of_the_correlation_of_their_own():
    assert Refinement().of_volumes() == Refinement()
    own = Refinement(correlation=2.0, volume_correlation=0.1)
    assert own.of_volumes() == Refinement(correlation=0.1, volume_correlation=0.1)

    class First(torch.nn.Module):
        head = MixHead(1, 2)

        def forward(self, image):
            return image.mean(1, keepdim=True)

    image = random_pair(64, 64)
    volume = image.unsqueeze(4).expand(1, 2, 64, 64, 2).contiguous()
    results = [SliceInferer(smooth=False, refinement=given)(volume, First())[0, 0] for given in (own, own.of_volumes())]
    assert torch.equal(*results)
    assert not torch.equal(SliceInferer(smooth=False, refinement=own)(image, First())[0, 0], results[0][..., 0])


def test_no_mesh_is_drawn():
    image = random_pair(64, 64, 5)
    fused = mixed(image, torch.full((1, 1, 64, 64), 0.5))
    over = {steps: SourceTexture(image)(Refinement(texture=steps)(fused, image)[:, :1]).item() for steps in (0.0, 0.3)}
    assert over[0.3] < 0.25 * over[0.0]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (50, 61), (33, 40), (41, 55)])
def test_the_mirror_image_gives_the_mirrored_result(height, width, backend):
    image = random_pair(height, width, 1)
    fused = mixed(image, image[:, :1].clone())
    refined = CT_MRI(fused, image)
    apart = (CT_MRI(fused.flip(3), image.flip(3)).flip(3) - refined)[:, 0].abs()
    if backend == "auto" and native.available():
        assert apart.max() == 0
    assert apart.quantile(0.9) <= 4e-3 and apart.max() <= 0.05  # sums in another order, and Adam divides by their size
    assert (refined - fused).abs().max() > 0.05


def test_images_of_a_batch_do_not_touch_one_another():
    images = torch.cat([random_pair(40, 48, seed) for seed in (1, 2)])
    fused = images.mean(1, keepdim=True)
    alone = torch.cat([CT_MRI(fused[i : i + 1], images[i : i + 1]) for i in range(2)])
    assert torch.equal(CT_MRI(fused, images), alone)
    assert alone.shape == fused.shape  # without shares


def test_images_of_several_sizes_at_once_are_what_each_is_alone(backend):
    images = [random_pair(*sizes) for sizes in ((40, 48), (33, 51), (15, 40), (64, 40))]
    parts = [(image.mean(1, keepdim=True), image, None) for image in images]
    before, expected = torch.get_num_threads(), [CT_MRI(*part) for part in parts]
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found = CT_MRI.of_many(parts)
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    finally:
        torch.set_num_threads(before)


def test_inference_mode_and_no_grad_give_the_same_and_inputs_stay():
    image = random_pair(40, 48)
    fused = image.mean(1, keepdim=True)
    before = fused.clone(), image.clone()
    expected = Refinement()(fused, image)
    with torch.no_grad():
        assert torch.equal(Refinement()(fused, image), expected)
    with torch.inference_mode():
        result = Refinement()(fused.clone(), image.clone())
        assert torch.equal(result, expected) and not result.requires_grad
    assert torch.equal(fused, before[0]) and torch.equal(image, before[1]) and not expected.requires_grad


def test_small_images_and_no_steps_change_nothing():
    image = random_pair(15, 40)
    fused = image.mean(1, keepdim=True)
    assert torch.equal(Refinement()(fused, image), fused)
    image = random_pair(32, 32)
    fused = image.mean(1, keepdim=True)
    assert torch.equal(Refinement(steps=0)(fused, image), fused)


def test_torch_alone_keeps_to_the_same_bounds():
    with scan_backend("torch"):
        test_every_pixel_stays_between_the_sources_and_within_reach(1, CT_MRI)
        test_two_equal_images_stay()


def test_two_equal_images_stay():
    image = random_pair(40, 40)[:, :1].expand(1, 2, 40, 40)
    assert torch.equal(CT_MRI(image[:, :1], image), image[:, :1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("steps", 1.5), ("steps", -1), ("steps", None), ("reach", -0.1), ("lesions", float("inf")), ("rate", "much")),
        *(("volume_correlation", -1.0), ("correlation", None), ("settling", 0.5), ("settling", -1)),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name, value):
    with pytest.raises(FusionInputError, match=rf"refinement, {name}: expected a .*number.* of at least 0"):
        Refinement(**{name: value})


@pytest.mark.parametrize(("head_name", "changed"), [("mix", True), ("sigmoid", False)])
def test_only_what_a_network_mixes_is_refined(head_name, changed):
    torch.manual_seed(0)
    network = clinicalfmamba_2d(features=8, dim=16, depth=1, decoder_depth=1, head=head_name).eval()
    image = random_pair(64, 64)
    for pair in (image, image.unsqueeze(4).expand(1, 2, 64, 64, 2).contiguous()):
        with torch.inference_mode():
            refined, plain = (SliceInferer(refinement=given)(pair, network) for given in (CT_MRI, None))
        assert torch.equal(refined, plain) is not changed
