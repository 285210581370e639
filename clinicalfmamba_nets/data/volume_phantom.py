"""A brain in 3D computed from formulas, in T2 and FLAIR contrast, skull-stripped, with edema and a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.io import PathLike, to_path, write_image

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
    axes = [(np.arange(side) + 0.5) / side * 2 - 1 for side in size]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    soft = 2.0 / max(size)
    phase = generator.uniform(0, 2 * np.pi, 3)
    folds = 0.045 * np.sin(17 * x + phase[0]) * np.sin(15 * y + phase[1]) * np.sin(16 * z + phase[2])

    def ball(center: Sequence[float], half: Sequence[float]) -> NDArray:
        """Signed distance, to first order, to an ellipsoid; negative inside."""
        scaled = [(axis - at) / side for axis, at, side in zip((x, y, z), center, half, strict=True)]
        return (np.sqrt(sum(part**2 for part in scaled)) - 1) * min(half)

    brain = ball((0, 0, 0), (0.86, 0.9, 0.84))
    lesion = generator.uniform((0.25, -0.25, 0.0), (0.42, 0.3, 0.25)).tolist()
    layers = [
        ("grey", brain + 0.06 + 0.8 * folds),
        ("white", brain + 0.17 + 2.2 * folds),
        ("nuclei", ball((0.2, 0.05, -0.1), (0.13, 0.2, 0.14))),
        ("nuclei", ball((-0.2, 0.05, -0.1), (0.13, 0.2, 0.14))),
        ("csf", ball((0.1, 0.05, 0.1), (0.06, 0.42, 0.13))),
        ("csf", ball((-0.1, 0.05, 0.1), (0.06, 0.42, 0.13))),
        ("csf", np.maximum(np.abs(x) - 0.012, -0.3 - brain)),
        ("edema", ball(lesion, (0.24, 0.27, 0.22)) + folds),
        ("lesion", ball(lesion, (0.11, 0.13, 0.1))),
        ("focus", ball((-0.42, -0.3, 0.25), (0.07, 0.07, 0.07))),
        ("vessel", np.hypot(y - 0.45, z + 0.25) - 0.025),
    ]
    texture = generator.normal(0, 0.012, (2, *size))
    volumes = {}
    for number, name in enumerate(("t2", "flair")):
        image = np.full(size, TISSUES["csf"][number])
        for tissue, distance in layers:
            cover = 1 / (1 + np.exp(np.clip(distance / (0.25 * soft), -40, 40)))
            image += cover * (TISSUES[tissue][number] - image)
        volumes[name] = np.where(brain < 0, (image + texture[number]).clip(0.02, 1), 0).astype(np.float32)
    return volumes


def write_brain_pair(folder: PathLike, size: Sequence[int] = (96, 112, 88), seed: int = 0) -> tuple[Path, Path]:
    """Write the phantom as two NIfTI files of int16 with voxels of 1.8 mm.

    Args:
        folder: where to; made when missing.
        size: as in `brain_volumes`.
        seed: as in `brain_volumes`.

    Returns:
        The paths of T2 and FLAIR.
    """
    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    affine[:3, 3] = -0.9 * np.array(size)
    paths = []
    for name, volume in brain_volumes(size, seed).items():
        path = to_path(folder) / f"{name}.nii.gz"
        write_image(path, np.round(GREATEST * volume), affine=affine, dtype="int16")
        paths.append(path)
    return paths[0], paths[1]
