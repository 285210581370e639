"""What a single source shows at the size of a lesion, and how much of it a fused image lacks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

POOL = 4  # pixels of one place
SIZES = (3, 5)  # places along each axis of what is compared with its surround
SURROUND = 3  # times the size
KEPT = 0.85  # of the contrast
LONE = 2.0  # times the contrast of the other source
CLEAR = 0.04  # of the range: beyond the least of a lone contrast it counts in full
STEEP = 0.05  # of the range: from this lack on the penalty rises by a line


class LoneStructures:
    """How much a fused image lacks of what a single source shows at the size of a lesion.

    The contrast of a place is its mean over 12 or 20 pixels less that over three times as many. Where one source has
    more than twice the contrast of the other one, the fused image is to have 0.85 of it, in the same direction. So a
    dark region that the CT alone shows counts though the MRI has texture there. What is lacking is penalized as by
    Huber, so that structures that cannot be reached between the sources do not rule the others. Sides that are no
    multiples of 4 lose their last pixels.

    Source: ours.

    Args:
        image: the two sources, (B, 2, H, W) in [0, 1], sides of at least 4 pixels.

    Example:
        >>> image = torch.full((1, 2, 64, 64), 0.5)
        >>> image[:, 1, 24:40, 24:40] = 0.2  # a dark lesion of the second source alone
        >>> lacking = LoneStructures(image)
        >>> lacking(image[:, 1:]).item(), lacking(image[:, :1]).item() > 0
        (0.0, True)
    """

    def __init__(self, image: Tensor) -> None:
        self._wanted = []
        for contrast in _contrasts(image):
            size = contrast.abs()
            stronger = torch.where(size[:, :1] >= size[:, 1:], contrast[:, :1], contrast[:, 1:])
            weight = ((stronger.abs() - LONE * size.amin(1, keepdim=True)) / CLEAR).clamp(0, 1)
            self._wanted.append((stronger.sign(), KEPT * stronger.abs(), weight))

    def __call__(self, fused: Tensor) -> Tensor:
        """Return the mean penalty of what (B, 1, H, W) lacks, a scalar of at least 0."""
        found = []
        for contrast, (direction, least, weight) in zip(_contrasts(fused), self._wanted, strict=True):
            lack = (least - contrast * direction).relu()
            penalty = functional.huber_loss(lack, torch.zeros_like(lack), delta=STEEP, reduction="none")
            found.append((weight * penalty).mean() / STEEP)
        return torch.stack(found).sum()


def _contrasts(image: Tensor) -> list[Tensor]:
    """Return the contrasts of the places of (B, C, H, W) with their surround, one tensor for each size."""
    image = functional.avg_pool2d(image, POOL)
    return [_box_mean(image, size) - _box_mean(image, SURROUND * size) for size in SIZES]


def _box_mean(image: Tensor, size: int) -> Tensor:
    image = functional.pad(image, [size // 2] * 4, mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(image, (size, 1), 1), (1, size), 1)
