"""Images that a grading network reads: tumor regions or slices of them, fused or not, kept by content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, Randomizable
from numpy.typing import NDArray
from torch import Tensor, nn

from clinicalfmamba_nets.data.slices import LEAST_SHOWN
from clinicalfmamba_nets.engine.fusion.case import Source
from clinicalfmamba_nets.engine.grading.regions import BRAIN, TUMOR, read_region, region_slices
from clinicalfmamba_nets.engine.run.weights import require_weights
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import atomic_file, case_name, check_file, is_dicom, printable
from clinicalfmamba_nets.io.dicom.files import find_dicom_files, split_selector
from clinicalfmamba_nets.transforms.notes import KINDS, join_notes

CHANNELS = {"t2": (0,), "flair": (1,), "t2_flair": (0, 1)}
FUSED = ("eh_dran", "clinicalfmamba")
_FORM = 3  # of the kept files; another number makes them anew
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


def contrast_warnings(entry: Mapping[str, Any]) -> list[str]:
    """Return the warnings about images that show another contrast than the one they are taken for.

    Args:
        entry: `image`, taken for T2, and `image2`, taken for FLAIR.

    Raises:
        FusionInputError: each is in the place of the other.

    Example:
        >>> contrast_warnings({"image": "p1_t2.nii.gz", "image2": "p1_t1ce.nii.gz"})
        ['p1_t1ce.nii.gz: an image of T1CE, by its name or header: FLAIR is expected here']
    """
    paths, expected = (entry["image"], entry["image2"]), ("t2", "flair")
    words = tuple(Source(path).word for path in paths)
    if words == expected[::-1]:
        raise input_error(printable(paths[0]), "T2 first, FLAIR second", "FLAIR first", "change their order")
    return [
        f"{printable(path)}: an image of {word.upper()}, by its name or header: {own.upper()} is expected here"
        for path, word, own in zip(paths, words, expected, strict=True)
        if word not in ("", "mri", own)
    ]


def _contents(path: str | os.PathLike) -> str:
    """Return the digest of a file, or of all DICOM files of a folder and of what chooses one of its series."""
    digest = hashlib.sha256(split_selector(path)[1].encode(errors="surrogateescape"))
    try:
        for name in find_dicom_files(path)[0] if is_dicom(path) else [check_file(path)]:
            with open(name, "rb") as file:
                while part := file.read(2**20):
                    digest.update(part)
    except OSError as error:
        raise input_error(printable(path), "a file", "none that can be read", "correct the path") from error
    return digest.hexdigest()


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
        other_grid: "refuse" or "resample" a FLAIR on another grid than T2.
        register: "rigid" to align FLAIR with T2 first, "none" to trust the headers.

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
        *,
        least_shown: float = LEAST_SHOWN,
        device: torch.device | str = "cpu",
        other_grid: str = "refuse",
        register: str = "none",
    ) -> None:
        self.name, self.spatial_dims, self.roi_size = name, spatial_dims, tuple(roi_size)
        self.other_grid, self.register = other_grid, register
        self.cache_dir, self.least_shown, self.device = Path(cache_dir), least_shown, device
        self.fusion: nn.Module | None = None
        self.fusion_key = ""
        if is_fused(name):
            remedy = "train it by configs/train_fusion.json"
            if fusion is None or fusion_weights is None:
                raise input_error(f"input {name}", "a fusion network with weights", "none", remedy)
            if not Path(fusion_weights).is_file():
                raise input_error(printable(fusion_weights), f"weights that fuse for {name}", "no such file", remedy)
            require_weights(fusion, fusion_weights)
            fusion.load_state_dict(torch.load(fusion_weights, map_location="cpu", weights_only=True))
            self.fusion, self.fusion_key = fusion.to(device, torch.float32).eval(), _contents(fusion_weights)

    def __call__(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return one item for each slice (in 3D: each case): `image` (file), `index` in it, and the keys of the entry.

        In 2D `case` ends in `_z` and the slice's place in the region. `region` tells what that was cut by, `notes` what
        a user should know, `warnings` what speaks against the images; those are logged too.

        Raises:
            FusionInputError: images that cannot be read or paired, a mask that does not fit, T2 and FLAIR in each
                other's place; naming the case.
        """
        items = []
        for entry in entries:
            try:
                path, kept = self._prepared(entry)
                kept["warnings"] += contrast_warnings(entry)
            except FusionInputError as error:
                case = printable(entry["case"])
                raise error if case in str(error) else FusionInputError(f"{case}: {error}") from error
            about = {key: value for key, value in entry.items() if key not in ("image", "image2", "seg")}
            about |= {"image": str(path), "volume": entry["case"]}
            about |= {kind: join_notes(kept[kind]) for kind in KINDS}
            for text in kept["warnings"]:
                _logger.info("%s: warning: %s", printable(entry["case"]), text)
            about["region"] = TUMOR if "seg" in entry else BRAIN
            for index, place in enumerate(kept["places"]):
                case = f"{entry['case']}_z{place:03d}" if self.spatial_dims == 2 else entry["case"]
                items.append({**about, "index": index, "case": case})
        return items

    def _prepared(self, entry: Mapping[str, Any]) -> tuple[Path, dict[str, list]]:
        files = [_contents(entry[key]) for key in ("image", "image2", "seg") if key in entry]
        facts = [_FORM, self.spatial_dims, self.roi_size, self.least_shown, self.other_grid, self.register, files]
        plain = self._place(entry, facts)
        kept = _kept(plain)
        if kept is None:
            region, told = read_region(entry, self.roi_size, self.other_grid, self.register)
            images, places = (
                region_slices(region, self.least_shown, str(entry["case"]))
                if self.spatial_dims == 2
                else (region[None], [0])
            )
            kept = {"places": places, **told}
            _keep(plain, images, kept)
        path = plain
        if self.fusion is not None:
            path = self._place(entry, [*facts, self.name, self.fusion_key])
            if _kept(path) is None:
                images = torch.from_numpy(np.load(plain)).float()
                _keep(path, self._fused(images), kept)
                _logger.info("%s: fused by %s", printable(entry["case"]), self.name)
        return path, kept

    def _place(self, entry: Mapping[str, Any], facts: list[Any]) -> Path:
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return self.cache_dir / f"{case_name(str(entry['case']))}-{digest}.npy"

    @torch.no_grad()
    def _fused(self, images: Tensor) -> Tensor:
        assert self.fusion is not None
        return torch.cat([self.fusion(part.to(self.device)).float().cpu() for part in images.split(_BATCH)])


def _keep(path: Path, images: Tensor, about: dict[str, list]) -> None:
    with atomic_file(path) as partial, open(partial, "wb") as file:
        np.save(file, images.half().numpy())
    with atomic_file(path.with_suffix(".json")) as partial:  # last: the array is whole once this is there
        partial.write_text(json.dumps(about), encoding="utf-8")


def _kept(path: Path) -> dict[str, list] | None:
    """Return what is kept about an image, or None where it, or the image, is not there or not whole."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return about if path.is_file() and about.keys() >= {"places", *KINDS} else None
    except (OSError, ValueError, AttributeError):
        return None


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
            item[key] = torch.from_numpy(_opened(item[key])[item["index"]][self.chosen].astype(np.float32))
        if "label" in item:
            item["label"] = torch.tensor([float(item["label"])])
        return item


class RandMirrord(MapTransform, Randomizable):
    """Mirror an image along each of some spatial axes, or not, by chance.

    As MONAI's RandFlipd without metadata, which would take more time than a step of a small classifier.

    Args:
        keys: of the image (C, *spatial), a plain tensor.
        axes: spatial axes.
        prob: of each.
    """

    def __init__(self, keys: str = "image", axes: Sequence[int] = (0, 1), prob: float = 0.5) -> None:
        super().__init__(keys)
        self.axes, self.prob = tuple(axes), prob

    def randomize(self, data: Any = None) -> list[int]:
        """Draw the dimensions that are mirrored."""
        return [axis + 1 for axis in self.axes if self.R.random() < self.prob]

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the item with the image mirrored."""
        item, dims = dict(data), self.randomize()
        for key in self.key_iterator(item):
            item[key] = item[key].flip(dims)
        return item


@lru_cache(maxsize=1024)
def _opened(path: str) -> NDArray:
    """Open a kept file once: its name tells its contents, so that it never changes."""
    return np.load(path, mmap_mode="r").view(np.ndarray)
