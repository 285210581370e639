"""One share of the sources in each region where both are even: a result varies there no more than they do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clinicalfmamba_nets.functional.guided_weights import counted_shares

STEP = 0.01  # between neighbors, and
RANGE = 0.04  # within a region: an even source changes no more
LEAST = 125  # voxels of a region
GROWTH = 8  # voxels around it that belong to it where they have its values
REACH = 2  # voxels around a region that follow it


def level_weights_(fused: Tensor, image: Tensor) -> Tensor:
    """Give each region of a volume, or of an image as a volume of one slice, where both sources are even one share.

    A network may take the brain from one source near a lesion or the skull and from the other one farther away. Where
    the sources have structure that is a choice; where both are even it is a shading that neither has. So the share w of
    the first source A, w = (F - B) / (A - B), is averaged over connected voxels whose neighbors differ by at most 0.01
    in each source, where these span at most 0.04 of the range altogether and are 125 voxels or more, and over what is
    joined to them within eight voxels and lies within 0.02 of their means. Voxels up to two away follow by what the
    nearest ones have changed, so that no border appears. Every result of a mix stays a mix, and images with noise or
    texture hardly have such regions. Source: ours.

    Args:
        fused: results F, (B, 1 or 2, S, H, W) float32, the shares second where they are there; changed.
        image: pairs, (B, 2, S, H, W) in [0, 1], float32, on the same device.

    Returns:
        `fused`.

    Example:
        >>> image = torch.stack([torch.full((8, 9, 9), 0.6), torch.full((8, 9, 9), 0.2)])[None]
        >>> fused = image[:, :1] - 0.2 * torch.arange(9) / 8  # 0.6 on the left, 0.4 on the right
        >>> [round(x, 3) for x in level_weights_(fused, image)[0, 0, 4, 4, [0, -1]].tolist()]
        [0.5, 0.5]
    """
    for pair, result in zip(image, fused, strict=True):
        _level(result, pair)
    return fused


def _level(fused: Tensor, pair: Tensor) -> None:
    """Level one volume: (1 or 2, S, H, W) of the pair (2, S, H, W)."""
    regions, count = even_regions(pair)
    if not count:
        return
    first, second = pair
    counted, taken = counted_shares(fused[0], first, second)
    share = taken / counted
    inside = regions > 0
    region, weight = regions[inside], counted[inside].double()
    sums = torch.zeros(2, count + 1, dtype=torch.float64, device=fused.device)
    sums.index_add_(1, region, torch.stack([weight, weight * share[inside]]))
    change = torch.zeros_like(share)
    change[inside] = (sums[1] / sums[0])[region].to(share.dtype) - share[inside]
    near, total = (_window_means(x) for x in (inside.to(change.dtype), change))
    around = (near > 0) & ~inside
    change[around] = total[around] / near[around] * (2 * near[around]).clamp(max=1)
    levelled = (share + change).clamp_(0, 1)
    fused[0] += (levelled - share) * (first - second)
    if len(fused) > 1:
        fused[1] = torch.where(inside | around, levelled, fused[1])


def _window_means(volume: Tensor) -> Tensor:
    padded = functional.pad(volume[None, None], [REACH] * 6)  # zeros outside, and slabs of less than a window
    return functional.avg_pool3d(padded, 2 * REACH + 1, 1)[0, 0]


def even_regions(pair: Tensor) -> tuple[Tensor, int]:
    """Number the regions of a volume where both sources are even and not alike.

    Args:
        pair: (2, S, H, W) in [0, 1].

    Returns:
        (S, H, W) int64, 1, 2, ... in the regions and 0 elsewhere, and how many there are.

    Example:
        >>> pair = torch.full((2, 8, 8, 16), 0.2)
        >>> pair[0, ..., 8:] = 0.6
        >>> even_regions(pair)[0][4, 4].tolist()  # on the left the sources are alike: any share gives the same
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    from scipy.ndimage import binary_dilation, find_objects, label

    sources = pair.cpu().numpy()
    even = np.abs(sources[0] - sources[1]) > STEP
    for source, axis in ((source, axis) for source in sources for axis in range(3)):
        steps = np.abs(np.diff(source, axis=axis)) <= STEP
        for side in (slice(1, None), slice(None, -1)):
            even[(slice(None),) * axis + (side,)] &= steps
    if np.count_nonzero(even) < LEAST:
        return torch.zeros(even.shape, dtype=torch.int64, device=pair.device), 0
    labels, count = label(even)
    sizes, regions, number = np.bincount(labels.ravel(), minlength=count + 1), np.zeros(even.shape, np.int64), 0
    small = sizes < LEAST
    small[0] = True
    for region, place in enumerate(find_objects(labels), 1):
        if small[region]:
            continue
        here = labels[place] == region
        if any(np.ptp(source[place][here]) > RANGE for source in sources):
            continue
        number += 1
        around = tuple(slice(max(0, side.start - GROWTH), side.stop + GROWTH) for side in place)
        here = labels[around] == region
        alike = here | (_alike_to(sources[(slice(None), *around)], here) & small[labels[around]])
        grown = binary_dilation(here, iterations=GROWTH, mask=alike)
        regions[around][grown & (regions[around] == 0)] = number
    return torch.from_numpy(regions).to(pair.device), number


def _alike_to(sources: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Mark the voxels (S, H, W) whose sources (2, S, H, W) lie near the means of a region: the same tissue."""
    means = sources[:, here].mean(1, dtype=np.float64)
    return np.logical_and(*(np.abs(source - mean) <= RANGE / 2 for source, mean in zip(sources, means, strict=True)))
