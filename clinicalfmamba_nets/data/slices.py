"""Axial slices of volume pairs as 2D files, written once, for networks that fuse single images."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.data.brats import brats_datalist
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import (
    PathLike,
    atomic_file,
    case_name,
    printable,
    read_image,
    to_path,
    write_image,
)
from clinicalfmamba_nets.spatial import match_grids

LEAST_SHOWN = 0.1
_FORM = 1  # of the files; another number makes them anew
_logger = logging.getLogger(__name__)


def _folder(entry: Mapping[str, Any], cache_dir: Path, least_shown: float) -> Path:
    """Return the folder of a case's slices: its name tells the two files in the state in which they were read."""
    facts: list[Any] = [_FORM, least_shown]
    for key in ("image", "image2"):
        state = os.stat(entry[key])
        facts += [os.path.abspath(entry[key]), state.st_size, state.st_mtime_ns]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    return cache_dir / f"{case_name(str(entry['case']))}-{digest}"


def upright_volume(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a volume and turn its storage so that its third axis runs most upwards in the patient."""
    array, meta = read_image(path)
    lost = meta["affine"] is None or meta.get("coordinates", "patient") != "patient"
    if array.ndim != 3 or min(array.shape) < 2 or lost:
        found = f"size {' x '.join(map(str, array.shape))}{' without one' if lost else ''}"
        raise input_error(printable(path), "a volume with a place in space", found, "give NIfTI volumes")
    affine = np.asarray(meta["affine"], float)
    axis = int(np.abs(affine[2, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())
    order = [*(other for other in range(3) if other != axis), axis]
    return array.transpose(order), affine[:, [*order, 3]]


def _write(entry: Mapping[str, Any], folder: Path, least_shown: float) -> list[int]:
    """Write the slices of a case that show enough and return their places."""
    first, affine = upright_volume(entry["image"])
    second, affine2 = upright_volume(entry["image2"])
    names = (printable(entry["image"]), printable(entry["image2"]))
    second, _ = match_grids(second, affine2, first.shape, affine, names)
    shown = np.minimum(*((volume != 0).mean(axis=(0, 1)) for volume in (first, second)))
    places = [int(place) for place in np.flatnonzero(shown >= least_shown)]
    if not places:
        found = f"at most {100 * shown.max():.1f} %"
        raise input_error(names[0], f"slices with {100 * least_shown:g} % of non-zero pixels", found, "leave it out")
    for place in places:
        flat = affine.copy()
        flat[:, 3] += place * affine[:, 2]
        for number, volume in enumerate((first, second), 1):
            write_image(folder / f"{place:03d}_{number}.nii.gz", volume[..., place], affine=flat, dtype=volume.dtype)
    return places


def slice_datalist(
    entries: Iterable[Mapping[str, Any]], cache_dir: PathLike, least_shown: float = LEAST_SHOWN, step: int = 1
) -> list[dict[str, Any]]:
    """Cut pairs of volumes into axial slices, written as 2D NIfTI files where they are not there yet.

    Source: "ClinicalFMamba", arXiv 2508.03008: slices with at least 10 % non-zero pixels.

    Args:
        entries: `image`, `image2` (paths of volumes on one grid) and `case`; other keys are passed on.
        cache_dir: folder of the slices, one folder in it for each case.
        least_shown: share of non-zero pixels that both images of a slice must have.
        step: take every slice, every second, ...

    Returns:
        One entry for each slice, sorted as the volumes and upwards: `case` ends in `_z` and the slice's place,
        `volume` is the volume's case.

    Raises:
        FusionInputError: a file that is no volume, grids that differ, a volume without such a slice.
    """
    cut, root = [], to_path(cache_dir)
    for entry in entries:
        folder = _folder(entry, root, least_shown)
        listed = folder / "slices.json"
        if not listed.is_file():
            places = _write(entry, folder, least_shown)
            with atomic_file(listed) as partial:
                partial.write_text(json.dumps(places), encoding="utf-8")
            _logger.info("%s: %d slices written to %s", entry["case"], len(places), printable(folder))
        for place in json.loads(listed.read_text(encoding="utf-8"))[::step]:
            image, image2 = (os.path.abspath(folder / f"{place:03d}_{number}.nii.gz") for number in (1, 2))
            named = {"volume": entry["case"], "case": f"{entry['case']}_z{place:03d}"}
            cut.append({**entry, "image": image, "image2": image2, **named})
    return cut


def brats_slices(
    root: PathLike, cache_dir: PathLike, least_shown: float = LEAST_SHOWN, **choice: Any
) -> list[dict[str, Any]]:
    """Return the axial slices of one split of BraTS 2019.

    Args:
        root: as in `brats_datalist`.
        cache_dir: as in `slice_datalist`.
        least_shown: as in `slice_datalist`.
        choice: `contrasts`, `split`, `run`, `section`, `held_out` of `brats_datalist`.

    Returns:
        As `slice_datalist`, with the keys of `brats_datalist`. Patients, not slices, are split.
    """
    return slice_datalist(brats_datalist(root, **choice), cache_dir, least_shown)
