"""What a fused image gives away about itself: a copy of a source, lost color, a shift."""

from __future__ import annotations

import torch
from torch import Tensor

from clinicalfmamba_nets.metrics import head_region

COPY_LEVEL, COPY_SHARE = 4 / 255, 0.02  # a copy differs by more in fewer than this share of the head
NEUTRAL = 4 / 255
LARGEST_SHIFT = 16
GAIN = 1.2  # how much better than in place a shifted image must fit


def suspicions(fused: Tensor, image: Tensor, chroma: Tensor | None, source_chroma: Tensor | None) -> list[str]:
    """Tell what is wrong with a fused image as a whole.

    Args:
        fused: (1, *spatial) in [0, 1].
        image: the sources, (2, *spatial).
        chroma: Cb and Cr of the fused image, (2, *spatial) in [0, 1], or None for a grey one.
        source_chroma: those of the second source, or None.

    Returns:
        Remarks of one line; empty when nothing is wrong.

    Example:
        >>> image = torch.rand(2, 32, 32)
        >>> suspicions(image[:1], image, None, None)
        ['a copy of image A']
    """
    head = head_region(image[:1], image[1:])[0]
    other = ((fused - image).abs() > COPY_LEVEL)[:, head].float()
    copied = [name for name, part in zip("AB", other, strict=True) if len(part) and float(part.mean()) < COPY_SHARE]
    found = [f"a copy of image {name}" for name in copied]
    colored = [planes is not None and _is_colored(planes) for planes in (chroma, source_chroma)]
    if colored[1] and not colored[0]:
        found.append("greyed: image B is in color, the fused image is not")
    if colored[0] and not colored[1]:
        found.append("colored: both sources are grey, scored by its luma")
    shift = None if copied else find_shift(fused[0], image)
    if shift is not None:
        found.append(f"shifted by {' x '.join(map(str, shift))} pixels against the sources")
    return found


def _is_colored(planes: Tensor) -> bool:
    return float((torch.as_tensor(planes).float() - 0.5).abs().max()) > NEUTRAL


def _edges(image: Tensor) -> Tensor:
    """Size of the differences of an image along its axes, less their mean."""
    size = sum(torch.diff(image, dim=axis, append=image.narrow(axis, -1, 1)).abs() for axis in range(image.dim()))
    size = torch.as_tensor(size)
    return size - size.mean()


def find_shift(fused: Tensor, image: Tensor) -> tuple[int, ...] | None:
    """Find by how many pixels a fused image lies beside its sources; None where it lies in its place.

    The edges of the fused image are correlated with the stronger edges of both sources at every shift up to 16 pixels.

    Args:
        fused: (*spatial).
        image: (2, *spatial).

    Example:
        >>> image = torch.rand(2, 40, 40)
        >>> find_shift(image.amax(0).roll((3, -2), (0, 1)), image)
        (3, -2)
    """
    sources = torch.maximum(_edges(image[0]), _edges(image[1]))
    spectrum = torch.fft.rfftn(_edges(fused)) * torch.fft.rfftn(sources - sources.mean()).conj()
    fit = torch.fft.irfftn(spectrum, s=fused.shape)
    reach = [min(LARGEST_SHIFT, (size - 1) // 2) for size in fused.shape]
    for axis, most in enumerate(reach):
        fit = fit.roll(most, axis).narrow(axis, 0, 2 * most + 1)
    place = int(fit.argmax())
    best, here = float(fit.flatten()[place]), float(fit[tuple(reach)])
    index = torch.unravel_index(torch.tensor(place), fit.shape)
    shift = tuple(int(found) - most for found, most in zip(index, reach, strict=True))
    return shift if any(shift) and best > 0 and best > GAIN * max(here, 0.0) else None
