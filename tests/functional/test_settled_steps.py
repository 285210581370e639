"""Steps of a fused volume that neither source has are lessened, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.functional.settled_steps import FREE, TIMES, settle_steps_
from clinicalfmamba_nets.transforms.steps import worst_step

SHAPE = (24, 32, 30)


def smooth_pair(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Two volumes without sudden changes, (1, 2, S, H, W)."""
    coarse = torch.rand(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return 0.2 + 0.6 * torch.nn.functional.interpolate(coarse, shape, mode="trilinear", align_corners=True)


def mixed(image: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The mix, with its shares second."""
    return torch.cat([share * image[:, :1] + (1 - share) * image[:, 1:], share.expand_as(image[:, :1])], 1)


def striped(axis: int) -> torch.Tensor:
    """Shares of which one slice across an axis is another."""
    share = torch.full((1, 1, *SHAPE), 0.9)
    share.select(axis, 6).fill_(0.1)
    return share


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_stripe_of_a_single_slice_goes_along_every_axis(axis):
    image = smooth_pair()
    fused = mixed(image, striped(axis))
    before = worst_step(fused[0, 0], image[0]).share
    settled = settle_steps_(fused.clone(), image)
    assert before > 0.1 and worst_step(settled[0, 0], image[0]).share < 0.1 * before
    assert (settled[:, :1] <= image.amax(1, keepdim=True) + 1e-6).all()
    assert (settled[:, :1] >= image.amin(1, keepdim=True) - 1e-6).all()


def test_the_shares_tell_of_the_result():
    image = smooth_pair()
    settled = settle_steps_(mixed(image, striped(3)), image)
    known = (image[:, :1] - image[:, 1:]).abs() > 0.01
    apart = settled[:, :1] - mixed(image, settled[:, 1:])[:, :1]
    assert apart[known].abs().max() < 1e-4


def test_what_does_not_step_and_what_a_source_steps_by_stays():
    image = smooth_pair()
    image[:, 0, 4:8, 5:15, 5:15] += 0.2  # a lesion of the first source alone
    fused = mixed(image, torch.full((1, 1, *SHAPE), 0.9))
    assert torch.equal(settle_steps_(fused.clone(), image), fused)


def test_no_step_is_more_than_those_of_the_sources_and_a_little():
    image = smooth_pair()
    share = torch.rand(1, 1, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    share = torch.nn.functional.interpolate(share, SHAPE, mode="nearest")
    settled = settle_steps_(mixed(image, share), image, rounds=100)[:, :1]
    for axis in (2, 3, 4):
        free = TIMES * image.diff(dim=axis).abs().amax(1, keepdim=True) + FREE
        assert (settled.diff(dim=axis).abs() <= free + 5e-3).all()


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_the_mirror_image_gives_the_mirrored_result_to_the_bit(axis):
    image = smooth_pair()
    share = (torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(2)) > 0.9).float()
    fused = mixed(image, share)
    turned = settle_steps_(fused.flip(axis), image.flip(axis)).flip(axis)
    torch.testing.assert_close(turned, settle_steps_(fused.clone(), image), atol=0 if axis > 2 else 1e-6, rtol=0)


def test_no_rounds_and_a_single_slice_without_shares():
    image = smooth_pair()
    fused = mixed(image, striped(3))
    assert torch.equal(settle_steps_(fused.clone(), image, rounds=0), fused)
    flat = settle_steps_(fused[:, :1, :1].clone(), image[:, :, :1])
    assert flat.shape == (1, 1, 1, *SHAPE[1:]) and not torch.equal(flat, fused[:, :1, :1])


def test_volumes_of_a_batch_do_not_touch_one_another():
    image = smooth_pair()
    fused = [mixed(image, striped(3)), mixed(image, torch.full((1, 1, *SHAPE), 0.5))]
    together = settle_steps_(torch.cat(fused), torch.cat([image, image]))
    assert torch.equal(together, torch.cat([settle_steps_(one, image) for one in fused]))
