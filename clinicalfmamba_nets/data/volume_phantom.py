"""A brain in 3D computed from formulas, in T2 and FLAIR contrast, skull-stripped, with edema and a lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.io import PathLike, to_path, write_image

CONTRASTS = ("t2", "flair")
# Brightness in T2 and FLAIR.
TISSUES = {
    "csf": (0.95, 0.10),
    "grey": (0.52, 0.56),
    "white": (0.38, 0.42),
    "nuclei": (0.45, 0.50),
    "edema": (0.68, 0.88),
    "lesion": (0.90, 0.62),
    "focus": (0.44, 0.80),  # seen in FLAIR, hardly in T2
    "vessel": (0.06, 0.12),
}
GREATEST = 1200  # stored value of brightness 1
SPACING = 1.8  # mm
Layer = tuple[str, NDArray]


class BrainShapes:
    """Signed distances, negative inside, from which a brain is painted.

    Args:
        size: voxels along right-left, back-front and down-up; the brain fills most of it.
        generator: draws the folds.

    Example:
        >>> BrainShapes((8, 8, 8), np.random.default_rng(0)).brain.shape
        (8, 8, 8)
    """

    def __init__(self, size: Sequence[int], generator: np.random.Generator) -> None:
        axes = [(np.arange(side) + 0.5) / side * 2 - 1 for side in size]
        self.x, self.y, self.z = np.meshgrid(*axes, indexing="ij")
        self.edge = 0.5 / max(size)
        phase = generator.uniform(0, 2 * np.pi, 3)
        waves = [
            np.sin(rate * axis + at)
            for rate, axis, at in zip((17, 15, 16), (self.x, self.y, self.z), phase, strict=True)
        ]
        self.folds = 0.045 * waves[0] * waves[1] * waves[2]
        self.brain = self.ball((0, 0, 0), (0.86, 0.9, 0.84))

    def ball(self, center: Sequence[float] | NDArray, half: Sequence[float] | NDArray) -> NDArray:
        """Distance, to first order, to an ellipsoid."""
        axes = zip((self.x, self.y, self.z), center, half, strict=True)
        return (np.sqrt(sum(((axis - at) / side) ** 2 for axis, at, side in axes)) - 1) * min(half)

    def cover(self, distance: NDArray) -> NDArray:
        """Share of each voxel, in [0, 1], that lies inside."""
        return 1 / (1 + np.exp(np.clip(distance / self.edge, -40, 40)))

    def tissue_layers(self) -> list[Layer]:
        """Tissues of a healthy brain, in the order in which they are painted."""
        return [
            ("grey", self.brain + 0.06 + 0.8 * self.folds),
            ("white", self.brain + 0.17 + 2.2 * self.folds),
            ("nuclei", self.ball((0.2, 0.05, -0.1), (0.13, 0.2, 0.14))),
            ("nuclei", self.ball((-0.2, 0.05, -0.1), (0.13, 0.2, 0.14))),
            ("csf", self.ball((0.1, 0.05, 0.1), (0.06, 0.42, 0.13))),
            ("csf", self.ball((-0.1, 0.05, 0.1), (0.06, 0.42, 0.13))),
            ("csf", np.maximum(np.abs(self.x) - 0.012, -0.3 - self.brain)),
        ]

    def paint(self, layers: Sequence[Layer], contrast: int, tissues: Mapping[str, Sequence[float]]) -> NDArray:
        """Paint layers over fluid in a contrast, 0 for T2 and 1 for FLAIR."""
        image = np.full(self.brain.shape, tissues["csf"][contrast])
        for tissue, distance in layers:
            image += self.cover(distance) * (tissues[tissue][contrast] - image)
        return image

    def strip(self, image: NDArray) -> NDArray:
        """Limit an image to [0.02, 1] in the brain and to 0 outside, float32."""
        return np.where(self.brain < 0, image.clip(0.02, 1), 0).astype(np.float32)


def brain_volumes(size: Sequence[int] = (96, 112, 88), seed: int = 0) -> dict[str, NDArray]:
    """Compute the phantom.

    Args:
        size: voxels along right-left, back-front and down-up; the brain fills most of it.
        seed: of the folds, the place of the lesion and the texture.

    Returns:
        `t2` and `flair`, float32 (X, Y, Z) in [0, 1], exactly 0 outside the brain.

    Example:
        >>> brain_volumes((24, 28, 22))["t2"].shape
        (24, 28, 22)
    """
    generator = np.random.default_rng(seed)
    shapes = BrainShapes(size, generator)
    lesion = generator.uniform((0.25, -0.25, 0.0), (0.42, 0.3, 0.25)).tolist()
    layers = [
        *shapes.tissue_layers(),
        ("edema", shapes.ball(lesion, (0.24, 0.27, 0.22)) + shapes.folds),
        ("lesion", shapes.ball(lesion, (0.11, 0.13, 0.1))),
        ("focus", shapes.ball((-0.42, -0.3, 0.25), (0.07, 0.07, 0.07))),
        ("vessel", np.hypot(shapes.y - 0.45, shapes.z + 0.25) - 0.025),
    ]
    texture = generator.normal(0, 0.012, (2, *size))
    return {
        name: shapes.strip(shapes.paint(layers, number, TISSUES) + texture[number])
        for number, name in enumerate(CONTRASTS)
    }


def centered_affine(size: Sequence[int], spacing: float = SPACING) -> NDArray:
    """Index to RAS mm of a grid of cubic voxels around the origin."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -0.5 * spacing * np.array(size)
    return affine


def write_brain_pair(folder: PathLike, size: Sequence[int] = (96, 112, 88), seed: int = 0) -> tuple[Path, Path]:
    """Write the phantom as two NIfTI files of int16 with voxels of 1.8 mm.

    Args:
        folder: where to; made when missing.
        size: as in `brain_volumes`.
        seed: as in `brain_volumes`.

    Returns:
        The paths of T2 and FLAIR.
    """
    paths = []
    for name, volume in brain_volumes(size, seed).items():
        path = to_path(folder) / f"{name}.nii.gz"
        write_image(path, np.round(GREATEST * volume), affine=centered_affine(size), dtype="int16")
        paths.append(path)
    return paths[0], paths[1]


def plain_head(size: Sequence[int] = (64, 64, 24), seed: int = 0, *, mirrored: bool = True) -> dict[str, NDArray]:
    """Compute a pair of heads of even tissues: what a fused brain varies by is made by the network.

    Scalp, skull, an even brain, ventricles and one lesion that a single image shows, each of a brightness that is drawn
    for each image; half of the pairs have no skull. Brain and skull equal their mirror image.

    Args:
        size: voxels along right-left, back-front and down-up.
        seed: of sizes, brightness and lesion.
        mirrored: put the lesion on both sides, so that the pair equals its mirror image.

    Returns:
        `first` and `second`, float32 (X, Y, Z) in [0, 1], exactly 0 outside the head; `brain` and `lesion`, bool, the
        voxels that lie wholly inside.

    Example:
        >>> first = plain_head((24, 24, 12))["first"]
        >>> bool((first == first[::-1]).all())
        True
    """
    generator = np.random.default_rng(seed)
    shapes = BrainShapes(size, generator)
    grow = generator.uniform(0.8, 0.95)
    scalp, inner, brain = (shapes.ball((0, 0, -0.1), (share, grow * 1.05 * share, 1.6)) for share in (0.92, 0.85, 0.75))
    side = shapes.ball((0.13, 0, 0), (0.09, 0.3, 0.6)), shapes.ball((-0.13, 0, 0), (0.09, 0.3, 0.6))
    place, radius = generator.uniform((0.3, -0.3, -0.4), (0.5, 0.3, 0.4)), generator.uniform(0.08, 0.18)
    lesion = shapes.ball(place, (radius, radius, 3 * radius))
    if mirrored:
        lesion = np.minimum(lesion, shapes.ball(place * (-1, 1, 1), (radius, radius, 3 * radius)))
    stripped, shown = generator.uniform(size=2) < 0.5
    head = brain if stripped else scalp
    pair: dict[str, NDArray] = {}
    for number, name in enumerate(("first", "second")):
        levels = generator.uniform((0.1, 0.0, 0.15, 0.05), (0.9, 0.3 + 0.7 * number, 0.8, 0.95))
        image = np.zeros(size)
        layers = [(scalp, levels[0]), (inner, levels[1]), (brain, levels[2])][2 * stripped :]
        layers += [(side[0], levels[3]), (side[1], levels[3])]
        if number == shown:
            layers.append((lesion, levels[2] + generator.choice((-1, 1)) * generator.uniform(0.1, 0.15)))
        for distance, level in layers:
            image += shapes.cover(distance) * (level - image)
        pair[name] = np.where(head < 0, image.clip(0, 1), 0).astype(np.float32)
    away = 6 * shapes.edge  # from every border
    pair["brain"] = (brain < -away) & (np.minimum(np.minimum(*side), lesion) > away)
    return pair | {"lesion": lesion < -shapes.edge}


def write_plain_head(folder: PathLike, size: Sequence[int] = (64, 64, 24), seed: int = 0) -> tuple[Path, Path]:
    """Write a pair of `plain_head` as two NIfTI files of int16, odd seeds mirrored; returns their paths."""
    paths = []
    pair = plain_head(size, seed, mirrored=bool(seed % 2))
    for name in ("first", "second"):
        path = to_path(folder) / f"{name}.nii.gz"
        write_image(path, np.round(GREATEST * pair[name]), affine=centered_affine(size), dtype="int16")
        paths.append(path)
    return paths[0], paths[1]
