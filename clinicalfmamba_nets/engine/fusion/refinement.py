"""The weights of a mix, refined by a few steps towards what a fused image should keep of its two sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from clinicalfmamba_nets.engine.fusion.descent import Descent, descended
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.gradients import pad_edges
from clinicalfmamba_nets.functional.guided_weights import counted_shares
from clinicalfmamba_nets.functional.settled_steps import ROUNDS
from clinicalfmamba_nets.functional.structures import alone, opened
from clinicalfmamba_nets.losses.box_fidelity import LEAST_SIZE

GRID = 8  # pixels: sides are padded to multiples, so that windows lie alike over the mirror image
CLOSE, FAR = 0.5, 0.7  # of the range: closer, either may be shown; farther apart, the brighter one gives way no more
SPOT = 15  # pixels: a bright spot is narrower
LONE = 0.15  # of the range: so far more than in the other source it stands out
BRIGHT, RAMP = 0.75, 0.1  # of the range: from where on a spot counts, and over how much more it comes to count in full
NOISY = 0.025  # of the range: beside noise of this deviation the correlation of differences counts no more
_TINY = 1e-8


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
        settling: rounds in which the steps of a volume that neither source has are lessened, see `settle_steps_`.

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
    settling: int = ROUNDS

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.name in ("steps", "settling")
            kinds = int if whole else (int, float)
            if value is None and field.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < math.inf:
                what = "a whole number of at least 0" if whole else "a number of at least 0"
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
        return self.of_many([(fused, image, seen)])[0]

    def of_many(self, parts: Sequence[tuple[Tensor, Tensor, Seen | None]]) -> list[Tensor]:
        """Refine results of several sizes, on as many threads as torch has.

        Args:
            parts: for each size the arguments of a call.

        Returns:
            What the calls would return.
        """
        with torch.inference_mode(False), torch.enable_grad():
            plans = [self._plans(*part) for part in parts]
            shares = iter(descended([descent for part in plans for plan in part for descent in plan.descents]))
            return [
                torch.cat([plan.result([next(shares) for _ in plan.descents]) for plan in part])
                if part
                else fused.float()
                for part, (fused, *_) in zip(plans, parts, strict=True)
            ]

    def _plans(self, fused: Tensor, image: Tensor, seen: Seen | None) -> list[_Plan]:
        """Return what is to be done for each image of a batch; nothing for small ones."""
        if self.steps == 0 or min(image.shape[2:]) < LEAST_SIZE:
            return []
        seen = seen if seen is not None else Seen(image, image, torch.zeros_like(image))
        given = (part.detach().float().clone() for part in (fused, image, *seen))
        return [self._plan(*(part[None] for part in one)) for one in zip(*given, strict=True)]

    def _plan(self, fused: Tensor, pair: Tensor, quiet: Tensor, white: Tensor, noise: Tensor) -> _Plan:
        counted, taken = counted_shares(fused[:, :1], pair[:, :1], pair[:, 1:])
        share = taken / counted
        beside = replace(self, correlation=self.correlation * max(0.0, 1 - float(noise.max()) / NOISY))
        given = torch.cat([quiet, share, white, noise], 1)
        # of an odd width no grid lies alike over both sides
        sides = [given, given.flip(3)] if pair.shape[3] % 2 else [given]
        return _Plan(fused, pair, share, [beside._descent(_on_grid(side)) for side in sides])

    def _descent(self, given: Tensor) -> Descent:
        """Prepare the steps for a pair, its shares, the pair with white bone and its noise, (1, 7, H, W)."""
        pair, share, seen, noise = given.split([2, 1, 2, 2], 1)
        if self.spots:
            first, second = (min(self.spots, 1.0) * _lone_spots(seen)).split(1, 1)
            share = share + first * (1 - share) - second * share
        least, most = self._bounds(pair, share, seen)
        return Descent(self.steps, asdict(self), pair, share, least, most, self.noise * noise)

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


class _Plan(NamedTuple):
    """A result, its pair and its shares, (1, C, H, W), and the descents that refine them: of the mirror image too."""

    fused: Tensor
    pair: Tensor
    share: Tensor
    descents: list[Descent]

    def result(self, shares: list[Tensor]) -> Tensor:
        """Return the result with the shares that the descents ended at."""
        ended = [_off_grid(share, self.share) for share in shares]
        refined = ended[0] if len(ended) == 1 else (ended[0] + ended[1].flip(3)) / 2
        image = self.fused[:, :1] + (refined - self.share) * (self.pair[:, :1] - self.pair[:, 1:])
        return torch.cat([image, refined], 1)[:, : self.fused.shape[1]]


def _margins(image: Tensor) -> tuple[int, int]:
    """Return how many rows above and columns at the left an image gets where its sides are no multiples of GRID."""
    height, width = image.shape[2:]
    return (-height % GRID) // 2, (-width % GRID) // 2


def _on_grid(image: Tensor) -> Tensor:
    """Repeat the edges of an image until its sides are multiples of GRID."""
    (above, left), (height, width) = _margins(image), image.shape[2:]
    sides = [left, -width % GRID - left, above, -height % GRID - above]
    return functional.pad(image, sides, mode="replicate")


def _off_grid(padded: Tensor, image: Tensor) -> Tensor:
    """Cut what `_on_grid` added to an image of the size of the second."""
    (above, left), (height, width) = _margins(image), image.shape[2:]
    return padded[..., above : above + height, left : left + width]


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
