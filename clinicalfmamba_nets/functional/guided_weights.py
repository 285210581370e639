"""Weights of two sources smoothed over neighboring voxels and slices, but for where the sources themselves change."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import torch
from torch import Tensor
from torch.nn import functional

REACH = 1.5  # pixels from the middle of a window to its sides
REGULARIZATION = 1e-3  # variance of a source, in units of the squared range, above which it is followed
_ALIKE = 1e-8  # squared difference of the sources below which their shares say nothing


def smooth_weights_(fused: Tensor, image: Tensor, spacing: Sequence[float]) -> Tensor:
    """Smooth the shares of two sources in a volume that was fused slice by slice, in place.

    A network that fuses slice by slice may take its share from one source in a slice and from the other in the next
    one, or at places that neither source marks: borders that neither source has. So the share w of the first source
    A, w = (F - B) / (A - B), is fitted in windows by a A + b B + c, each voxel counting by (A - B)^2; the fits of all
    windows that hold a voxel are averaged. This is the guided filter of He, Sun and Tang (IEEE TPAMI 2013) with both
    sources as guides and a weighted fit. Every result of a mix stays a mix. Windows reach 1.5 pixels to each side; of
    thicker slices as much counts as lies inside.

    Args:
        fused: results F, (B, 1 or 2, S, H, W) float32, the shares second where they are there; changed.
        image: pairs, (B, 2, S, H, W) in [0, 1], of any float type.
        spacing: distance of slices, rows and columns in mm.

    Returns:
        `fused`.

    Example:
        >>> image = torch.stack([torch.full((8, 9, 9), 0.6), torch.full((8, 9, 9), 0.2)])[None]
        >>> fused = torch.where(torch.arange(8).view(8, 1, 1) < 4, image[:, :1], image[:, 1:])  # 0.6 or 0.2
        >>> [round(x, 2) for x in smooth_weights_(fused, image, (1.0, 1.0, 1.0))[0, 0, :, 4, 4].tolist()]
        [0.6, 0.6, 0.56, 0.47, 0.33, 0.24, 0.2, 0.2]
    """
    image = image.to(fused.dtype)
    pixel = min(spacing[1:])
    across, *within = (_window(REACH * pixel / distance) for distance in spacing)
    count = window_sums(torch.ones_like(image[:1, 0, 0]), within)

    def fits() -> Iterator[Tensor]:
        moments = (window_sums(_moments(fused[:, 0, k], image[:, :, k]), within) for k in range(image.shape[2]))
        for around in _means(moments, across):
            yield window_sums(_fit(around), within) / count

    for k, (a, b, c) in enumerate(_means(fits(), across)):
        first, second = image[:, 0, k], image[:, 1, k]
        share = (a * first + b * second + c).clamp_(0, 1)
        counted, taken = counted_shares(fused[:, 0, k], first, second)
        fused[:, 0, k] += (share - taken / counted) * (first - second)
        fused[:, 1:, k] = share[:, None]
    return fused


def _window(reach: float) -> list[float]:
    """Return how much of the 0th, 1st, ... neighbor lies within `reach`, each being 1 wide; at most 8."""
    return [1.0, *(min(1.0, reach + 0.5 - place) for place in range(1, min(math.ceil(reach + 0.5), 9)))]


def window_sums(planes: Tensor, within: Sequence[Sequence[float]]) -> Tensor:
    """Sum planes over the windows of all pixels, as far as the plane goes; the mirror image gives the same to the bit.

    Args:
        planes: (..., H, W).
        within: along rows and columns, how much the pixel itself, its first, its second, ... neighbors count.

    Returns:
        The same shape.

    Example:
        >>> window_sums(torch.ones(1, 3), [[1.0], [1.0, 0.5]])
        tensor([[1.5000, 2.0000, 1.5000]])
    """
    for axis, window in zip((-2, -1), within, strict=True):
        size, reach = planes.shape[axis], len(window) - 1
        around = functional.pad(planes, (0, 0, reach, reach) if axis == -2 else (reach, reach))
        planes = planes.clone()
        for place, part in enumerate(window[1:], 1):
            both = around.narrow(axis, reach - place, size) + around.narrow(axis, reach + place, size)
            planes.add_(both, alpha=part)
    return planes


def _means(planes: Iterable[Tensor], window: Sequence[float]) -> Iterator[Tensor]:
    """Average each plane with its neighbors on both sides, as far as there are any; few planes are held at a time."""
    reach, source = len(window) - 1, iter(planes)
    ends: list[Tensor | None] = [None] * reach
    held = deque([*ends, *islice(chain(source, ends), reach)], 2 * reach + 1)  # the plane in question is in the middle
    for plane in chain(source, ends):
        held.append(plane)
        middle, weight = held[reach], 1.0
        if middle is None:
            continue
        mean = middle.clone()
        for place, part in enumerate(window[1:], 1):
            sides = [side for side in (held[reach - place], held[reach + place]) if side is not None]
            if sides:
                mean.add_(sides[0] if len(sides) == 1 else sides[0] + sides[1], alpha=part)
                weight += part * len(sides)
        yield mean.div_(weight)


def counted_shares(fused: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much each pixel counts, and that times the share of the first source; .5 where both are alike.

    Args:
        fused: results, of any shape.
        first: first sources, of the same shape.
        second: second sources.

    Example:
        >>> counted, taken = counted_shares(torch.tensor([0.3]), torch.tensor([0.6]), torch.tensor([0.2]))
        >>> round((taken / counted).item(), 3)
        0.25
    """
    apart = first - second
    counted = apart * apart
    taken = ((fused - second) * apart).clamp_(min=0).minimum(counted)
    return counted + _ALIKE, taken + _ALIKE / 2


def _moments(fused: Tensor, pair: Tensor) -> Tensor:
    """Return what the fit needs of results (B, H, W) of pairs (B, 2, H, W), (9, B, H, W)."""
    first, second = pair[:, 0], pair[:, 1]
    q, qw = counted_shares(fused, first, second)
    qa, qb = q * first, q * second
    return torch.stack([q, qw, qa, qb, qw * first, qw * second, qa * first, qb * second, qa * second])


def _fit(moments: Tensor) -> Tensor:
    """Solve for a, b and c, (3, B, H, W), the least squares of the windows."""
    w, a, b, wa, wb, aa, bb, ab = moments[1:] / moments[0]
    aa, bb, ab = aa - a * a + REGULARIZATION, bb - b * b + REGULARIZATION, ab - a * b
    wa, wb = wa - w * a, wb - w * b
    determinant = aa * bb - ab * ab
    slope_a, slope_b = (bb * wa - ab * wb) / determinant, (aa * wb - ab * wa) / determinant
    return torch.stack([slope_a, slope_b, w - slope_a * a - slope_b * b])
