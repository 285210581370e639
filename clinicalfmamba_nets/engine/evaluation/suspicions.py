"""What a fused image gives away about itself: a copy of a source, lost color, a shift, a turn, another pair."""

from __future__ import annotations

import hashlib
import itertools

import torch
from torch import Tensor
from torch.nn import functional

from clinicalfmamba_nets.metrics import head_region

COPY_LEVEL, COPY_SHARE = 4 / 255, 0.02  # a copy differs by more in fewer than this share of the head
NEUTRAL = 4 / 255
LARGEST_SHIFT = 16
GAIN = 1.2  # how much better than in place a shifted image must fit
ALIKE = 0.999  # correlation in the head with a source that is copied, whatever its brightness
OPPOSED = -0.3  # correlation with the brighter of both sources of an image that is inverted
# Another pair, or another way up, explains an image where less than this part of the misfit is left.
OTHER, LEAST_MISFIT = 0.5, 0.01
_THUMB = 64


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
    if not copied:
        found += _near_copies(fused[0], image, head)
    colored = [planes is not None and _is_colored(planes) for planes in (chroma, source_chroma)]
    if colored[1] and not colored[0]:
        found.append("greyed: image B is in color, the fused image is not")
    if colored[0] and not colored[1]:
        found.append("colored: both sources are grey, scored by its luma")
    if correlation(fused[0].flatten(), image.amax(0).flatten()) < OPPOSED:
        found.append("inverted: dark where both sources are bright")
        fused = 1 - fused
    turn = find_turn(fused[0], image)
    if turn:
        return [*found, f"{turn} against the sources"]
    shift = None if copied else find_shift(fused[0], image)
    if shift is not None:
        found.append(f"shifted by {' x '.join(map(str, shift))} pixels against the sources")
    return found


def correlation(first: Tensor, second: Tensor) -> float:
    """Return the correlation of two sets of values, 0 where one is constant.

    Example:
        >>> round(correlation(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([3.0, 2.0, 1.0])), 6)
        -1.0
    """
    one, other = first.double() - first.double().mean(), second.double() - second.double().mean()
    size = float(one.norm() * other.norm())
    return float(one @ other) / size if size > 1e-12 else 0.0


def _near_copies(fused: Tensor, image: Tensor, head: Tensor) -> list[str]:
    """Tell of a source that differs from the image by its brightness alone, where the other source is another one."""
    alike = [correlation(fused[head], source[head]) for source in image] if bool(head.any()) else [0.0, 0.0]
    if min(alike) > ALIKE or max(alike) < ALIKE:
        return []
    return [f"nearly a copy of image {'AB'[alike[1] > alike[0]]} (correlation {max(alike):.4f})"]


def find_turn(fused: Tensor, image: Tensor) -> str:
    """Tell how an image is mirrored or turned against its sources; "" where it lies as they do.

    Args:
        fused: (*spatial).
        image: (2, *spatial).

    Example:
        >>> image = torch.rand(2, 40, 40)
        >>> find_turn(image.amax(0).flip(1), image)
        'mirrored along axis 1'
    """
    fused, image = _small(fused[None])[0], _small(image)
    axes = range(fused.dim())
    turned = {
        f"mirrored along ax{'i' if count == 1 else 'e'}s {' and '.join(map(str, flipped))}": fused.flip(flipped)
        for count in (1, 2)
        for flipped in itertools.combinations(axes, count)
    }
    if fused.dim() == 2 and fused.shape[0] == fused.shape[1]:
        turned |= {
            "transposed": fused.T,
            "turned by 90 degrees": fused.rot90(1),
            "turned by -90 degrees": fused.rot90(-1),
        }
    basis = _basis(image)
    misfits = {words: _misfit(made.flatten(), basis) for words, made in turned.items()}
    best = min(misfits, key=lambda words: misfits[words])
    return best if misfits[best] < OTHER * _misfit(fused.flatten(), basis) - LEAST_MISFIT else ""


class OtherPairs:
    """Remembers the pairs of a list in small, to find fused images that belong to another pair than their name says.

    Args:
        most: how many of the last pairs are compared.
    """

    def __init__(self, most: int = 200) -> None:
        self.most = most
        self.seen: dict[str, tuple[Tensor, Tensor, float]] = {}
        self.pictures: dict[bytes, str] = {}

    def __call__(self, case: str, fused: Tensor, image: Tensor) -> list[str]:
        """Compare one pair with all before it.

        Args:
            case: its name.
            fused: (1, *spatial).
            image: (2, *spatial).

        Returns:
            Remarks: an equal fused image of another case, or fused images that fit each other's pair better.
        """
        found = []
        same = self.pictures.setdefault(hashlib.sha256(fused.contiguous().numpy().tobytes()).digest(), case)
        if same != case:
            found.append(f"the same fused image as case {same} has")
        made, basis = _small(fused)[0].flatten(), _basis(_small(image))
        own = _misfit(made, basis)
        for name, (other_made, other_basis, other_own) in self.seen.items():
            if name == case or other_basis.shape != basis.shape or same != case:
                continue
            if _misfit(made, other_basis) < OTHER * own - LEAST_MISFIT:
                found.append(f"it fits the sources of case {name} better: the names may be those of other cases")
            elif _misfit(other_made, basis) < OTHER * other_own - LEAST_MISFIT:
                found.append(f"the fused image of case {name} fits its sources better: the names may be exchanged")
        self.seen[case] = (made, basis, own)
        while len(self.seen) > self.most:
            self.seen.pop(next(iter(self.seen)))
        return found[:2]


def _small(image: Tensor) -> Tensor:
    """Average an image, (C, *spatial), over cells so that no side is longer than 64."""
    sizes = [min(side, _THUMB) for side in image.shape[1:]]
    return functional.interpolate(image[None].float(), sizes, mode="area")[0]


def _basis(image: Tensor) -> Tensor:
    """Return an orthonormal basis, (pixels, 5), of what a fused image is made of: both sources and their extremes."""
    planes = [image[0], image[1], image.amax(0), image.amin(0), torch.ones_like(image[0])]
    return torch.linalg.qr(torch.stack([plane.flatten() for plane in planes], 1).double())[0]


def _misfit(made: Tensor, basis: Tensor) -> float:
    """Return the share of the variance of an image that a pair does not explain."""
    values = made.double()
    total = float((values - values.mean()).square().sum())
    return float((values - basis @ (basis.T @ values)).square().sum()) / total if total > 1e-9 else 0.0


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
