"""The preview of a result: both sources, the fused image and what it adds, with all that a reader needs to judge it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.pictures.pair import GREATEST_SIDE, LEAST_SIDE
from clinicalfmamba_nets.engine.pictures.planes import Grid, Plane, choose_planes
from clinicalfmamba_nets.engine.pictures.sheet import AMBER, Cell, Column, Foot, Row, draw_sheet
from clinicalfmamba_nets.functional.colour import ycbcr_to_rgb
from clinicalfmamba_nets.functional.ranges import value_text
from clinicalfmamba_nets.functional.voi import apply_curve
from clinicalfmamba_nets.io.dicom.colour import palette_table
from clinicalfmamba_nets.io.files import atomic_file
from clinicalfmamba_nets.spatial.grids import NONE, PATIENT
from clinicalfmamba_nets.transforms.notes import split_notes
from clinicalfmamba_nets.transforms.palette import shown_palette
from clinicalfmamba_nets.transforms.restore import (
    COVERED_KEY,
    CURVE_KEY,
    FACTS_KEY,
    SCALE_KEY,
    WINDOW_KEY,
    black_and_white,
)

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 300  # pixels of the longest side of a slice
NOTICE = "research use only, not for diagnosis"


class Shown:
    """What a preview shows of a fused pair: the sources and the fused image in [0, 1], and how they are colored.

    Args:
        sample: what `FusionPipeline` returns.
        labels: words for both images.
    """

    def __init__(self, sample: Mapping[str, Any], labels: Sequence[str]) -> None:
        image = sample["image"]
        self.meta, self.labels = getattr(image, "meta", {}), labels
        self.pair = np.asarray(torch.as_tensor(image))  # (2, *spatial)
        self.fused = np.asarray(torch.as_tensor(sample["pred"]))  # (1 or 3, *spatial), units of the first image
        chroma = sample.get("image_chroma") if self.meta.get("color") else None
        self.chroma = None if chroma is None else np.asarray(torch.as_tensor(chroma))
        covered = self.meta.get(COVERED_KEY)
        self.covered = None if covered is None else np.asarray(covered)
        weights = sample.get("weights")
        self.weights = None if weights is None else np.asarray(torch.as_tensor(weights))[0]  # share of the first image
        self.table = self._table()
        affine = getattr(image, "affine", torch.eye(4)).numpy()
        flat = self.pair.ndim == 3
        sources = self.meta.get("sources") or []
        kinds = [str(one.get("kind")) for one in (json.loads(sources) if type(sources) is str else sources)]
        told = not kinds or kinds[0] in ("nifti", "nrrd", "dicom")
        known = told or not np.allclose(affine, np.eye(4))
        self.picture_file = flat and not known
        coordinates = str(self.meta.get("coordinates") or PATIENT) if known else NONE
        self.grid = Grid((*self.pair.shape[1:], 1) if flat else self.pair.shape[1:], affine, coordinates)

    def _table(self) -> NDArray | None:
        """Return the colors of a grey PET or SPECT, (256, 3) uint8."""
        name = shown_palette(self.meta)
        return None if name == "grey" or self.chroma is not None else palette_table(name)

    def planes(self, slices: str | None) -> list[Plane]:
        """Choose the slices; see `choose_planes`."""
        first, second = (volume.reshape(*self.pair.shape[1:], *(1,) * (4 - self.pair.ndim)) for volume in self.pair)
        if self.covered is not None:
            second = second * self.covered.reshape(second.shape)
        return choose_planes((first, second), self.grid, slices, self.covered is not None)

    def cut(self, volume: NDArray, plane: Plane) -> NDArray:
        """Return one slice upright, rows x columns; a picture without a place stays as it is."""
        if self.picture_file:
            return volume
        return self.grid.picture(volume.reshape(*volume.shape, *(1,) * (3 - volume.ndim)), plane)

    def panels(self, plane: Plane) -> list[NDArray]:
        """Return first, second, fused image, difference and, where known, weights as (rows, columns, 3) uint8."""
        first, second = (self.cut(channel, plane) for channel in self.pair)
        covered = None if self.covered is None else self.cut(self.covered, plane)
        fused = [self.scaled(self.cut(channel, plane)) for channel in self.fused]
        luma = fused[0] if len(fused) == 1 else 0.299 * fused[0] + 0.587 * fused[1] + 0.114 * fused[2]
        result = _levels(np.stack(fused * (3 // len(fused)), axis=-1))
        if len(fused) == 1 and self.table is not None:
            inside = np.ones(second.shape) if covered is None else covered
            tint = np.where(inside[..., None] > 0, self.table[np.rint(second * 255).astype(int)] / 255, 0.0)
            result = _levels(_tinted(luma, tint))
        panels = [_levels(_grey(first)), self._second(second, covered, plane), result, _difference(luma - first)]
        return panels if self.weights is None else [*panels, _levels(_grey(self.cut(self.weights, plane)))]

    def _second(self, second: NDArray, covered: NDArray | None, plane: Plane) -> NDArray:
        if self.chroma is not None:
            low, high = (float(limit) for limit in self.meta[SCALE_KEY][1])
            white = 255.0 if high > 1 else 1.0
            luma = (second * (high - low) + low) / white
            planes = np.stack([luma, *(self.cut(channel, plane) for channel in self.chroma)])
            colors = ycbcr_to_rgb(torch.from_numpy(np.ascontiguousarray(planes, np.float32))[None])[0]
            shown = _levels(np.moveaxis(colors.numpy(), 0, -1))
        elif self.table is not None:
            shown = self.table[np.rint(second.clip(0, 1) * 255).astype(int)]
        else:
            shown = _levels(_grey(second))
        return shown if covered is None else np.where(covered[..., None], shown, 0).astype(np.uint8)

    def scaled(self, fused: NDArray) -> NDArray:
        """Bring values in the units of the first image to [0, 1]."""
        if self.fused.dtype == np.uint8:
            return fused / 255.0
        if self.fused.shape[0] == 3:
            black, white = black_and_white(self.meta)
            return ((fused - black) / (white - black)).clip(0, 1)
        if CURVE_KEY in self.meta:
            curve = torch.as_tensor(self.meta[CURVE_KEY])[0]
            return apply_curve(torch.from_numpy(np.ascontiguousarray(fused, np.float64)), curve).numpy()
        low, high = (float(limit) for limit in self.meta.get(SCALE_KEY, [[0.0, 1.0]])[0])
        return ((fused - low) / ((high - low) or 1.0)).clip(0, 1)

    def columns(self) -> list[Column]:
        """Return what stands above and below the columns."""
        details = [*str(self.meta.get(WINDOW_KEY, "")).splitlines(), "", ""][:2]
        facts = json.loads(self.meta.get(FACTS_KEY, "[]"))
        bar = None
        if self.table is not None and len(facts) > 1:
            unit = f" {facts[1]['unit']}" if facts[1]["unit"] else ""
            bar = (self.table, value_text(facts[1]["low"]), f"{value_text(facts[1]['high'])}{unit}")
        first, second = self.labels[:2]
        told = f"in the range of {first}" + (f", colors of {second}" if bar or self.chroma is not None else "")
        signs = np.zeros((256, 3), np.uint8)
        signs[:128, 2], signs[128:, 0] = np.arange(254, -1, -2), np.arange(0, 255, 2)
        columns = [
            Column(first, details[0]),
            Column(second, details[1], bar),
            Column("fused", told),  # no bar: a white ventricle of the T2 is not the greatest uptake
            Column(f"fused - {first}", "red: brighter, blue: darker", (signs, "-50 %", "+50 % of range")),
        ]
        if self.weights is not None:
            greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
            columns.append(Column(f"share of {first}", "", (greys, f"0: {second}", f"1: {first}")))
        return columns


def draw_preview(sample: Mapping[str, Any], labels: Sequence[str], title: str = "", slices: str | None = None) -> Image:
    """Draw the preview of a fused pair.

    Args:
        sample: what `FusionPipeline` returns: `image` (2, *spatial) in [0, 1] with its meta, and `pred`.
        labels: words for both images.
        title: the case.
        slices: which slices of a volume; see `choose_planes`.

    Returns:
        8-bit RGB picture.

    Raises:
        FusionInputError: slices that are not there.
    """
    shown = Shown(sample, labels)
    rows = [_row(shown, plane) for plane in shown.planes(slices)]
    told = split_notes(shown.meta.get("warnings"))
    foot = Foot(f"{title} - {NOTICE}" if title else NOTICE, [f"warning: {text}" for text in told[:5]])
    return draw_sheet(shown.columns(), rows, foot)


def write_preview_of(
    sample: Mapping[str, Any],
    labels: Sequence[str],
    path: str | os.PathLike[str],
    title: str = "",
    slices: str | None = None,
) -> Path:
    """Write `draw_preview` as PNG, in one step: the file is whole or not there; arguments as there."""
    sheet = draw_preview(sample, labels, title, slices)
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG")
    return Path(path)


def _row(shown: Shown, plane: Plane) -> Row:
    panels = shown.panels(plane)
    if shown.picture_file:
        height, width = panels[0].shape[:2]
        factor = -(-LEAST_SIDE // max(height, width)) if max(height, width) < LEAST_SIDE else 1
        factor = min(factor, GREATEST_SIDE / max(height, width)) if max(height, width) > GREATEST_SIDE else factor
        size, scale = (max(1, round(width * factor)), max(1, round(height * factor))), 0.0
    else:
        *sides, scale = shown.grid.size(plane, SIDE)
        size = sides[0], sides[1]
    covered = None if shown.covered is None else shown.cut(shown.covered, plane)
    cells = []
    for number, panel in enumerate(panels):
        picture = _resized(panel, size, shown.picture_file)
        empty = ""
        if covered is not None and number < 3:
            picture = _with_line(picture, covered, size)
            empty = f"no {shown.labels[1]} here" if number == 1 and not covered.any() else ""
        cells.append(Cell(picture, shown.grid.letters(plane), empty))
    caption = "" if shown.picture_file else shown.grid.caption(plane)
    if covered is not None and covered.any() and not covered.all():
        caption += f"; orange line: end of {shown.labels[1]}"
    return Row(caption, cells, scale if shown.grid.sided else 0.0)


def _resized(panel: NDArray, size: tuple[int, int], sharp: bool) -> Image:
    from PIL import Image

    ways = Image.Resampling
    picture = Image.fromarray(np.ascontiguousarray(panel))
    return picture.resize(size, ways.NEAREST if sharp and size[0] >= picture.width else ways.BICUBIC)


def _with_line(picture: Image, covered: NDArray, size: tuple[int, int]) -> Image:
    """Mark where the second source ends."""
    from PIL import Image

    inside = np.asarray(Image.fromarray(np.ascontiguousarray(covered).astype(np.uint8) * 255).resize(size, 0)) > 0
    border = np.zeros_like(inside)
    border[1:] |= inside[1:] != inside[:-1]
    border[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    marked = np.asarray(picture).copy()
    marked[border] = AMBER
    return Image.fromarray(marked)


def _grey(panel: NDArray) -> NDArray:
    return np.repeat(panel[..., None], 3, axis=-1)


def _levels(panel: NDArray) -> NDArray:
    return np.rint(np.clip(panel, 0, 1) * 255).astype(np.uint8)


def _tinted(luma: NDArray, tint: NDArray) -> NDArray:
    """Give a luma, (rows, columns), the color differences of a picture, (rows, columns, 3), all in [0, 1]."""
    own = tint @ np.array([0.299, 0.587, 0.114])
    return luma[..., None] + (tint - own[..., None])


def _difference(panel: NDArray) -> NDArray:
    """Red above 0, blue below, full color at half of the range."""
    strength = np.clip(2 * panel, -1, 1)
    return _levels(np.stack([strength.clip(min=0), np.zeros_like(strength), (-strength).clip(min=0)], axis=-1))
