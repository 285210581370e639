"""The region of a patient that is graded: T2 and FLAIR read, put upright, scaled, and cut around the tumor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import printable, read_image
from clinicalfmamba_nets.spatial import match_grids
from clinicalfmamba_nets.spatial.grids import reorder
from clinicalfmamba_nets.transforms import LoadImagePair, ScaleIntensityPair
from clinicalfmamba_nets.transforms.names import names_warning
from clinicalfmamba_nets.transforms.notes import split_notes

TUMOR, BRAIN = "tumor mask", "whole brain"  # what the region was cut by
_MOST_LABELS = 16  # of a tumor mask
_MOST_SHOWN = 0.6  # share of voxels that are not 0 in a volume without its background
_TRAINED_SIDE = 1.0  # mm, voxels of BraTS


def tumor_region(image: Tensor, mask: NDArray | None, roi_size: Sequence[int], case: str = "case") -> Tensor:
    """Cut a box of fixed size around the middle of a tumor; without a mask, resize the box of the brain to that size.

    Args:
        image: (C, X, Y, Z), 0 outside the brain.
        mask: (X, Y, Z), not 0 in the tumor, or None.
        roi_size: voxels of the box.
        case: for the message.

    Returns:
        (C, *roi_size); what lies outside the image is 0.

    Raises:
        FusionInputError: an empty mask, or an empty image.
    """
    shown = image.amax(0).numpy() > 0 if mask is None else np.asarray(mask) != 0
    places = np.argwhere(shown)
    if not len(places):
        what = "image" if mask is None else "tumor mask"
        raise input_error(f"{case}, {what}", "voxels that are not 0", "none", "give another, or leave the case out")
    low, high = places.min(0), places.max(0) + 1
    if mask is None:
        box = image[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        size = tuple(roi_size)
        return torch.nn.functional.interpolate(box[None], size, mode="trilinear", align_corners=False)[0]
    starts = ((low + high) // 2 - np.array(roi_size) // 2).tolist()
    region = image.new_zeros([image.shape[0], *roi_size])
    source, target = [slice(None)], [slice(None)]
    for start, side, length in zip(starts, roi_size, image.shape[1:], strict=True):
        first, last = max(start, 0), min(start + side, length)
        source.append(slice(first, last))
        target.append(slice(first - start, last - start))
    region[tuple(target)] = image[tuple(source)]
    return region


def _read_mask(entry: Mapping[str, Any], shape: Sequence[int], affine: NDArray, known: str) -> NDArray | None:
    """Return the tumor mask of a case on the grid of its T2, or None without one."""
    if "seg" not in entry:
        return None
    mask, own = read_image(entry["seg"])
    labels = np.unique(mask)
    if len(labels) > _MOST_LABELS or (labels != np.round(labels)).any():
        expected, found = f"a tumor mask of at most {_MOST_LABELS} whole labels", f"{len(labels)} values"
        raise input_error(printable(entry["seg"]), expected, found, "give a segmentation, not an image")
    names = (printable(entry["image"]), printable(entry["seg"]))
    coordinates = (known, own.get("coordinates", "patient"))
    return match_grids(mask, own["affine"], tuple(shape), affine, names, coordinates)[0]


def read_region(
    entry: Mapping[str, Any], roi_size: Sequence[int], other_grid: str = "refuse", register: str = "none"
) -> tuple[Tensor, dict[str, list[str]]]:
    """Read T2, FLAIR and tumor mask of a case, turned to right, anterior, superior, and cut the region out.

    Args:
        entry: `image` (T2), `image2` (FLAIR), `case` and, where there is one, `seg`: paths; for DICOM a folder, with
            `::` and what chooses a series behind it where it holds several.
        roi_size: voxels of the region.
        other_grid: "refuse" or "resample" a FLAIR on another grid than T2; a mask must lie on T2's.
        register: "rigid" to align FLAIR with T2 first, "none" to trust the headers.

    Returns:
        (2, *roi_size), each contrast scaled to [0, 1] over its whole volume; and what a user should know about it:
        `notes`, and `warnings`, which speak against what the images are taken for.

    Raises:
        FusionInputError: as `LoadImagePair`; or single slices, a mask that is none, is empty or lies on another grid.
    """
    pair, _ = LoadImagePair(chroma="never", other_grid=other_grid, register=register)(entry["image"], entry["image2"])
    if "covered" in pair.meta:
        pair[1][~pair.meta["covered"]] = pair[1].min()
    if pair.ndim != 4 or min(pair.shape[1:]) < 2:
        found = f"size {' x '.join(map(str, pair.shape[1:]))}"
        raise input_error(printable(entry["image"]), "a volume", found, "give volumes: NIfTI, NRRD or DICOM series")
    affine = pair.affine.numpy()
    mask = _read_mask(entry, pair.shape[1:], affine, pair.meta.get("coordinates", "patient"))
    volumes = [*pair.as_tensor().numpy(), *([] if mask is None else [mask])]
    upright = [reorder(volume, affine.copy(), np.eye(4))[0] for volume in volumes]
    image = ScaleIntensityPair(clip_undershoot=True)(np.stack(upright[:2])).as_tensor()
    told = {
        "notes": [*split_notes(pair.meta["notes"]), *_notes(image, mask is None, affine)],
        "warnings": [*split_notes(pair.meta["warnings"]), *_mask_warnings(entry)],
    }
    return tumor_region(image, None if mask is None else upright[2], roi_size, printable(entry["case"])), told


def _mask_warnings(entry: Mapping[str, Any]) -> list[str]:
    """Return the warning about a mask that is named as of another patient than its T2."""
    if "seg" not in entry:
        return []
    text = names_warning(str(entry["image"]), str(entry["image"]), str(entry["seg"]))
    return [f"{printable(entry['seg'])}: {text}"] if text else []


def _notes(image: Tensor, whole: bool, affine: NDArray) -> list[str]:
    """Return what makes a region another image than the network was trained on."""
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if whole:
        shown = float((image.amax(0) > 0).float().mean())
        found = [f"no tumor mask: the {BRAIN}, resized, is graded, not a tumor region as in the training"]
        stripped = f"{100 * shown:.0f} % of the voxels are not 0: not a brain alone, remove skull and background"
        return found + ([stripped] if shown > _MOST_SHOWN else [])
    if np.abs(sides - _TRAINED_SIDE).max() <= 0.1:
        return []
    size = " x ".join(f"{side:.3g}" for side in sides)
    return [f"voxels of {size} mm: the region is cut in voxels, and those of BraTS have 1 mm"]


def region_slices(region: Tensor, least_shown: float, case: str) -> tuple[Tensor, list[int]]:
    """Return the axial slices (S, 2, X, Y) of which both channels show enough, and their places.

    Args:
        region: (2, X, Y, Z).
        least_shown: share of pixels that are not 0.
        case: for the message.

    Raises:
        FusionInputError: no slice shows enough.
    """
    shown = (region != 0).float().mean((1, 2)).amin(0)  # (Z,)
    places = torch.nonzero(shown >= least_shown).flatten()
    if not len(places):
        found = f"at most {100 * shown.max():.1f} %"
        expected = f"slices with {100 * least_shown:g} % of non-zero pixels"
        raise input_error(printable(case), expected, found, "lower least_shown or leave the case out")
    return region[..., places].permute(3, 0, 1, 2).contiguous(), places.tolist()
