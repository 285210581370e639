"""Shares of even regions by which the result shows what a single source shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.fusion.even_regions import BORDER, EvenRegions

KEPT = 0.8  # of the contrast of one source, where the other one has none
FAINT = 0.02  # of the range: what counts as no contrast
CONTRAST = 0.06  # of the range: what counts as one
CONTACT = 8  # places where they do
_STRICT = 1e3  # how much a lost contrast weighs against shares that are moved


def kept_contrasts(regions: EvenRegions, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move the shares of even regions as little as the contrasts of single sources need.

    Where two regions touch that differ in one source and not in the other one (a lesion, or a tissue, that one modality
    alone shows), the result y + w (x - y) of regions with the means x and y is to differ by at least 0.8 of what the
    source does, and in the same direction. All shares w together are the least squares of what they move by, each
    region counting by its size, and of 1000 times the parts of contrasts that lack. Where contrasts of the two sources
    stand against each other, each gives way a little. Source: ours.

    Args:
        regions: the regions; one of each two that touch is large.
        shares: (N,) in [0, 1], w of the first source in each region.

    Returns:
        (N,) in [0, 1]; `shares` itself where no contrast is lost.

    Example:
        >>> labels = np.repeat([1, 2], 8).reshape(1, 1, 16).repeat(16, 1)  # a CT that shows what the MRI does not
        >>> regions = EvenRegions(labels, np.array([128, 128]), np.array([[0.6, 0.6], [0.4, 0.2]]))
        >>> shares = kept_contrasts(regions, np.array([1.0, 1.0]))  # of the MRI
        >>> fused = 0.6 * shares + regions.means[1] * (1 - shares)
        >>> round(float(fused[0] - fused[1]), 2)
        0.16
    """
    from scipy.optimize import minimize

    first, second = regions.means
    apart = np.where(regions.alike, 0.0, first - second)
    near, far, contrast = _lone_contrasts(regions)

    def lacking(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        result = second + apart * shares
        return np.maximum(KEPT - (result[near] - result[far]) / contrast, 0.0)

    if not lacking(shares).any():
        return shares
    weight = regions.sizes / regions.sizes.sum()

    def cost(moved: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        lack, move = lacking(moved), moved - shares
        slope, pull = 2 * weight * move, 2 * _STRICT * lack / contrast
        np.subtract.at(slope, near, pull * apart[near])
        np.add.at(slope, far, pull * apart[far])
        return float(weight @ move**2 + _STRICT * (lack @ lack)), slope

    found = minimize(cost, shares, jac=True, bounds=[(0, 1)] * len(shares), options={"ftol": 1e-13, "gtol": 1e-9})
    return np.asarray(found.x)


def _lone_contrasts(regions: EvenRegions) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return touching regions, (K,) and (K,), of which one source alone tells them apart, and by how much, (K,)."""
    near, far = _touching(regions.labels)
    chosen = regions.large[near] | regions.large[far]
    near, far = near[chosen], far[chosen]
    steps = regions.means[:, near] - regions.means[:, far]
    size = np.abs(steps)
    alone = (size.min(0) <= FAINT) & (size.max(0) >= CONTRAST)
    contrast = np.take_along_axis(steps, size.argmax(0)[None], 0)[0]
    return near[alone], far[alone], contrast[alone]


def _touching(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of regions, counted from 0, that lie within a few voxels along an axis at eight places or more."""
    count = int(labels.max()) + 1
    places = np.zeros(0, np.int64)
    for axis in range(3):
        for distance in range(1, BORDER + 1):
            one = labels[(slice(None),) * axis + (slice(distance, None),)]
            other = labels[(slice(None),) * axis + (slice(None, -distance),)]
            both = (one != other) & (one > 0) & (other > 0)
            one, other = one[both], other[both]
            places = np.concatenate([places, np.minimum(one, other) * count + np.maximum(one, other)])
    pairs, times = np.unique(places, return_counts=True)
    near, far = np.divmod(pairs[times >= CONTACT], count)
    return near - 1, far - 1
