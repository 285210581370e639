"""Loading of image pairs into one image of two channels, with every check that a pair needs."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.layout import row_major
from clinicalfmamba_nets.io import is_dicom
from clinicalfmamba_nets.transforms.notes import join_notes
from clinicalfmamba_nets.transforms.placing import OTHER_GRID, REGISTER, Placement, put_on_grid
from clinicalfmamba_nets.transforms.restore import COVERED_KEY
from clinicalfmamba_nets.transforms.sources import (
    PairSources,
    Source,
    channel_dim,
    drop_channel,
    drop_flat_axis,
    find_color,
    from_array,
    from_file,
    is_path,
    pair_error,
    split_color,
)

CHROMA = ("auto", "always", "never")


class LoadImagePair(Transform):
    """Read two images of one head on one grid into a float32 image of two channels.

    Channel 0 is the first, anatomical image; channel 1 the second, or its luma where it is in color. Pixels keep
    their units. The second image is put in the first one's storage order where only that differs. Two DICOM series of
    one Frame of Reference, and with `other_grid` "resample" any two volumes with affines, may lie on different grids:
    then the second is interpolated on the first one's. Everything that would be paired wrongly is refused.

    Args:
        spatial_dims: 2 or 3 to refuse anything else (a volume of one slice counts as 2D), None for both.
        chroma: "auto" keeps Cb and Cr of a color image, "always" gives neutral ones for a grey image too (batches
            that mix both), "never" drops them (training).
        allow_constant: accept an image without any contrast instead of refusing it.
        other_grid: "refuse" or "resample" a second volume that lies on another grid; the affines decide.
        register: "rigid" to align the second volume with the first before it is interpolated, "none" to trust the
            affines.
        squeeze: take a pair of volumes of one slice, unless the first is a DICOM series, for single images.
        allow_partial: accept a second volume that covers less than a quarter of the first.

    Example:
        >>> image, chroma = LoadImagePair()(np.eye(8), 1 - np.eye(8))
        >>> image.shape, chroma is None
        (torch.Size([2, 8, 8]), True)
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        spatial_dims: int | None = None,
        chroma: str = "auto",
        allow_constant: bool = False,
        other_grid: str = "refuse",
        register: str = "none",
        squeeze: bool = False,
        allow_partial: bool = False,
    ) -> None:
        if spatial_dims not in (None, 2, 3):
            raise ValueError(f"spatial_dims: expected 2, 3 or None, found {spatial_dims!r}")
        if chroma not in CHROMA:
            raise ValueError(f"chroma: expected one of {CHROMA}, found {chroma!r}")
        if other_grid not in OTHER_GRID:
            raise ValueError(f"other_grid: expected one of {OTHER_GRID}, found {other_grid!r}")
        if register not in REGISTER:
            raise ValueError(f"register: expected one of {REGISTER}, found {register!r}")
        self.spatial_dims = spatial_dims
        self.chroma = chroma
        self.allow_constant = allow_constant
        self.other_grid = other_grid
        self.register = register
        self.squeeze = squeeze
        self.allow_partial = allow_partial

    def __call__(self, image: Any, image2: Any = None) -> tuple[MetaTensor, MetaTensor | None]:
        """Load a pair.

        Args:
            image: path or array of the first image, a sequence of both, one file or array with two channels, or a DICOM
                study in which the choice of two series is clear.
            image2: path or array of the second image, where `image` is the first alone.

        Returns:
            The pair, shape (2, *spatial), and Cb, Cr of the second image, shape (2, *spatial) in [0, 1], or None.
            Meta of both: `filename_or_obj`, `affine`, `original_affine`, `dtype` (as stored) and `value_range` (its
            white, 0.0 where unknown) of the first image, `image2_filename_or_obj`, `color` (1 for a second image in
            color), `notes` and `warnings` (texts; a warning changes the meaning of the picture), `sources` (what is
            known of each image, see `Source.facts`), `coverage` (share of the first image that the second covers) and,
            where it is below 1, `covered` (bool, (*spatial); elsewhere the second image repeats its edge),
            `registration` (text of an ITK transform file, "" for none),
            `original_channel_dim` 0.

        Raises:
            FusionInputError: a file that cannot be read, not two images, grids that differ, a color first image,
                NaN or infinite values, a constant image.
        """
        first, second = self._sources(image, image2)
        if self.squeeze and first.kind != "dicom":
            first, second = drop_flat_axis(first), drop_flat_axis(second)
        first, second = self._checked_dims(first), self._checked_dims(second)
        if first.color:
            raise input_error(first.name, "a grey image first", "a color image", "name the MRI (or CT) first")
        flat = second.array.min() == second.array.max()
        placed = put_on_grid(first, second, self.other_grid, self.register, self.allow_partial)
        self._check_contrast(first)
        self._check_contrast(second, "" if flat else first.name)
        luma, chroma = split_color(second)
        pair = torch.from_numpy(np.stack([first.array.astype(np.float32), luma]))  # (2, *spatial)
        meta = self._meta(first, second, placed)
        return _with_meta(pair, first, meta), self._chroma(chroma, pair, first, meta)

    def _sources(self, image: Any, image2: Any) -> tuple[Source, Source]:
        if isinstance(image, list | tuple):
            image = [*image, *([] if image2 is None else [image2])]
            if len(image) > 2:
                raise pair_error("image", f"{len(image)} images")
            return self._sources(*image, *[None] * (2 - len(image)))
        if image is None:
            raise pair_error("image", "none")
        if image2 is None and is_path(image) and is_dicom(image):
            from clinicalfmamba_nets.io.dicom.study import choose_pair

            image, image2 = choose_pair(image)
        if image2 is None:
            return self._stacked(image)
        first = from_file(image) if is_path(image) else drop_channel(from_array(image, "image"))
        second = from_file(image2) if is_path(image2) else drop_channel(from_array(image2, "image2"))
        return first, second if is_path(image2) else find_color(second, first.array.shape)

    def _stacked(self, image: Any) -> tuple[Source, Source]:
        """Split one file or array with two channels into its images."""
        source = from_file(image, two_channels=True) if is_path(image) else from_array(image, "image")
        channel = -1 if is_path(image) else channel_dim(image)
        shape = source.array.shape
        if len(shape) not in (3, 4) or not -1 <= channel < len(shape) or shape[channel] != 2:
            raise pair_error(source.name, f"one of shape {shape}")
        arrays = np.moveaxis(source.array, channel, 0)
        first = replace(source, array=arrays[0])
        second = Source(arrays[1], f"{source.name}, second channel", affine=source.affine)
        second.coordinates = source.coordinates
        return first, second

    def _checked_dims(self, source: Source) -> Source:
        if self.spatial_dims == 2:
            source = drop_flat_axis(source)
        shape = source.array.shape[:-1] if source.color else source.array.shape
        flat = len(shape) == 3 and 1 in shape
        if len(shape) not in (2, 3) or (self.spatial_dims and (len(shape) != self.spatial_dims or flat)):
            expected = f"a {self.spatial_dims}D image" if self.spatial_dims else "a 2D or 3D image"
            remedy = "use the 2D bundle" if self.spatial_dims == 3 else "use the 3D bundle, or choose one slice"
            raise input_error(source.name, expected, f"size {' x '.join(map(str, shape))}", remedy)
        return source

    def _check_contrast(self, source: Source, grid: str = "") -> None:
        """Refuse an image of one value; `grid` names the image where it was brought to, unless it had none before."""
        if self.allow_constant or source.array.min() < source.array.max():
            return
        found = f"{source.array.flat[0]} everywhere"
        if not grid or source.affine is None:
            raise input_error(source.name, "an image with contrast", found, "check that the right file was exported")
        sides = " x ".join(f"{side:.4g}" for side in np.linalg.norm(np.asarray(source.affine)[:3, :3], axis=0))
        found += f" there, by its place and its voxels of {sides} mm"
        raise input_error(source.name, f"contrast where {grid} lies", found, "correct them in its header")

    def _meta(self, first: Source, second: Source, placed: Placement) -> dict[str, Any]:
        notes = [f"{source.name}: {text}" for source in (first, second) for text in source.notes]
        notes += [f"{second.name}: {text}" for text in placed.notes]
        warnings = [f"{source.name}: {text}" for source in (first, second) for text in source.warnings]
        warnings += [f"{second.name}: {text}" for text in placed.warnings]
        covered = {} if placed.covered is None else {COVERED_KEY: torch.from_numpy(placed.covered)}
        return covered | {
            "coverage": placed.coverage,
            "registration": placed.transform,
            "filename_or_obj": first.path,
            "image2_filename_or_obj": second.path,
            "original_channel_dim": 0,
            "dtype": first.dtype,
            "value_range": first.value_range,
            "color": int(second.color),
            "coordinates": first.coordinates,
            "notes": join_notes(notes),
            "warnings": join_notes(warnings),
            "sources": PairSources.of(first.facts(), second.facts()),
        }

    def _chroma(self, chroma: Any, pair: torch.Tensor, first: Source, meta: dict[str, Any]) -> MetaTensor | None:
        if self.chroma == "never" or (chroma is None and self.chroma == "auto"):
            return None
        planes = torch.full_like(pair, 0.5) if chroma is None else torch.from_numpy(chroma)
        if COVERED_KEY in meta:
            planes[:, ~meta[COVERED_KEY]] = 0.5
        return _with_meta(planes, first, meta)


def _with_meta(tensor: torch.Tensor, first: Source, meta: Mapping[str, Any]) -> MetaTensor:
    affine = torch.eye(4, dtype=torch.float64) if first.affine is None else torch.as_tensor(np.array(first.affine))
    return MetaTensor(row_major(tensor), affine=affine, meta={**meta, "original_affine": affine.clone()})


class LoadImagePaird(MapTransform):
    """Dictionary form of `LoadImagePair`: one entry with two channels from the paths or arrays of two entries.

    Args:
        keys: the entry with the first image (or both); the pair takes its place, shape (2, *spatial).
        pair_key: the entry with the second image; it may be missing. A path stays as text, an array is taken out.
        chroma_key: where Cb, Cr go, shape (2, *spatial); None for `<key>_chroma`. Absent for grey pairs ("auto").
        spatial_dims: as in `LoadImagePair`.
        chroma: as in `LoadImagePair`.
        allow_constant: as in `LoadImagePair`.
        other_grid: as in `LoadImagePair`.
        register: as in `LoadImagePair`.
        squeeze: as in `LoadImagePair`.
        allow_partial: as in `LoadImagePair`.
        allow_missing_keys: do not raise when `keys` is missing.

    Example:
        >>> loader = LoadImagePaird(keys="image")
        >>> loader({"image": np.eye(8), "image2": 1 - np.eye(8)})["image"].shape
        torch.Size([2, 8, 8])
    """

    backend = LoadImagePair.backend

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable] = "image",
        pair_key: str = "image2",
        *,
        chroma_key: str | None = None,
        spatial_dims: int | None = None,
        chroma: str = "auto",
        allow_constant: bool = False,
        other_grid: str = "refuse",
        register: str = "none",
        squeeze: bool = False,
        allow_missing_keys: bool = False,
        allow_partial: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys: expected one key (the second image is at pair_key), found {self.keys}")
        self.pair_key = pair_key
        self.chroma_key = chroma_key or f"{self.keys[0]}_chroma"
        self.loader = LoadImagePair(spatial_dims, chroma, allow_constant, other_grid, register, squeeze, allow_partial)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the pair; see `LoadImagePair.__call__` for what is returned and raised."""
        d = dict(data)
        for key in self.key_iterator(d):
            image, chroma = self.loader(d[key], d.get(self.pair_key))
            d[key] = image
            second = d.pop(self.pair_key, None)
            if is_path(second):
                d[self.pair_key] = os.fsdecode(second)  # text, because batches hold no paths
            if chroma is not None:
                d[self.chroma_key] = chroma
        return d
