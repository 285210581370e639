"""One share of two sources where both are even: shading goes, structures, borders and noise stay."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.engine import SliceInferer, VolumeInferer
from clinicalfmamba_nets.engine.fusion.even_weights import level_weights_

SHAPE = (10, 32, 32)
COLUMN = torch.linspace(0, 1, 32).expand(SHAPE)


def even(first: float = 0.6, second: float = 0.2) -> torch.Tensor:
    return torch.stack([torch.full(SHAPE, first), torch.full(SHAPE, second)])[None]


def mix(image: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return torch.lerp(image[:, 1:], image[:, :1], share.expand_as(image[:, :1]))


@pytest.mark.parametrize("sources", [(0.6, 0.2), (0.2, 0.6)])
def test_shading_of_an_even_region_becomes_its_mean(sources):
    image = even(*sources)
    share = 0.3 + 0.4 * COLUMN
    fused = torch.cat([mix(image, share), share[None, None]], 1)
    level_weights_(fused, image)
    torch.testing.assert_close(fused[:, 1], torch.full_like(fused[:, 1], 0.5))
    torch.testing.assert_close(fused[:, :1], mix(image, torch.full(SHAPE, 0.5)))


@pytest.mark.parametrize("slices", [1, 2, 4])
def test_slabs_of_few_slices(slices):
    image, share = even()[:, :, :slices], 0.3 + 0.4 * COLUMN[:slices]
    image[:, 1, :, 10:20, 10:20] = 0.3
    fused = level_weights_(torch.lerp(image[:, 1:], image[:, :1], share.expand_as(image[:, :1])), image)[0, 0]
    assert fused[..., :8].max() - fused[..., :8].min() < 1e-6


def test_a_lesion_keeps_its_own_share_and_gets_no_rim():
    image, share = even(0.5, 0.4), 0.9 - 0.2 * COLUMN
    image[:, 1, 2:8, 10:20, 10:20] = 0.25
    share[2:8, 10:20, 10:20] = 0.0
    fused = level_weights_(mix(image, share), image)[0, 0]
    inside, outside = fused[4:6, 12:18, 12:18], torch.cat([fused[..., :6], fused[..., 24:]], -1)
    assert inside.max() - inside.min() < 1e-6 and inside.mean() == pytest.approx(0.25, abs=1e-3)
    assert outside.max() - outside.min() < 1e-6
    assert fused.max() <= outside.max() + 0.01 and fused.min() >= inside.min() - 1e-6


@pytest.mark.parametrize("level", [0.25, 0.35, 0.45, 0.55])
@pytest.mark.parametrize("of", [0, 1])
@pytest.mark.parametrize("follows", [0.0, 0.5, 1.0])
def test_a_lesion_of_one_source_is_shown_whatever_the_network_follows(level, of, follows):
    image = even(0.5, 0.4)
    lesion = (slice(2, 8), slice(10, 18), slice(12, 20))
    image[(0, of, *lesion)] = level
    fused = level_weights_(mix(image, torch.full(SHAPE, follows)), image)[0, 0]
    contrast = level - image[0, of, 0, 0, 0]
    shown = fused[4:6, 12:16, 14:18] - fused[..., :8].mean()
    if contrast.abs() < 0.06:
        torch.testing.assert_close(fused, mix(image, torch.full(SHAPE, follows))[0, 0])
    else:
        assert (shown / contrast > 0.75).all()
    assert (fused <= image.amax(1)[0] + 1e-6).all() and (fused >= image.amin(1)[0] - 1e-6).all()
    assert fused[..., :6].max() - fused[..., :6].min() < 1e-6  # the brain around it stays even


def test_what_is_not_even_stays_as_it_is():
    generator = torch.Generator().manual_seed(0)
    noisy = even() + 0.02 * torch.randn((1, 2, *SHAPE), generator=generator)
    slope = even()
    slope[:, 0] = 0.4 + 0.2 * COLUMN  # by small steps from 0.4 to 0.6: more than one tissue may lie in it
    for image in (noisy, slope, even(0.3, 0.3)):
        fused = mix(image, 0.2 + 0.6 * COLUMN)
        assert torch.equal(level_weights_(fused.clone(), image), fused)


def test_only_the_share_is_levelled_and_every_result_stays_between_the_sources():
    image = even()
    image[:, 0] += 0.03 * COLUMN  # within the range of an even source
    fused = level_weights_(mix(image, COLUMN), image)
    share = (fused[:, 0] - image[:, 1]) / (image[:, 0] - image[:, 1])
    assert share.max() - share.min() < 1e-5
    assert (fused <= image.amax(1, keepdim=True)).all() and (fused >= image.amin(1, keepdim=True)).all()
    slope = fused[0, 0, 5, 5, 1:] - fused[0, 0, 5, 5, :-1]
    assert torch.allclose(slope, share.mean() * 0.03 / 31, atol=1e-5)


def test_the_mirror_image_gives_the_mirrored_result():
    image, share = even(0.5, 0.4), 0.9 - 0.2 * COLUMN
    image[:, 1, 2:8, 10:20, 4:12] = 0.25
    fused = mix(image, share)
    turned = level_weights_(fused.flip(4).clone(), image.flip(4)).flip(4)
    torch.testing.assert_close(turned, level_weights_(fused, image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("inferer", [SliceInferer(), VolumeInferer()])
def test_inferers_level_images_and_volumes_whatever_mode_the_network_ran_in(inferer):
    image = torch.stack([torch.full((32, 32, 12), 0.6), torch.full((32, 32, 12), 0.2)])[None]
    image = image[..., 5] if isinstance(inferer, SliceInferer) else image
    share = torch.linspace(0, 1, 32).view([-1] + [1] * (image.dim() - 3)).expand(image.shape[2:])
    with torch.inference_mode():
        shaded = mix(image, share)
    fused = inferer(image, lambda _: shaded)
    assert fused.shape == shaded.shape and fused.max() - fused.min() < 1e-5
    assert shaded.max() - shaded.min() > 0.3  # the network's own result is not changed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("slices", [1, 12])
def test_images_of_other_float_types_are_levelled_in_float32_or_finer(dtype, slices):
    image = torch.zeros(1, 2, 48, 48, slices)
    image[:, :, 8:40, 8:40] = torch.tensor([0.6, 0.2]).view(2, 1, 1, 1)
    image = (image[..., 0] if slices == 1 else image).to(dtype)

    def shading(pair: torch.Tensor) -> torch.Tensor:
        share = torch.linspace(0, 1, pair.shape[2]).view(-1, 1).to(dtype)
        return mix(pair, share.expand(pair.shape[-2:]))

    fused = SliceInferer()(image, shading).float()
    inside = fused[:, :, 10:38, 10:38]
    assert fused.isfinite().all() and inside.max() - inside.min() < 0.005
