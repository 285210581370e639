"""Connected regions in which two sources are even, and the contrasts that one of them alone shows between them."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.engine.fusion.even_regions import EvenRegions, even_regions
from clinicalfmamba_nets.engine.fusion.lone_contrasts import kept_contrasts

SHAPE = (10, 32, 32)


def even(first: float = 0.6, second: float = 0.2) -> np.ndarray:
    return np.stack([np.full(SHAPE, first), np.full(SHAPE, second)])


def test_regions_are_apart_where_a_source_steps_and_small_ones_count_beside_large_ones():
    sources = even()
    sources[0, :, :, 16:] = 0.7
    sources[0, :, :4, :4] = 0.9  # 90 voxels that are even themselves
    sources[0, 4:6, 20:22, 4:6] = 0.9  # too small
    regions = even_regions(sources)
    left, right, corner = (regions.labels[place] for place in ((5, 27, 4), (5, 20, 28), (0, 0, 0)))
    assert {left, right, corner} == {1, 2, 3} == set(range(1, len(regions.sizes) + 1))
    assert (regions.labels[:, :, 16:] == right).all() and regions.labels[5, 20, 4] == 0
    np.testing.assert_allclose(regions.means[:, [left - 1, right - 1, corner - 1]], [[0.6, 0.7, 0.9], [0.2] * 3])
    assert regions.large.tolist() == [True, True, False] and not regions.alike.any()


def test_small_regions_alone_and_noise_are_none():
    small = even()
    small += np.linspace(0, 1, 32)  # steps of 0.03
    small[:, :4, :4, :6] = 0.5
    noise = even() + 0.02 * np.random.default_rng(0).standard_normal((2, *SHAPE))
    for sources in (small, noise):
        regions = even_regions(sources)
        assert not regions.labels.any() and not len(regions.sizes) and regions.means.shape == (2, 0)


def test_the_same_tissue_between_two_soft_borders_belongs_to_its_region():
    sources = even()
    column = np.arange(32.0)
    soft = 0.3 * (np.exp(-((column - 9) ** 2) / 8) + np.exp(-((column - 21) ** 2) / 8))  # two bands side by side
    sources[1, :, 8:24] += soft
    labels = even_regions(sources).labels
    assert labels.max() == 1 and labels[5, 16, 15] == labels[5, 2, 2] == 1 and not labels[5, 16, 9]


def test_air_is_one_region_of_sources_that_are_alike():
    sources = np.zeros((2, *SHAPE))
    sources[:, :, :, 16:] = np.array([0.6, 0.2])[:, None, None, None]
    regions = even_regions(sources)
    assert regions.alike.tolist() == [True, False] and regions.large.tolist() == [False, True]


def two(first: tuple[float, float], second: tuple[float, float]) -> EvenRegions:
    """Return a brain of a pair of values with a small lesion of another pair inside."""
    labels = np.ones(SHAPE, np.int64)
    labels[3:6, 10:20, 10:20] = 2
    sizes = np.bincount(labels.ravel())[1:]
    return EvenRegions(labels, sizes, np.array([first, second]).T)


def shown(regions: EvenRegions, shares: np.ndarray) -> float:
    first, second = regions.means
    brain, lesion = second + shares * (first - second)
    return lesion - brain


@pytest.mark.parametrize("lesion", [(0.5, 0.25), (0.5, 0.32), (0.5, 0.49), (0.5, 0.7), (0.4, 0.4), (0.6, 0.4)])
@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.99, 0.99), (0.5, 0.1)])
def test_what_one_source_shows_is_kept(lesion, shares):
    regions = two((0.5, 0.4), lesion)
    kept = kept_contrasts(regions, np.array(shares))
    contrast = (regions.means[:, 1] - regions.means[:, 0]).sum()
    assert shown(regions, kept) / contrast > 0.79
    assert (kept >= 0).all() and (kept <= 1).all()


@pytest.mark.parametrize(
    "lesion", [(0.5, 0.37), (0.6, 0.3), (0.52, 0.42)], ids=["a faint contrast", "both sources", "hardly another tissue"]
)
def test_nothing_is_moved_without_need(lesion):
    shares = np.array([0.99, 0.99])
    assert kept_contrasts(two((0.5, 0.4), lesion), shares) is shares


def test_a_contrast_that_is_shown_stays_as_it_is():
    shares = np.array([0.99, 0.0])
    assert kept_contrasts(two((0.5, 0.4), (0.5, 0.2)), shares) is shares


def test_the_large_region_moves_no_more_than_it_must():
    regions = two((0.44, 0.31), (0.44, 0.44))  # the lesion is as bright as the other source's brain
    kept = kept_contrasts(regions, np.array([1.0, 1.0]))
    assert shown(regions, kept) == pytest.approx(0.8 * 0.13, abs=1e-3)
    regions = two((0.5, 0.4), (0.5, 0.25))
    assert kept_contrasts(regions, np.array([0.99, 0.99]))[0] == pytest.approx(0.99, abs=1e-2)


def test_contrasts_of_both_sources_against_each_other_share_the_loss():
    labels = np.ones(SHAPE, np.int64)
    labels[3:6, 4:12, 4:12], labels[3:6, 20:28, 20:28] = 2, 3
    means = np.array([[0.5, 0.3], [0.5, 0.42], [0.4, 0.3]]).T  # bright in the second source, dark in the first one
    regions = EvenRegions(labels, np.bincount(labels.ravel())[1:], means)
    kept = kept_contrasts(regions, np.array([0.5, 0.0, 1.0]))
    brain, *lesions = means[1] + kept * (means[0] - means[1])
    parts = (lesions[0] - brain) / 0.12, (lesions[1] - brain) / -0.1
    assert all(0.4 < part < 0.9 for part in parts)


def test_regions_that_are_not_beside_each_other_are_not_compared():
    regions = two((0.5, 0.4), (0.5, 0.25))
    regions.labels[:, 5:25, 5:25] *= regions.labels[:, 5:25, 5:25] == 2  # five voxels of something else around it
    shares = np.array([0.99, 0.99])
    assert kept_contrasts(regions, shares)[0] == 0.99
