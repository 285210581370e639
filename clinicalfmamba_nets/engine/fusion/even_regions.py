"""Connected regions of a volume in which both sources are even."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEP = 0.01  # between neighbors, and
RANGE = 0.04  # within a region: an even source changes no more
LEAST = 125  # voxels of a region, and
ISLAND = 8  # of a small one beside it, a lesion's core
BORDER = 4  # voxels of a soft border between two regions that touch
GROWTH = 8  # voxels around it that belong to it where they have its values


@dataclass(frozen=True)
class EvenRegions:
    """The regions of a volume where both sources are even, those of most voxels first.

    Attributes:
        labels: (S, H, W) int64, 1, 2, ... in the regions and 0 elsewhere.
        sizes: (N,) int64, their even voxels, without what belongs to them besides.
        means: (2, N) float64, what they have of each source.
    """

    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    means: NDArray[np.float64]

    @property
    def alike(self) -> NDArray[np.bool_]:
        """(N,), where the sources are alike: any share of them gives the same."""
        return np.abs(self.means[0] - self.means[1]) <= STEP

    @property
    def large(self) -> NDArray[np.bool_]:
        """(N,), the regions of 125 voxels or more in which the sources differ."""
        return (self.sizes >= LEAST) & ~self.alike


def even_regions(sources: NDArray[np.floating]) -> EvenRegions:
    """Find the regions of a volume where both sources are even.

    Neighbors differ by at most 0.01 in each source, which spans at most 0.04 of the range altogether. What is joined to
    a region within eight voxels and lies within 0.02 of its means, as the same tissue between soft borders does,
    belongs to it. Regions have 125 voxels or more, and those within four voxels of a large one in which the sources
    differ 8 or more.

    Args:
        sources: (2, S, H, W) in [0, 1].

    Example:
        >>> sources = np.full((2, 8, 8, 16), 0.2)
        >>> sources[0, ..., 8:] = 0.6
        >>> even_regions(sources).labels[4, 4].tolist()  # on the left the sources are alike
        [1, 1, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    from scipy.ndimage import find_objects, label

    parts, count = label(_even(sources))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    places, found = find_objects(parts), _Found(sources)
    small = (sizes < LEAST)[parts]  # and what is not even

    def add(chosen: NDArray[np.int64]) -> None:
        for part in chosen[np.argsort(-sizes[chosen], kind="stable")]:
            found.add(parts[places[part - 1]] == part, places[part - 1], small)

    add(np.flatnonzero(sizes >= LEAST))
    large = found.regions().large
    if large.any():
        near = np.unique(parts[_around(np.concatenate([[False], large])[found.labels])])
        add(near[(sizes[near] >= ISLAND) & (sizes[near] < LEAST)])
    return found.regions()


class _Found:
    """The regions found so far."""

    def __init__(self, sources: NDArray[np.floating]) -> None:
        self.sources, self.labels = sources, np.zeros(sources.shape[1:], np.int64)
        self.sizes: list[int] = []
        self.means: list[NDArray[np.float64]] = []

    def add(self, part: NDArray[np.bool_], place: tuple[slice, ...], small: NDArray[np.bool_]) -> None:
        """Add a connected part, given in its place, if it is even and mostly free, and what belongs to it."""
        size, here = int(np.count_nonzero(part)), part & (self.labels[place] == 0)
        values = self.sources[(slice(None), *place)][:, here]
        if 2 * values.shape[1] < size or (np.ptp(values, axis=1) > RANGE).any():
            return
        mean = values.mean(1, dtype=np.float64)
        self.sizes.append(size)
        self.means.append(mean)
        self.labels[place][here] = len(self.sizes)
        if abs(mean[0] - mean[1]) > STEP:
            around = tuple(slice(max(0, side.start - GROWTH), side.stop + GROWTH) for side in place)
            labels = self.labels[around]
            free = (labels == 0) & small[around] & _alike_to(self.sources[(slice(None), *around)], mean)
            _grow(labels, len(self.sizes), free)

    def regions(self) -> EvenRegions:
        """Return them."""
        return EvenRegions(self.labels, np.array(self.sizes, np.int64), np.array(self.means).reshape(-1, 2).T)


def _even(sources: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Mark the voxels (S, H, W) that no source (2, S, H, W) changes at."""
    even = np.ones(sources.shape[1:], bool)
    for source, axis in ((source, axis) for source in sources for axis in range(3)):
        steps = np.abs(np.diff(source, axis=axis)) <= STEP
        for side in (slice(1, None), slice(None, -1)):
            even[(slice(None),) * axis + (side,)] &= steps
    return even


def _alike_to(sources: NDArray[np.floating], mean: Sequence[float]) -> NDArray[np.bool_]:
    """Mark the voxels (S, H, W) whose sources (2, S, H, W) lie near the means of a region: the same tissue."""
    first, second = (np.abs(source - value) <= RANGE / 2 for source, value in zip(sources, mean, strict=True))
    return first & second


def _grow(labels: NDArray[np.int64], number: int, free: NDArray[np.bool_]) -> None:
    """Give a region what is free and joined to it."""
    from scipy.ndimage import binary_dilation

    here = labels == number
    labels[binary_dilation(here, iterations=GROWTH, mask=here | free)] = number


def _around(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Widen a mask (S, H, W) by the width of a soft border."""
    from scipy.ndimage import maximum_filter1d

    wide = mask.view(np.uint8)
    for axis in range(3):
        wide = maximum_filter1d(wide, 2 * BORDER + 1, axis, mode="constant")
    return wide.view(bool)
