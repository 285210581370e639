"""One share of the sources in each region where both are even: a result varies there no more than they do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clinicalfmamba_nets.engine.fusion.even_regions import even_regions
from clinicalfmamba_nets.engine.fusion.lone_contrasts import kept_contrasts
from clinicalfmamba_nets.functional.guided_weights import counted_shares

REACH = 2  # voxels around a region that follow it


def level_weights_(fused: Tensor, image: Tensor) -> Tensor:
    """Give each region of a volume, or of an image as a volume of one slice, where both sources are even one share.

    A network may take the brain from one source near a lesion or the skull from the other one farther away. Where
    the sources have structure that is a choice; where both are even it is a shading that neither has. So the share w of
    the first source A, w = (F - B) / (A - B), is averaged over each large region (`even_regions`), and moved where the
    result would lose what a single source shows of it and of another region, such as a lesion, that touches it
    (`kept_contrasts`). Voxels up to two away follow by what the nearest ones have changed, so that no border appears.
    Every result of a mix stays a mix, and images with noise or texture hardly have such regions. Source: ours.

    Args:
        fused: results F, (B, 1 or 2, S, H, W) of any float type, the shares second where they are there; changed.
        image: pairs, (B, 2, S, H, W) in [0, 1], of the same type and on the same device.

    Returns:
        `fused`.

    Example:
        >>> image = torch.stack([torch.full((8, 9, 9), 0.6), torch.full((8, 9, 9), 0.2)])[None]
        >>> fused = image[:, :1] - 0.2 * torch.arange(9) / 8  # 0.6 on the left, 0.4 on the right
        >>> [round(x, 3) for x in level_weights_(fused, image)[0, 0, 4, 4, [0, -1]].tolist()]
        [0.5, 0.5]
    """
    wide = torch.promote_types(fused.dtype, torch.float32)  # torch pools no half precision on a processor
    for pair, result in zip(image, fused, strict=True):
        levelled = result.to(wide)
        _level(levelled, pair.to(wide))
        if levelled is not result:
            result.copy_(levelled)
    return fused


def _level(fused: Tensor, pair: Tensor) -> None:
    """Level one volume: (1 or 2, S, H, W) of the pair (2, S, H, W)."""
    regions = even_regions(pair.cpu().numpy())
    if not regions.large.any():
        return
    first, second = pair
    counted, taken = counted_shares(fused[0], first, second)
    share = taken / counted
    labels = torch.from_numpy(regions.labels).to(fused.device)
    inside = labels > 0
    region, weight = labels[inside] - 1, counted[inside].double()
    sums = torch.zeros(2, len(regions.sizes), dtype=torch.float64, device=fused.device)
    sums.index_add_(1, region, torch.stack([weight, weight * share[inside]]))
    means = (sums[1] / sums[0]).cpu().numpy()
    shares = kept_contrasts(regions, means)
    # what is small, or alike in both sources, is left as it is, but for a lesion that a large region needs
    given = torch.from_numpy(regions.large | (shares != means)).to(fused.device)
    inside[inside.clone()] = given[region]
    region = region[given[region]]
    change = torch.zeros_like(share)
    change[inside] = torch.from_numpy(shares).to(share)[region] - share[inside]
    near, total = _window_means(torch.stack([inside.to(change.dtype), change]))
    around = (near > 0) & ~inside
    change[around] = total[around] / near[around] * (2 * near[around]).clamp(max=1)
    levelled = (share + change).clamp_(0, 1)
    fused[0] += (levelled - share) * (first - second)
    if len(fused) > 1:
        fused[1] = torch.where(inside | around, levelled, fused[1])


def _window_means(volumes: Tensor) -> Tensor:
    """Average (N, S, H, W) over windows, zeros outside, of slabs of less than a window too."""
    for axis in range(3):
        along = [axis == other for other in range(3)]
        sides = [REACH * here for here in reversed(along) for _ in range(2)]
        volumes = functional.avg_pool3d(functional.pad(volumes, sides), [1 + 2 * REACH * here for here in along], 1)
    return volumes
