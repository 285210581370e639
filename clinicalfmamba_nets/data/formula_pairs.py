"""Registered pairs that show no head, computed from formulas: infrared and visible light, phase contrast and color."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import PathLike, to_path, write_image

KINDS = {"infrared": ("infrared", "visible"), "microscopy": ("phase", "fluorescence")}


def formula_pair(kind: str, size: int = 256, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute a grey image and one in color of the same scene.

    - ``infrared``: warm bodies that stand out in infrared alone, before a sky and a striped ground in visible light.
    - ``microscopy``: rims of cells in phase contrast, their nuclei in green fluorescence.

    Args:
        kind: ``infrared`` or ``microscopy``.
        size: side in pixels.
        seed: of the places of bodies and cells.

    Returns:
        (size, size) and (size, size, 3), in [0, 1].

    Raises:
        FusionInputError: another kind.

    Example:
        >>> [image.shape for image in formula_pair("infrared", 32)]
        [(32, 32), (32, 32, 3)]
    """
    if kind not in KINDS:
        raise input_error(f"kind {kind!r}", f"one of {', '.join(KINDS)}", "another name", "correct it")
    rows, columns = np.mgrid[0:size, 0:size] / max(1, size - 1)
    places = np.random.default_rng(seed).uniform(0.15, 0.85, (5, 2))
    grey, color = (_infrared if kind == "infrared" else _microscopy)(rows, columns, places)
    return grey.clip(0, 1).astype(np.float32), color.clip(0, 1).astype(np.float32)


def _infrared(rows: NDArray, columns: NDArray, places: NDArray) -> tuple[NDArray, NDArray]:
    warm = sum(np.exp(-(((columns - x) / 0.04) ** 2) - ((rows - y) / 0.11) ** 2) for x, y in places)
    ground = rows > 0.45
    stripes = 0.5 + 0.35 * np.sin(40 * columns + 6 * np.sin(9 * rows)) * ground
    blue = np.where(ground, 0.6 * stripes, 0.9 - 0.5 * rows)
    return 0.15 + 0.15 * rows + 0.7 * warm, np.stack([0.8 * stripes, 0.9 * stripes, blue], -1)


def _microscopy(rows: NDArray, columns: NDArray, places: NDArray) -> tuple[NDArray, NDArray]:
    distances = [np.hypot(columns - x, rows - y) for x, y in places]
    rims = sum(np.exp(-(((distance - 0.1) / 0.012) ** 2)) for distance in distances)
    nuclei = sum(np.exp(-((distance / 0.035) ** 2)) for distance in distances)
    return 0.45 + 0.4 * rims - 0.15 * nuclei, np.stack([0.1 * nuclei, 0.9 * nuclei, 0.15 * nuclei], -1)


def write_formula_pair(folder: PathLike, kind: str, size: int = 256, seed: int = 0) -> tuple[Path, Path]:
    """Write a pair of `formula_pair` as PNG files: `infrared.png`, `visible.png` or `phase.png`, `fluorescence.png`.

    Args:
        folder: made where needed.
        kind: as in `formula_pair`.
        size: side in pixels.
        seed: as in `formula_pair`.

    Returns:
        The paths of the grey image and of the one in color.

    Raises:
        FusionInputError: another kind.
    """
    images = formula_pair(kind, size, seed)
    paths = to_path(folder) / f"{KINDS[kind][0]}.png", to_path(folder) / f"{KINDS[kind][1]}.png"
    for path, image in zip(paths, images, strict=True):
        write_image(path, 255 * image)
    return paths
