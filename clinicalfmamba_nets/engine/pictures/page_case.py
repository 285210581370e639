"""One fused pair as a case of the HTML page: its layers and all that is told of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.pictures.page import PageCase
from clinicalfmamba_nets.engine.pictures.page_layers import Layer, color_layer, grey_layer, mask_layer
from clinicalfmamba_nets.engine.pictures.planes import Grid
from clinicalfmamba_nets.engine.pictures.preview import Shown
from clinicalfmamba_nets.functional.colour import ycbcr_to_rgb
from clinicalfmamba_nets.io import printable
from clinicalfmamba_nets.transforms.palette import shown_palette
from clinicalfmamba_nets.transforms.restore import CURVE_KEY, FACTS_KEY, SCALE_KEY, WINDOW_KEY

_UID = re.compile(r"\b\d+(?:\.\d+){4,}\b")


def page_case(
    sample: Mapping[str, Any],
    raw: NDArray,
    facts: Mapping[str, Any],
    share: NDArray | None = None,
    anonymous: bool = False,
) -> PageCase:
    """Pack one fused pair.

    Args:
        sample: `image`, (2, *spatial) in [0, 1] with its meta, and `pred`, as `FusionPipeline` returns them.
        raw: both images in their units, (2, *spatial).
        facts: what is told of the case: `labels`, `scores`, `warnings`, `notes`, `record`, `sources`, `fused`.
        share: of the first image in each pixel, (*spatial) in [0, 1]; None where the network does not tell it.
        anonymous: leave out names, paths, dates, UIDs and the free words of headers.
    """
    shown = Shown(sample, facts["labels"])
    grid = None if shown.picture_file else shown.grid
    layers = [*_sources(shown, raw, grid), _fused(shown, grid)]
    if share is not None:
        layers.append(grey_layer("share", share, grid, [[0, 0], [1, 1]]))
    if shown.covered is not None:
        layers.append(mask_layer("covered", shown.covered, grid))
    told = dict(facts) | _geometry(shown) | {"palette": shown_palette(shown.meta)}
    told["windows"] = str(shown.meta.get(WINDOW_KEY, "")).splitlines()
    told["descriptions"] = [str(one.get("description") or "") for one in shown.meta.get("sources") or []]
    told["coverage"] = float(shown.meta.get("coverage", 1.0))
    return PageCase(without_names(told) if anonymous else _printable(told), layers)


def _sources(shown: Shown, raw: NDArray, grid: Grid | None) -> list[Layer]:
    known = json.loads(shown.meta.get(FACTS_KEY, "[]")) or [{}, {}]
    sources = [dict(one) for one in shown.meta.get("sources") or []] or [{}, {}]
    layers = []
    for channel, name in enumerate("ab"):
        unit, own = str(known[channel].get("unit") or ""), str(sources[channel].get("units") or "")
        factor = float(sources[channel].get("suv_factor") or 1.0) if unit == "SUVbw" else 1.0
        values = {"unit": unit, "factor": factor, "raw": own, "modality": str(known[channel].get("modality") or "")}
        if channel == 1 and shown.chroma is not None:
            layers.append(color_layer(name, _rgb(shown, raw[1]), grid, **values))
        else:
            layers.append(grey_layer(name, raw[channel], grid, _knots(shown, channel), **values))
    return layers


def _knots(shown: Shown, channel: int) -> list[list[float]]:
    """Return values of a source and their grey levels, as the network saw them."""
    if CURVE_KEY in shown.meta:
        return torch.as_tensor(shown.meta[CURVE_KEY])[channel].tolist()
    low, high = (float(limit) for limit in torch.as_tensor(shown.meta.get(SCALE_KEY, [[0.0, 1.0]] * 2))[channel])
    return [[low, 0.0], [high, 1.0]]


def _rgb(shown: Shown, luma: NDArray) -> NDArray:
    """Return the second image in its own colors, (3, *spatial) in [0, 1]."""
    white = 255.0 if float(luma.max()) > 1 else 1.0
    planes = np.concatenate([luma[None] / white, shown.chroma])
    return ycbcr_to_rgb(torch.from_numpy(planes.astype(np.float32))[None])[0].numpy()


def _fused(shown: Shown, grid: Grid | None) -> Layer:
    if len(shown.fused) == 3:
        return color_layer("fused", np.stack([shown.scaled(plane) for plane in shown.fused]), grid)
    known = json.loads(shown.meta.get(FACTS_KEY, "[]")) or [{}]
    return grey_layer("fused", shown.fused[0], grid, _knots(shown, 0), unit=str(known[0].get("unit") or ""))


def _geometry(shown: Shown) -> dict[str, Any]:
    """Return where the case lies: sides in voxels and mm, the matrix of the stored order, and the flips of rows."""
    if shown.picture_file:
        rows, columns = shown.pair.shape[1:]
        return {
            "picture": True,
            "shape": [columns, rows, 1],
            "spacing": [1.0, 1.0, 1.0],
            "sided": False,
            "placed": False,
        }
    grid = shown.grid
    turned = np.eye(4)[[*grid.order, 3]].T  # an index in the order of the page to one as stored
    for place in grid.backwards:
        axis = grid.order[place]
        turned[axis, 3], turned[axis, place] = grid.shape[place] - 1, -1
    return {
        "picture": False,
        "shape": list(grid.shape),
        "spacing": [float(step) for step in grid.spacing],
        "sided": bool(grid.sided),
        "placed": bool(grid.placed),
        "stored": turned.tolist(),
        "affine": (grid.affine @ turned).tolist(),
        "native": grid.native,
    }


def without_names(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what may name a person, a day or an object: paths, words of headers, times, sums, UIDs.

    Example:
        >>> told = {"sources": ["anna/ct", "anna/mr"], "warnings": ["anna/ct: 2 slices are missing"]}
        >>> without_names(told)["warnings"]
        ['A: 2 slices are missing']
    """
    kept = {key: value for key, value in facts.items() if key not in ("sources", "fused", "descriptions", "notes")}
    names = {printable(path): letter for path, letter in zip(facts.get("sources", []), "AB", strict=False)}
    kept["warnings"] = [_scrubbed(text, names) for text in facts.get("warnings", [])]
    record = facts.get("record") or {}
    kept["record"] = {key: record[key] for key in ("task", "bundle", "settings", "version", "weights") if key in record}
    return kept


def _scrubbed(text: str, names: Mapping[str, str]) -> str:
    for path, letter in sorted(names.items(), key=lambda item: -len(item[0])):
        for name in (path, path.partition("::")[0]):
            text = text.replace(name, letter)
    text = re.sub(r"\S*[/\\]\S*", "...", text) if re.search(r"\S[/\\]\S", text) else text
    return _UID.sub("a UID", text)


def _printable(facts: dict[str, Any]) -> dict[str, Any]:
    return facts | {key: [printable(text) for text in facts.get(key, [])] for key in ("sources", "warnings", "notes")}
