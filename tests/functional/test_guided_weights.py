"""Shares of two sources smoothed over slices: against a plain computation, and what they keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clinicalfmamba_nets.functional.guided_weights import REACH, REGULARIZATION, smooth_weights_

SHAPE = (7, 12, 11)


def mixed(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A pair (1, 2, S, H, W), the share of its first image and their mix, (1, 1, S, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 2, *shape, generator=generator)
    share = torch.rand(1, 1, *shape, generator=generator)
    return image, share, torch.lerp(image[:, 1:], image[:, :1], share)


def overlap(far: int, distance: float, reach: float) -> float:
    """Length of a voxel, `far` voxels away, inside a window of `reach` mm to both sides, in voxels; 1 in the middle."""
    return 1.0 if far == 0 else float(np.clip(reach / distance - abs(far) + 0.5, 0, 1))


def plainly(image: torch.Tensor, fused: torch.Tensor, spacing: tuple[float, ...]) -> np.ndarray:
    """The same by one least-squares problem for each window, in float64."""
    first, second, result = (x.double().numpy() for x in (image[0, 0], image[0, 1], fused[0, 0]))
    share, places = (result - second) / (first - second), list(np.ndindex(first.shape))
    reach = REACH * min(spacing[1:])

    def window(middle: tuple[int, ...]) -> np.ndarray:
        axes = zip(middle, spacing, first.shape, strict=True)
        return np.einsum("i,j,k->ijk", *([overlap(place - m, d, reach) for place in range(n)] for m, d, n in axes))

    windows = {middle: window(middle) for middle in places}
    fits = np.zeros((3, *first.shape))
    for middle in places:
        counted = windows[middle] * (first - second) ** 2
        counted /= counted.sum()
        guides = np.stack([first - (counted * first).sum(), second - (counted * second).sum()]).reshape(2, -1)
        spread = (guides * counted.ravel()) @ guides.T + REGULARIZATION * np.eye(2)
        slopes = np.linalg.solve(spread, (guides * counted.ravel()) @ share.ravel())
        means = [(counted * x).sum() for x in (share, first, second)]
        fits[(slice(None), *middle)] = [*slopes, means[0] - slopes @ means[1:]]
    for middle in places:
        a, b, c = (windows[middle] * fits).reshape(3, -1).sum(1) / windows[middle].sum()
        share[middle] = np.clip(a * first[middle] + b * second[middle] + c, 0, 1)
    return second + share * (first - second)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (0.8, 0.5, 0.7)])
def test_it_equals_one_fit_for_each_window(spacing):
    image, _, fused = mixed()
    expected = plainly(image, fused, spacing)
    np.testing.assert_allclose(smooth_weights_(fused, image, spacing)[0, 0].numpy(), expected, atol=2e-4)


def test_a_mix_stays_a_mix_and_an_even_share_stays_even():
    image, _, fused = mixed(1)
    smooth_weights_(fused, image, (1.0, 1.0, 1.0))
    assert (fused >= image.amin(1, keepdim=True) - 1e-6).all() and (fused <= image.amax(1, keepdim=True) + 1e-6).all()
    even = torch.lerp(image[:, 1:], image[:, :1], 0.3)
    torch.testing.assert_close(smooth_weights_(even.clone(), image, (1.0, 1.0, 1.0)), even, rtol=0, atol=1e-4)


def test_shares_that_change_with_a_source_are_kept():
    image = torch.full((1, 2, *SHAPE), 0.3)
    image[:, 0] = 0.6
    image[:, 1, :, :, 6:] = 1.0  # bone, taken from the second image; brain from the first
    fused = torch.where(image[:, 1:] > 0.9, image[:, 1:], image[:, :1])
    torch.testing.assert_close(smooth_weights_(fused.clone(), image, (1.0, 1.0, 1.0)), fused, rtol=0, atol=0.02)


def test_thick_slices_do_not_see_one_another():
    image, _, fused = mixed(2)
    whole = smooth_weights_(fused.clone(), image, (5.0, 1.0, 1.0))
    for k in range(SHAPE[0]):
        alone = smooth_weights_(fused[:, :, k : k + 1].clone(), image[:, :, k : k + 1], (5.0, 1.0, 1.0))
        assert torch.equal(alone, whole[:, :, k : k + 1])


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_flipped_volume_gives_the_flipped_result(axis):
    image, _, fused = mixed(3, (9, 12, 11))
    flipped = smooth_weights_(fused.flip(axis), image.flip(axis), (1.5, 1.0, 1.0)).flip(axis)
    assert torch.equal(flipped, smooth_weights_(fused, image, (1.5, 1.0, 1.0)))


def test_shares_are_returned_as_they_are_used():
    image, share, fused = mixed(4)
    both = smooth_weights_(torch.cat([fused, share], 1), image, (1.0, 1.0, 1.0))
    assert torch.equal(both[:, :1], smooth_weights_(fused, image, (1.0, 1.0, 1.0)))
    torch.testing.assert_close(both[:, :1], torch.lerp(image[:, 1:], image[:, :1], both[:, 1:]), rtol=0, atol=2e-4)
