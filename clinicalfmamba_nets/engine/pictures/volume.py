"""Picture of three volumes on one grid: orthogonal slices of both sources and the fused one, and what changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.pictures.pair import HEADER, INK, MARGIN, PAPER, fit_words, font
from clinicalfmamba_nets.io.files import atomic_file
from clinicalfmamba_nets.spatial.grids import reorder

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 280  # pixels of the longest side in space
PLANES = ("axial", "coronal", "sagittal")


def volume_preview(
    volumes: Sequence[NDArray],
    affine: NDArray,
    labels: Sequence[str] = ("volume A", "volume B", "fused"),
    title: str | None = None,
) -> Image:
    """Draw the axial, coronal and sagittal slice through the middle of the head, in the right proportions.

    The patient's right is on the left of the axial and coronal pictures, as radiologists have it; the words R and L say
    so. Each volume is stretched to its brightest thousandth. The last column is the fused volume minus the first one:
    red where the fused one is brighter, blue where it is darker, full color at half of the range.

    Args:
        volumes: first, second and fused volume on one grid, (X, Y, Z) in [0, 1].
        affine: 4 x 4, index to RAS mm.
        labels: words above the first three columns.
        title: words at the foot.

    Returns:
        8-bit RGB picture.

    Example:
        >>> ball = np.random.default_rng(0).random((8, 9, 5))
        >>> volume_preview([ball, ball, ball], np.diag([1.0, 1.0, 2.0, 1.0])).mode
        'RGB'
    """
    from PIL import Image, ImageDraw

    turned = [reorder(np.asarray(volume), np.array(affine, float), np.eye(4)) for volume in volumes]
    scaled = [volume.astype(np.float32) for volume, _ in turned]
    spacing = np.linalg.norm(turned[0][1][:3, :3], axis=0)
    center = _center(np.maximum(scaled[0], scaled[1]))
    rows = [[_slice(volume, axis, center) for volume in scaled] for axis in (2, 1, 0)]
    stretch = [1 / max(float(np.quantile(volume, 0.999)), 1e-6) for volume in scaled]
    scale = SIDE / float((np.array(scaled[0].shape) * spacing).max())
    sizes = [_pixels(row[0].shape, axis, spacing * scale) for row, axis in zip(rows, (2, 1, 0), strict=True)]
    width, heights = max(size[0] for size in sizes), [size[1] for size in sizes]
    sheet = Image.new("RGB", (4 * (width + MARGIN) + MARGIN, HEADER + sum(heights) + 3 * MARGIN + HEADER), PAPER)
    draw = ImageDraw.Draw(sheet)
    words = (*labels, f"fused - {labels[0]}")
    top = HEADER
    for plane, row, size in zip(PLANES, rows, sizes, strict=True):
        pictures = [_grey(panel * gain) for panel, gain in zip(row, stretch, strict=True)]
        pictures.append(_difference(row[2] - row[0]))
        for column, picture in enumerate(pictures):
            left = MARGIN + column * (width + MARGIN) + (width - size[0]) // 2
            sheet.paste(picture.resize(size, Image.Resampling.BICUBIC), (left, top))
        draw.text((MARGIN + 4, top + 2), plane, INK, font(12))
        if plane != "sagittal":
            side = MARGIN + (width - size[0]) // 2
            draw.text((side + 4, top + size[1] / 2), "R", INK, font(12), anchor="lm")
            draw.text((side + size[0] - 4, top + size[1] / 2), "L", INK, font(12), anchor="rm")
        top += size[1] + MARGIN
    for column, text in enumerate(words):
        place = (MARGIN + column * (width + MARGIN) + width / 2, HEADER / 2)
        draw.text(place, fit_words(draw, text, width), INK, font(15), anchor="mm")
    if title:
        words_at_foot = fit_words(draw, title, sheet.width - 2 * MARGIN, 12)
        draw.text((sheet.width / 2, sheet.height - HEADER / 2), words_at_foot, INK, font(12), anchor="mm")
    return sheet


def write_volume_preview(
    volumes: Sequence[NDArray],
    affine: NDArray,
    path: str | os.PathLike[str],
    labels: Sequence[str] = ("volume A", "volume B", "fused"),
    title: str | None = None,
) -> Path:
    """Write `volume_preview` as PNG, in one step: the file is whole or not there; arguments as there."""
    sheet = volume_preview(volumes, affine, labels, title)
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)
    return Path(path)


def _center(volume: NDArray) -> list[int]:
    """Middle, along each axis, of the box around what is not dark."""
    shown = volume > 0.1 * np.quantile(volume, 0.999)
    middle = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(shown.any(axis=others))
        middle.append(int(places[0] + places[-1]) // 2 if len(places) else volume.shape[axis] // 2)
    return middle


def _slice(volume: NDArray, axis: int, center: list[int]) -> NDArray:
    """One slice of a volume in RAS order as an upright picture, rows x columns: top is superior or anterior."""
    plane = np.take(volume, center[axis], axis=axis)  # (first, second of the remaining axes)
    upright = np.flip(plane.T, 0)
    return np.flip(upright, 1)  # the patient's right on the left; the nose on the left in the sagittal picture


def _pixels(shape: tuple[int, ...], axis: int, voxel: NDArray) -> tuple[int, int]:
    """Width and height in pixels of a picture of the plane across an axis."""
    across, up = [other for other in range(3) if other != axis]
    return max(1, round(shape[1] * voxel[across])), max(1, round(shape[0] * voxel[up]))


def _grey(panel: NDArray) -> Image:
    from PIL import Image

    return Image.fromarray(np.round(panel.clip(0, 1) * 255).astype(np.uint8)).convert("RGB")


def _difference(panel: NDArray) -> Image:
    """Red above 0, blue below."""
    from PIL import Image

    strength = np.round(np.clip(2 * panel, -1, 1) * 255)
    zero = np.zeros_like(strength)
    colors = [np.maximum(strength, 0), zero, np.maximum(-strength, 0)]
    return Image.fromarray(np.stack(colors, axis=-1).astype(np.uint8))
