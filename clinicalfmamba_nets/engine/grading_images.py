"""Images that a grading network reads: tumor regions in [0, 1], slices of them, fused or not, kept by content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch import Tensor, nn

from clinicalfmamba_nets.data.slices import LEAST_SHOWN, upright_volume
from clinicalfmamba_nets.engine.weights import require_weights
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import atomic_file, case_name, match_grids, printable
from clinicalfmamba_nets.transforms import ScaleIntensityPair

CHANNELS = {"t2": (0,), "flair": (1,), "t2_flair": (0, 1)}
FUSED = ("eh_dran", "clinicalfmamba")
_FORM = 1  # of the kept files; another number makes them anew
_BATCH = 8  # slices fused at once
_logger = logging.getLogger("clinicalfmamba.grading")


def is_fused(name: str) -> bool:
    """Tell whether an input is made by a fusion network.

    Raises:
        FusionInputError: the input is not known.
    """
    if name not in (*CHANNELS, *FUSED):
        known = ", ".join((*CHANNELS, *FUSED))
        raise input_error("input", f"one of {known}", repr(name), "choose one of these")
    return name in FUSED


def input_channels(name: str) -> int:
    """Return how many channels an input has.

    Example:
        >>> input_channels("t2_flair"), input_channels("clinicalfmamba")
        (2, 1)
    """
    return 1 if is_fused(name) else len(CHANNELS[name])


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
    shown = image.amax(0).numpy() > 0 if mask is None else np.asarray(mask) > 0
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


def _read_case(entry: Mapping[str, Any], roi_size: Sequence[int]) -> Tensor:
    """Return T2 and FLAIR of a case, (2, *roi_size), each scaled to [0, 1] over its whole volume."""
    first, affine = upright_volume(entry["image"])
    volumes = []
    for key in ("image2", "seg"):
        if key in entry:
            other, own = upright_volume(entry[key])
            names = (printable(entry["image"]), printable(entry[key]))
            volumes.append(match_grids(other, own, first.shape, affine, names)[0])
    pair = ScaleIntensityPair(clip_undershoot=True)(np.stack([first, volumes[0]]).astype(np.float32))
    mask = volumes[1] if len(volumes) > 1 else None
    return tumor_region(pair.as_tensor(), mask, roi_size, printable(entry["case"]))


def _as_slices(region: Tensor, least_shown: float, case: str) -> tuple[Tensor, list[int]]:
    """Return the axial slices (S, 2, X, Y) of which both channels show enough, and their places."""
    shown = (region != 0).float().mean((1, 2)).amin(0)  # (Z,)
    places = torch.nonzero(shown >= least_shown).flatten()
    if not len(places):
        found = f"at most {100 * shown.max():.1f} %"
        expected = f"slices with {100 * least_shown:g} % of non-zero pixels"
        raise input_error(printable(case), expected, found, "lower least_shown or leave the case out")
    return region[..., places].permute(3, 0, 1, 2).contiguous(), places.tolist()


def _contents(path: str | os.PathLike) -> str:
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while part := file.read(2**20):
                digest.update(part)
            return digest.hexdigest()
    except OSError as error:
        raise input_error(printable(path), "a file", "none that can be read", "correct the path") from error


class GradingImages:
    """Prepare the images of cases once, and keep them under the hash of the files, settings and weights they come from.

    Args:
        name: the input: "t2", "flair", "t2_flair", "eh_dran" or "clinicalfmamba".
        spatial_dims: 2 for axial slices of the tumor region, 3 for the region as a volume.
        roi_size: voxels of the region.
        cache_dir: folder of the kept files, half-precision arrays.
        fusion: the fusion network of a fused input.
        fusion_weights: its file of weights.
        least_shown: share of non-zero pixels that a slice must have.
        device: where to fuse.

    Raises:
        FusionInputError: an unknown input, a fused one without weights, or weights that do not fit.
    """

    def __init__(
        self,
        name: str,
        spatial_dims: int,
        roi_size: Sequence[int],
        cache_dir: str | os.PathLike,
        fusion: nn.Module | None = None,
        fusion_weights: str | os.PathLike | None = None,
        least_shown: float = LEAST_SHOWN,
        device: torch.device | str = "cpu",
    ) -> None:
        self.name, self.spatial_dims, self.roi_size = name, spatial_dims, tuple(roi_size)
        self.cache_dir, self.least_shown, self.device = Path(cache_dir), least_shown, device
        self.fusion: nn.Module | None = None
        self.fusion_key = ""
        if is_fused(name):
            if fusion is None or fusion_weights is None:
                remedy = "train it by configs/train_fusion.json"
                raise input_error(f"input {name}", "a fusion network with weights", "none", remedy)
            require_weights(fusion, fusion_weights)
            fusion.load_state_dict(torch.load(fusion_weights, map_location="cpu", weights_only=True))
            self.fusion, self.fusion_key = fusion.to(device).eval(), _contents(fusion_weights)

    def __call__(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return one item for each slice (in 3D: each case): `image` (file), `index` in it, and the keys of the entry.

        In 2D `case` ends in `_z` and the slice's place in the region.
        """
        items = []
        for entry in entries:
            path, places = self._prepared(entry)
            for index, place in enumerate(places):
                case = f"{entry['case']}_z{place:03d}" if self.spatial_dims == 2 else entry["case"]
                kept = {key: value for key, value in entry.items() if key not in ("image", "image2", "seg")}
                items.append({**kept, "image": str(path), "index": index, "case": case, "volume": entry["case"]})
        return items

    def _prepared(self, entry: Mapping[str, Any]) -> tuple[Path, list[int]]:
        files = [_contents(entry[key]) for key in ("image", "image2", "seg") if key in entry]
        facts = [_FORM, self.spatial_dims, self.roi_size, self.least_shown, files]
        plain = self._place(entry, facts)
        if not plain.with_suffix(".json").is_file():
            region = _read_case(entry, self.roi_size)
            images, places = (
                _as_slices(region, self.least_shown, str(entry["case"]))
                if self.spatial_dims == 2
                else (region[None], [0])
            )
            _keep(plain, images, places)
        path = plain
        if self.fusion is not None:
            path = self._place(entry, [*facts, self.name, self.fusion_key])
            if not path.with_suffix(".json").is_file():
                images = torch.from_numpy(np.load(plain)).float()
                _keep(path, self._fused(images), json.loads(plain.with_suffix(".json").read_text(encoding="utf-8")))
                _logger.info("%s: fused by %s", printable(entry["case"]), self.name)
        return path, json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))

    def _place(self, entry: Mapping[str, Any], facts: list[Any]) -> Path:
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return self.cache_dir / f"{case_name(str(entry['case']))}-{digest}.npy"

    @torch.no_grad()
    def _fused(self, images: Tensor) -> Tensor:
        assert self.fusion is not None
        return torch.cat([self.fusion(part.to(self.device)).float().cpu() for part in images.split(_BATCH)])


def _keep(path: Path, images: Tensor, places: list[int]) -> None:
    with atomic_file(path) as partial, open(partial, "wb") as file:
        np.save(file, images.half().numpy())
    with atomic_file(path.with_suffix(".json")) as partial:  # last: the array is whole once this is there
        partial.write_text(json.dumps(places), encoding="utf-8")


class LoadGradingImaged(MapTransform):
    """Load an image that `GradingImages` prepared, its channels chosen, and its label as a float32 of shape (1,).

    Args:
        keys: of the image.
        name: the input.
    """

    def __init__(self, keys: str = "image", name: str = "t2_flair") -> None:
        super().__init__(keys)
        self.chosen = list(range(input_channels(name))) if is_fused(name) else list(CHANNELS[name])

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the item with the image (C, *spatial) in [0, 1]."""
        item = dict(data)
        for key in self.key_iterator(item):
            stored = np.load(item[key], mmap_mode="r")[item["index"]]
            item[key] = torch.from_numpy(stored[self.chosen].astype(np.float32))
        if "label" in item:
            item["label"] = torch.tensor([float(item["label"])])
        return item
