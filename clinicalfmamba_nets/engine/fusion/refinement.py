"""The weights of a mix, refined by a few steps towards what a fused image should keep of its two sources."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.gradients import pad_edges
from clinicalfmamba_nets.functional.guided_weights import counted_shares
from clinicalfmamba_nets.functional.structures import alone, opened
from clinicalfmamba_nets.losses.box_fidelity import LEAST_SIZE, BoxFidelity
from clinicalfmamba_nets.losses.correlation import difference_correlation
from clinicalfmamba_nets.losses.edges import SourceEdges, SourceTexture
from clinicalfmamba_nets.losses.lone_structures import LoneStructures
from clinicalfmamba_nets.ops import refined_shares, refines_shares

GRID = 8  # pixels: sides are padded to multiples, so that windows lie alike over the mirror image
CLOSE, FAR = 0.5, 0.7  # of the range: closer, either may be shown; farther apart, the brighter one gives way no more
SPOT = 15  # pixels: a bright spot is narrower
LONE = 0.15  # of the range: so far more than in the other source it stands out
BRIGHT, RAMP = 0.75, 0.1  # of the range: from where on a spot counts, and over how much more it comes to count in full
NOISY = 0.025  # of the range: beside noise of this deviation the correlation of differences counts no more
ENOUGH = 1.4  # sum of the correlations of differences: what is above it counts no more
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8  # decay of the moments and least root of the second, as in the paper of Adam


class Seen(NamedTuple):
    """Pairs as the shares of their sources are decided by.

    Args:
        quiet: without noise: those whose loss counts, (B, 2, H, W) in [0, 1].
        white: with white bone: what is bright in them, and brighter than in the images, keeps its share; as `quiet`.
        noise: standard deviation of the noise that each pixel shows, in units of the range; as `quiet`.
    """

    quiet: Tensor
    white: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Refinement:
    """A few steps of gradient descent on the shares of two sources, for one image at a time.

    A network gives each pixel one look. What it has missed at a pixel, such as a sharp edge of the other source or a
    dark lesion that the CT alone shows, a loss of the result tells. So the share w of the first source A,
    w = (F - B) / (A - B), is moved by Adam (Kingma and Ba, ICLR 2015) with falling steps. The loss is 1 less the edges
    kept (`edge_preservation`), plus the terms below, each times its weight.

    No pixel is moved by more than `reach`. Where the mean of 3 x 3 pixels of one source is more than 0.7 of the range
    above the other's, its share falls no more, and from 0.5 on by less: bone, a bleeding, tracer stay as bright as the
    network has drawn them; so do bright spots that one source alone shows, such as a calcification. Every result of a
    mix stays a mix. The mirror image gives the mirrored result. Source: ours.

    Args:
        steps: how many; each takes about a hundredth of the network's time for the image.
        rate: share by which the first step moves a pixel; the steps after it fall to nothing.
        reach: greatest change of a pixel, as a share of the range.
        overshoot: weight of `edge_overshoot`.
        texture: weight of the texture beyond the sources, see `SourceTexture`.
        information: weight of the information lost, see `BoxFidelity`.
        structure: weight of the structural similarity lost, see `BoxFidelity`.
        correlation: weight of half the square of what the `difference_correlation` lacks of 1.4.
        brightness: weight of the mean distance to the brighter source.
        lesions: weight of what is lacking of a single source's structures, see `LoneStructures`.
        noise: weight of the noise shown: the mean of the squared share of a source times the standard deviation of its
            noise. Beside noise `correlation`, by which a mix would show both images everywhere, counts less, and not at
            all from 2.5 % of the range on.
        spots: how far small bright spots that one source alone shows are drawn from it before the first step, from 0,
            as the network has drawn them, to 1, in full.
        volume_correlation: that of `correlation` in the slices of a volume; None for the same.

    Raises:
        FusionInputError: a value that is no number of at least 0, or no whole number of steps.

    Example:
        >>> image = torch.rand(1, 2, 32, 32)
        >>> fused = image.mean(1, keepdim=True)
        >>> refined = Refinement()(fused, image)
        >>> bool((refined <= image.amax(1, keepdim=True) + 1e-6).all()), bool(((refined - fused).abs() < 0.51).all())
        (True, True)
    """

    steps: int = 48
    rate: float = 0.1
    reach: float = 0.5
    overshoot: float = 0.2
    texture: float = 0.3
    information: float = 0.7
    structure: float = 0.5
    correlation: float = 0.5
    brightness: float = 0.3
    lesions: float = 0.0
    noise: float = 2.5
    spots: float = 0.0
    volume_correlation: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = int if field.name == "steps" else (int, float)
            if value is None and field.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < math.inf:
                what = "a whole number of at least 0" if field.name == "steps" else "a number of at least 0"
                remedy = f"such as {field.default or 0.5}"
                raise input_error(f"refinement, {field.name}", what, repr(value), remedy)

    def of_volumes(self) -> Refinement:
        """Return the refinement for the slices of a volume."""
        correlation = self.correlation if self.volume_correlation is None else self.volume_correlation
        return replace(self, correlation=correlation)

    def __call__(self, fused: Tensor, image: Tensor, seen: Seen | None = None) -> Tensor:
        """Refine results.

        Args:
            fused: results F, (B, 1 or 2, H, W), the shares second where they are there.
            image: pairs, (B, 2, H, W) in [0, 1], on the same device.
            seen: the pairs as the shares are decided by; None for these.

        Returns:
            The refined results, float32; as they were where a side has fewer than 16 pixels.
        """
        if self.steps == 0 or min(image.shape[2:]) < LEAST_SIZE:
            return fused.float()
        with torch.inference_mode(False), torch.enable_grad():
            seen = seen if seen is not None else Seen(image, image, torch.zeros_like(image))
            given = (part.detach().float().clone() for part in (fused, image, *seen))
            parts = zip(*given, strict=True)
            return torch.stack([self._refined(*(part[None] for part in one))[0] for one in parts])

    def _refined(self, fused: Tensor, pair: Tensor, quiet: Tensor, white: Tensor, noise: Tensor) -> Tensor:
        first, second = pair[:, :1], pair[:, 1:]
        counted, taken = counted_shares(fused[:, :1], first, second)
        share = taken / counted
        beside = replace(self, correlation=self.correlation * max(0.0, 1 - float(noise.max()) / NOISY))
        given = torch.cat([quiet, share, white, noise], 1)
        refined = beside._on_grid(given)
        if pair.shape[3] % 2:  # of an odd width no grid lies alike over both sides
            refined = (refined + beside._on_grid(given.flip(3)).flip(3)) / 2
        image = fused[:, :1] + (refined - share) * (first - second)
        return torch.cat([image, refined], 1)[:, : fused.shape[1]]

    def _on_grid(self, given: Tensor) -> Tensor:
        """Return the refined shares of a pair, its shares, the pair with white bone and its noise, (1, 7, H, W)."""
        height, width = given.shape[2:]
        above, left = (-height % GRID) // 2, (-width % GRID) // 2
        sides = [left, -width % GRID - left, above, -height % GRID - above]
        padded = functional.pad(given, sides, mode="replicate")
        share = self._descended(*padded.split([2, 1, 2, 2], 1))
        return share[..., above : above + height, left : left + width]

    def _descended(self, pair: Tensor, share: Tensor, seen: Tensor, noise: Tensor) -> Tensor:
        """Return the shares (1, 1, H, W) of a pair after the steps."""
        if self.spots:
            first, second = (min(self.spots, 1.0) * _lone_spots(seen)).split(1, 1)
            share = share + first * (1 - share) - second * share
        least, most = self._bounds(pair, share, seen)
        if refines_shares(pair):
            return refined_shares(pair, share, least, most, self.steps, asdict(self), self.noise * noise)
        second, apart = pair[:, 1:], pair[:, :1] - pair[:, 1:]
        loss = _Loss(self, pair)
        mean, square = torch.zeros_like(share), torch.zeros_like(share)
        for step in range(1, self.steps + 1):
            share.requires_grad_(True)
            shown = (noise * torch.cat([share, 1 - share], 1).square()).sum(1).mean()
            (slope,) = torch.autograd.grad(loss(second + share * apart) + self.noise * shown, share)
            share = share.detach()
            mean = torch.lerp(slope, mean, _FIRST)
            square = torch.lerp(slope.square(), square, _SECOND)
            root = (square / (1 - _SECOND**step)).sqrt() + _TINY
            rate = self.rate * (self.steps + 1 - step) / self.steps
            moved = share - rate * mean / (1 - _FIRST**step) / root
            share = torch.minimum(torch.maximum(moved, least), most)
        return share

    def _bounds(self, pair: Tensor, share: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest share of each pixel, (1, 1, H, W)."""
        apart = seen[:, :1] - seen[:, 1:]
        reach = (self.reach / apart.abs().clamp_min(_TINY)).clamp_max(1)
        around = _near_mean(apart)
        darker = reach * ((FAR - around.abs()) / (FAR - CLOSE)).clamp(0, 1)
        white = _counted(seen) * (seen > pair)  # such as bone in a window that shows it grey
        free = 1 - torch.maximum(_lone_spots(seen), white)
        least = share - torch.where(around > 0, darker, reach) * free[:, :1]
        most = share + torch.where(around < 0, darker, reach) * free[:, 1:]
        return least.clamp_min(0), most.clamp_max(1)


def _near_mean(image: Tensor) -> Tensor:
    """Mean of 3 x 3 pixels of (B, C, H, W), added from both sides so that the mirror image has the same to the bit."""
    image = pad_edges(image, 1, "replicate")
    image = image[..., :-2] + image[..., 2:] + image[..., 1:-1]
    return (image[..., :-2, :] + image[..., 2:, :] + image[..., 1:-1, :]) / 9


def _lone_spots(pair: Tensor) -> Tensor:
    """How far each source alone shows a small bright spot, (B, 2, H, W) from 0 to 1."""
    height = pair - opened(pair, SPOT)
    spots = ((height - height.flip(1) - LONE) / RAMP).clamp(0, 1) * _counted(pair)
    return spots * alone((spots > 0).to(spots.dtype))


def _counted(image: Tensor) -> Tensor:
    """How far a pixel counts as bright, from 0 to 1."""
    return ((image - BRIGHT) / RAMP).clamp(0, 1)


class _Loss:
    """The weighted terms of a refinement for one pair."""

    def __init__(self, weights: Refinement, pair: Tensor) -> None:
        self.weights, self.pair, self.brighter = weights, pair, pair.amax(1, keepdim=True)
        self.edges = SourceEdges(pair)
        self.texture = SourceTexture(pair) if weights.texture else None
        self.fidelity = BoxFidelity(pair) if weights.information or weights.structure else None
        self.lone = LoneStructures(pair) if weights.lesions else None

    def __call__(self, fused: Tensor) -> Tensor:
        weights, pair = self.weights, self.pair
        kept, overshoot = self.edges(fused)
        terms = [weights.overshoot * overshoot - kept, weights.brightness * (self.brighter - fused).mean()]
        if weights.correlation:
            lack = (ENOUGH - difference_correlation(fused, pair)).relu()
            terms.append(weights.correlation / 2 * lack.square().mean())
        if self.fidelity is not None:
            information, structure = self.fidelity(fused)
            terms.append(weights.information * information + weights.structure * structure)
        if self.texture is not None:
            terms.append(weights.texture * self.texture(fused))
        if self.lone is not None:
            terms.append(weights.lesions * self.lone(fused))
        return torch.stack(terms).sum()
