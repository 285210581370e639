"""Whether two heads on one grid lie on each other: mutual information there, and when the second is moved a little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clinicalfmamba_nets.spatial.similarity import BINS, Comparison, shared_information

# Less than this between the contrasts of one head was never seen (0.07 to 0.98 measured, two heads 0.00 to 0.01).
LEAST_INFORMATION = 0.03
# Aligned pairs lose by every move (0.37 to 0.999 of their information is left); turned by 8 degrees or moved by 8 mm
# they gain by one of them (1.1 to 7 times).
MOST_GAIN = 1.02
# Mirrored pairs gain 1.04 to 6.5 times by the mirror image; aligned ones of a symmetric head keep up to 1.021 times.
MOST_MIRRORED_GAIN = 1.03
# Interpolation smooths noise, so that a noisy image seems to gain by every turn and shift (up to 2.7 times), and a coil
# that makes one side of an MR brighter draws a second image there (1.06 to 1.5 times). Where a move gains, it is asked
# again with the noise averaged out, then with the shading taken out too. If that was what hid the fit, aligned pairs
# have 1.4 to 4 times the information then and 0.89 to 1.14 of it are left by a move; those turned by 8 degrees or moved
# by 8 mm gain 1.15 to 2 times, and two heads still share less than `LEAST_INFORMATION`.
MOST_CALM_GAIN = 1.14
_HIDDEN = 1.25  # times the information; less comes back without noise and shading (up to 1.22 times)
_CALM, _SHADING = 2.0, 15.0  # mm, deviations of the smoothing that averages noise out, that finds the shading
_TURNS, _SHIFTS = (-16.0, -8.0, 8.0, 16.0), (-8.0, 8.0)  # degrees about each axis, mm along it
_MIRRORED = "mirrored"
_SIDES = ("left to right", "front to back", "top to bottom")
_STEP, _SAMPLES = 4.0, 48  # mm between the voxels that are compared, voxels along an axis that are kept
_LEAST_VOXELS = 2000  # of each head; fewer tell nothing
_LEAST_ENTROPY = 0.1  # nats of each image in the head; one that is all but constant there tells nothing


class Fit(NamedTuple):
    """How well two heads lie on each other.

    Attributes:
        information: mutual information over the mean entropy, in [0, 1]; without noise and shading where they hide it.
        gain: the greatest information of a moved second image over `information`.
        move: that move in words.
        registered: whether the second one was registered before.
    """

    information: float
    gain: float
    move: str
    registered: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether the move is a mirror image, which puts voxels on voxels: nothing is interpolated."""
        return self.move.startswith(_MIRRORED)

    @property
    def warning(self) -> str:
        """What to tell the user; "" where the heads fit."""
        most = MOST_MIRRORED_GAIN if self.mirrored else MOST_GAIN
        if self.information >= LEAST_INFORMATION and self.gain <= most:
            return ""
        if self.mirrored and self.gain > most:
            told = f"mutual information {self.information * self.gain:.3f} in place of {self.information:.3f}"
            return (
                f"the second image fits better {self.move} ({told}): its sides may be exchanged, check its orientation"
            )
        told = f"mutual information {self.information:.3f}"
        if self.gain > most:
            told += f", {self.information * self.gain:.3f} with the second one {self.move}"
        remedy = "registration failed, align them by hand" if self.registered else "align them with --register rigid"
        return f"the two heads do not lie on each other ({told}): {remedy}"


def measure_fit(
    pair: np.ndarray, affine: np.ndarray, covered: np.ndarray | None = None, sided: bool = True
) -> Fit | None:
    """Compare two volumes in place, and with the second one turned and moved a little.

    Args:
        pair: (2, X, Y, Z) in [0, 1], as the network sees them.
        affine: 4 x 4, index to RAS mm.
        covered: where the second volume covers the first, bool (X, Y, Z), None for everywhere.
        sided: whether the affine knows left and right; if not, a mirror image is told by the axis that is reversed.

    Returns:
        The fit; None for flat images and heads of too few voxels to tell.

    Example:
        >>> ball = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0)
        >>> volume = np.where(ball < 18, 1 - ball / 20, 0)
        >>> measure_fit(np.stack([volume, np.sqrt(volume)]), 4 * np.eye(4)).warning
        ''
    """
    if pair.ndim != 4 or min(pair.shape[1:]) < 3:
        return None
    box = tuple(slice(None) for _ in range(3)) if covered is None else _box(covered)
    spacing = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    inside = pair[(slice(None), *box)]
    sides = zip(spacing, inside.shape[1:], strict=True)
    steps = [max(1, min(round(_STEP / voxel), side // _SAMPLES)) for voxel, side in sides]
    place = np.diag([*(spacing * steps), 1.0])  # axis by axis: a move is one in the image's own directions
    fit = _fit(_dark_around(inside[(slice(None), *(slice(None, None, step) for step in steps))]), place, affine, sided)
    if fit is None or not fit.warning:
        return fit
    calm = _dark_around(_without_noise(inside, steps, spacing))
    for volumes in (calm, np.stack([_without_shading(calm[0], place), calm[1]])):
        found = _fit(volumes, place, affine, sided)
        if found is None or found.information < max(LEAST_INFORMATION, _HIDDEN * fit.information):
            continue
        if found.gain <= (MOST_MIRRORED_GAIN if found.mirrored else MOST_CALM_GAIN):
            return found._replace(gain=min(found.gain, MOST_GAIN))  # what is above it is chance
    return fit


def _fit(volumes: np.ndarray, place: np.ndarray, affine: np.ndarray, sided: bool) -> Fit | None:
    if min((volume > 0.05).sum() for volume in volumes) < _LEAST_VOXELS or min(volumes.shape[1:]) < 3:
        return None
    compare = Comparison(volumes[0], place, volumes[1], place)
    if compare.head < _LEAST_VOXELS:  # a thin slab: every voxel counts
        compare = Comparison(volumes[0], place, volumes[1], place, step=0)
    if compare.head < _LEAST_VOXELS:
        return None
    found = compare(np.eye(4))
    information = found.information
    if found.entropy < _LEAST_ENTROPY:
        return None
    moves = [*_moves(volumes[0], place), *_mirrors(volumes[0], place, np.asarray(affine, float), sided)]
    moved = [(compare(matrix), words) for words, matrix in moves]
    # A slab that is turned out of its plane meets itself in a strip, which tells of the strip alone.
    best, words = max((one.information if one.overlap >= 0.5 else 0.0, words) for one, words in moved)
    return Fit(information, best / max(information, 1e-3), words)


def _without_noise(pair: np.ndarray, steps: Sequence[int], spacing: np.ndarray) -> np.ndarray:
    """Return means of blocks of voxels, smoothed."""
    from scipy.ndimage import gaussian_filter

    sizes = [side // step for side, step in zip(pair.shape[1:], steps, strict=True)]
    whole = tuple(slice(size * step) for size, step in zip(sizes, steps, strict=True))
    split = [part for size, step in zip(sizes, steps, strict=True) for part in (size, step)]
    blocks = np.stack([volume[whole].reshape(split).mean(axis=(1, 3, 5)) for volume in pair])
    return gaussian_filter(blocks, (0, *(_CALM / (spacing * steps))), mode="nearest")


def _without_shading(volume: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Divide an MR by the mean of the head around each voxel: a coil near the head makes one side of it brighter."""
    from scipy.ndimage import gaussian_filter

    head = (volume > 0.05).astype(np.float32)
    means = [gaussian_filter(one, _SHADING / place.diagonal()[:3], mode="nearest") for one in (volume * head, head)]
    return np.clip(volume * means[1] / np.maximum(2.5 * means[0], 0.02 * means[1] + 1e-6), 0, 1)


def _dark_around(pair: np.ndarray) -> np.ndarray:
    """Turn volumes whose edges are their brightest part dark side out: a head must be told from what is around it."""
    turned = []
    for volume in pair:
        edges = np.concatenate([volume[[0, -1]].ravel(), volume[:, [0, -1]].ravel()])
        turned.append(1 - volume if np.median(edges) > 0.5 else volume)
    return np.stack(turned)


def information_of(pair: np.ndarray) -> float:
    """Return the mutual information of two images, (2, *spatial) in [0, 1], in place, where both show the head."""
    bins = [(image.ravel()[:: max(1, image.size // 2**18)] * BINS).astype(np.int64).clip(0, BINS - 1) for image in pair]
    both = (bins[0] > 1) & (bins[1] > 1)
    return shared_information(bins[0][both], bins[1][both]) if both.any() else 0.0


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(None))
    return tuple(box)


def _moves(volume: np.ndarray, place: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return turns about the middle of a head and shifts along its axes, with words for each."""
    middle = place[:3, :3] @ np.argwhere(volume > 0.05).mean(axis=0)
    moves = []
    for axis in range(3):
        for degrees in _TURNS:
            moves.append((f"turned by {abs(degrees):.0f} degrees", _turn(axis, degrees, middle)))
        for shift in _SHIFTS:
            matrix = np.eye(4)
            matrix[axis, 3] = shift
            moves.append((f"moved by {abs(shift):.0f} mm", matrix))
    return moves


def _mirrors(volume: np.ndarray, place: np.ndarray, affine: np.ndarray, sided: bool) -> list[tuple[str, np.ndarray]]:
    """Return mirror images that put voxels on voxels: interpolation smooths noise away, which looks like a better fit.

    About the middle of the grid, as voxels in another order lie; for left and right, which are hard to see, about that
    of the head too, as a wrong header mirrors it.
    """
    mirrors = []
    for axis in range(3):
        side, step = int(np.abs(affine[:3, axis]).argmax()), place[axis, axis]
        ends = [volume.shape[axis] - 1]
        if side == 0:
            ends.append(round(2 * float(np.argwhere(volume > 0.05)[:, axis].mean())))
        for end in dict.fromkeys(ends):
            matrix = np.eye(4)
            matrix[axis, axis], matrix[axis, 3] = -1, end * step
            mirrors.append((f"{_MIRRORED} {_SIDES[side] if sided else f'along axis {axis + 1}'}", matrix))
    return mirrors


def _turn(axis: int, degrees: float, middle: np.ndarray) -> np.ndarray:
    first, second = (other for other in range(3) if other != axis)
    angle, matrix = np.deg2rad(degrees), np.eye(4)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle
    return matrix
