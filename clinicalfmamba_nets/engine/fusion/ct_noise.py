"""A CT without its noise: what the shares of the sources are decided by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn.functional import pad

from clinicalfmamba_nets.functional.guided_weights import window_sums
from clinicalfmamba_nets.functional.structures import dilated, opened
from clinicalfmamba_nets.transforms.restore import TISSUE_KEY

WINDOW = [1.0] * 5  # 9 x 9 pixels: the noise of a scanner's soft kernel is alike over two or three
LEAST, FULL = 0.02, 0.03  # of the range: tissue deviates by less than the first; noise counts in full from the second
QUIETEST = 0.2  # of the windows lie in tissue that is even
STRENGTH = 3.0  # times the variance of the noise: what changes less is noise
DARK, BRIGHT = 0.005, 0.995  # what is beyond is at the ends of the range
FAR = 4  # pixels between which noise is hardly alike
LINES = [(0, 2), (2, 0), (2, 2), (2, -2), (1, 2), (1, -2), (2, 1), (2, -1)]  # steps in pixels, downwards and right
STEPS, SPOTS = 3, (7, 9)  # to both sides: a line is 9 to 15 pixels long and 3 wide; sides of spots in pixels
DENSER, SPOT = (4.2, 5.0), 1.2  # deviations above which lines count, and count in full; times which spots, fewer, count
LEAST_DEVIATION = 0.1  # of that of single pixels: the means of lines and spots deviate by no less
LINE = 3  # bright pixels of 3 x 3, as a thin skull has; fewer are noise
WHOLE = 132  # of the 162 differences of a window lie inside of the range where it tells the noise
ENOUGH, OF_SLICE = 200, 1000  # windows that tell the noise, and that of a slice; of fewer it is that of all slices
MEDIAN = 0.6745  # of the absolute values of normal noise of deviation 1
BINS, LOUDEST = 1 << 16, 0.1  # of the histogram of their variances, which ends at the second


@dataclass(frozen=True)
class CTNoise:
    """The noise of CTs in HU, measured where they are even, and how they look without it.

    In a window as narrow as that of the brain the noise of a CT has more edges than its tissue. A mix that is to keep
    edges then shows the noise of the CT where the MR shows a lesion. So the shares of the sources are decided without
    it, and mix the images as they are.

    The noise is the standard deviation in 9 x 9 pixels that a fifth of the windows of a slice lie below. It is taken
    away by the local linear minimum mean square error filter (Lee, IEEE TPAMI 1980), the lines of all windows that hold
    a pixel averaged (as in the guided filter of He, Sun and Tang, IEEE TPAMI 2013). What is too thin or small to stand
    out in such a window, as a dense artery or blood in a sulcus, is put back: where the mean along one of 8 lines, or
    of 7 x 7 or 9 x 9 pixels, is denser than the filtered image by more than such means of noise are. Regions beyond the
    ends of the range, bone and air, count in neither, nor do the two pixels next to them. Source: ours, of these two.

    Args:
        deviations: standard deviation of the noise of each channel, (B, 2), in units of the range, for slices that show
            too little to tell their own; 0 for none.

    Example:
        >>> even = torch.full((1, 2, 32, 32), 0.4)
        >>> noisy = even + 0.1 * torch.randn(even.shape, generator=torch.Generator().manual_seed(0))
        >>> quiet, shown = CTNoise(torch.tensor([[0.0, 0.1]]))(noisy)
        >>> bool((quiet[:, 0] == noisy[:, 0]).all()), round(quiet[:, 1].std().item(), 2), shown[0, :, 9, 9]
        (True, 0.01, tensor([0.0000, 0.1000]))
    """

    deviations: Tensor

    @classmethod
    def of(cls, image: Tensor, slices: Tensor) -> CTNoise | None:
        """Measure the noise of pairs.

        Args:
            image: the pairs with their meta, in which `WindowIntensityPair` has recorded which channel is a CT in HU.
            slices: the same pairs slice by slice, (B, 2, S, H, W) in [0, 1].

        Returns:
            None where no slice of a CT in HU has noise of more than 2 % of the range.
        """
        levels = image.meta.get(TISSUE_KEY) if isinstance(image, MetaTensor) else None
        if levels is None:
            return None
        levels = torch.as_tensor(levels).reshape(-1, 2, 2).expand(len(slices), 2, 2)
        deviations = torch.zeros(len(slices), 2)
        loudest = 0.0
        for number, channel in (levels[..., 0] > 0).nonzero().tolist():
            counts = torch.zeros(BINS, dtype=torch.float64, device=slices.device)
            for plane in slices[number, channel]:
                of_slice = _variances(plane.float(), _shown(plane))
                loudest = max(loudest, _quietest(of_slice, OF_SLICE))
                counts += of_slice
            deviations[number, channel] = _quietest(counts, ENOUGH)
            loudest = max(loudest, float(deviations[number, channel]))
        return cls(deviations) if loudest > LEAST else None

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Take the noise of pairs (B, 2, H, W) in [0, 1] away.

        Returns:
            The pairs without the noise of their CT, in [0, 1], and the standard deviation of the noise that each pixel
            shows, as `image`: 0 beyond the ends of the range, where bone is in the brain window, and at its structures.
        """
        quiet, noise = image.clone(), torch.zeros_like(image)
        for number, channel in self.deviations.nonzero().tolist():
            plane = image[number, channel].float()
            shown = _shown(plane)
            deviation = _quietest(_variances(plane, shown), OF_SLICE) or float(self.deviations[number, channel])
            deviation *= min(max((deviation - LEAST) / (FULL - LEAST), 0.0), 1.0)
            if deviation == 0:
                continue
            quiet[number, channel], even = _without(plane, shown, deviation)
            noise[number, channel] = deviation * even
        return quiet, noise


def _shown(plane: Tensor) -> Tensor:
    """Tell, 1 or 0, where (H, W) lies inside of the range, 2 pixels away from regions that do not."""
    corners = (plane[0, 0], plane[0, -1], plane[-1, 0], plane[-1, -1])  # of what fills the outside, such as 0 HU
    outside = torch.stack([plane <= DARK, *(plane == corner for corner in corners)]).any(0)
    dark, bright = (outside.float()[None, None], (plane >= BRIGHT).float()[None, None])
    bone = bright * (window_sums(bright, [[1.0, 1.0]] * 2) >= LINE)
    return 1 - dilated(torch.maximum(opened(dark, 3), bone), 5)[0, 0]


def _means(planes: Tensor, counted: Tensor) -> Tensor:
    """Average (N, H, W) over what counts, (H, W), in the windows of all pixels; the mirror image gives the same."""
    within = [WINDOW, WINDOW]
    return window_sums(planes * counted, within) / window_sums(counted[None], within).clamp_min(1)


def _moments(plane: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the windows of (H, W)."""
    mean, square = _means(torch.stack([plane, plane * plane]), counted)
    return mean, (square - mean * mean).clamp_min_(0)


def _variances(plane: Tensor, shown: Tensor) -> Tensor:
    """Count the variances of the noise in the windows of (H, W), (BINS,) float64, where they tell it."""
    squares, count = window_sums(_bends(plane, shown, 0) + _bends(plane, shown, 1), [WINDOW, WINDOW])
    variances = (squares / count.clamp_min(1))[count >= WHOLE]
    return torch.histc(variances.clamp_max_(LOUDEST), BINS, 0, LOUDEST).double()


def _quietest(counts: Tensor, enough: int) -> float:
    """Return the standard deviation that a fifth of the counted variances lie below; 0 where too few are."""
    quiet = counts.cumsum(0)
    if quiet[-1] < enough:
        return 0.0
    place = int(torch.searchsorted(quiet, QUIETEST * quiet[-1]))
    return math.sqrt((place + 0.5) * LOUDEST / BINS)


def _bends(plane: Tensor, shown: Tensor, axis: int) -> Tensor:
    """Return by how much (H, W) differs from the mean of two far pixels, squared, and where that is told, (2, H, W).

    Of noise that is not alike over so many pixels the square is its variance; an even slope has none.
    """
    size = plane.shape[axis] - 2 * FAR
    if size <= 0:
        return torch.zeros(2, *plane.shape)
    before, here, after = (torch.stack([plane, shown]).narrow(axis + 1, start, size) for start in (0, FAR, 2 * FAR))
    inside = before[1] * here[1] * after[1]
    squares = (here[0] - (before[0] + after[0]) / 2).square() / 1.5
    return pad(torch.stack([squares * inside, inside]), (0, 0, FAR, FAR) if axis == 0 else (FAR, FAR))


def _without(plane: Tensor, shown: Tensor, deviation: float) -> tuple[Tensor, Tensor]:
    """Return (H, W) without noise of a standard deviation, and how far it is even there, from 0 to 1."""
    noise = STRENGTH * deviation**2
    mean, variance = _moments(plane, shown)
    slope = (1 - noise / variance.clamp_min(noise)).clamp_(0, 1)
    slope, offset = _means(torch.stack([slope, (1 - slope) * mean]), shown)
    quiet = torch.where(shown > 0, slope * plane + offset, plane)
    denser = _denser(plane - quiet, shown, LEAST_DEVIATION * deviation)
    return torch.lerp(quiet, plane, denser).clamp_(0, 1), (1 - slope) * (1 - denser) * shown


def _denser(rest: Tensor, shown: Tensor, least: float) -> Tensor:
    """Tell how far (H, W), an image less the filtered one, holds thin or small dense structures, from 0 to 1."""
    inside = shown > 0
    if not inside.any():
        return torch.zeros_like(rest)
    found = torch.zeros_like(rest)
    for times, means in _lines_and_spots(rest * shown):
        deviation = float(means[inside].abs().median()) / MEDIAN
        found = torch.maximum(found, times * means / max(deviation, least))
    low, high = DENSER
    kept = ((found - low) / (high - low)).clamp(0, 1) * shown
    return dilated(kept[None, None], 5)[0, 0]


def _lines_and_spots(plane: Tensor) -> Iterator[tuple[float, Tensor]]:
    """Give how much the means of (H, W) of all spots, and along each line, count, and the means; the mirror's alike."""
    for size in SPOTS:
        yield SPOT, window_sums(plane, [[1.0] * (size // 2 + 1)] * 2) / size**2
    reach, (rows, columns) = 2 * STEPS, plane.shape
    small = window_sums(plane, [[1.0, 1.0]] * 2) / 9
    wide = pad(small, [reach] * 4)

    def moved(down: int, right: int) -> Tensor:
        return wide[reach + down :, reach + right :][:rows, :columns]

    for down, right in LINES:
        pairs = (moved(step * down, step * right) + moved(-step * down, -step * right) for step in range(1, STEPS + 1))
        yield 1.0, sum(pairs, small) / (1 + 2 * STEPS)
