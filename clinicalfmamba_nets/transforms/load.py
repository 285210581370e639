"""Loading of image pairs into one image of two channels, with every check that a pair needs."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.functional.colour import rgb_to_ycbcr
from clinicalfmamba_nets.io import check_values, match_grids, printable, read_image

CHROMA = ("auto", "always", "never")


@dataclass
class _Source:
    """One image as it came: pixels (*spatial) or (*spatial, 3), where it lies, and what is to be told about it."""

    array: np.ndarray
    name: str
    path: str = ""
    affine: np.ndarray | None = None
    color: bool = False
    value_range: float = 0.0
    dtype: str = "float32"
    notes: list[str] = field(default_factory=list)


def _is_path(item: Any) -> bool:
    return isinstance(item, str | bytes | os.PathLike)


def _pair_error(name: str, found: str) -> FusionInputError:
    remedy = "give image and image2 (paths or arrays), or one with two channels"
    return input_error(name, "two images", found, remedy)


def _from_file(path: Any, two_channels: bool = False) -> _Source:
    array, meta = read_image(path, two_channels)
    return _Source(
        array=array,
        name=printable(path),
        path=os.fsdecode(path),
        affine=meta["affine"],
        color=meta["color"],
        value_range=meta["value_range"] or 0.0,
        dtype=meta["dtype"],
        notes=list(meta["notes"]),
    )


def _from_array(data: Any, name: str) -> _Source:
    """Take an array or tensor that is already loaded; a MetaTensor brings its place and its file's name."""
    meta = data.meta if isinstance(data, MetaTensor) else {}
    if not isinstance(data, torch.Tensor | np.ndarray):
        raise _pair_error(name, f"a {type(data).__name__}")
    affine = data.affine.numpy() if isinstance(data, MetaTensor) else None
    array = data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
    path = os.fsdecode(meta.get("filename_or_obj") or "")
    name = printable(path) if path else name
    check_values(array, name)
    value_range = float(np.iinfo(array.dtype).max) if array.dtype in (np.uint8, np.uint16) else 0.0
    return _Source(array, name, path, affine, False, value_range, array.dtype.name)


def _channel_dim(data: Any) -> int:
    """Return the channel dimension of a loaded array: what its meta says, else the first or last of size 2."""
    stated = getattr(data, "meta", {}).get("original_channel_dim")
    if stated is not None and not isinstance(stated, str) and stated == stated:
        return int(stated)
    return 0 if tuple(data.shape[:1]) == (2,) else -1


def _drop_channel(source: _Source) -> _Source:
    """Remove a leading channel of size 1 from an array."""
    if not source.path and source.array.ndim in (3, 4) and source.array.shape[0] == 1:
        source.array = source.array[0]
    return source


def _find_color(source: _Source, shape: tuple[int, ...]) -> _Source:
    """See three channels of an array, last or first, where the first image has none."""
    array = source.array
    if source.color or array.ndim != len(shape) + 1 or 3 not in (array.shape[0], array.shape[-1]):
        return source
    if array.shape[-1] != 3 or (array.shape[0] == 3 and array.shape[1:] == shape):
        array = np.moveaxis(array, 0, -1)
    source.value_range = source.value_range or (1.0 if array.max() <= 1 else 255.0)
    source.array, source.color = array, True
    if (array == array[..., :1]).all():
        source.array, source.color = array[..., 0], False
    return source


def _split_color(source: _Source) -> tuple[np.ndarray, np.ndarray | None]:
    """Return luma in the image's own units, and Cb, Cr in [0, 1] with shape (2, *spatial), None for grey."""
    if not source.color:
        return source.array.astype(np.float32), None
    rgb = torch.from_numpy(np.moveaxis(source.array, -1, 0).astype(np.float32) / source.value_range)
    planes = rgb_to_ycbcr(rgb[None])[0]  # (3, *spatial)
    return (planes[0] * source.value_range).numpy(), planes[1:].numpy()


class LoadImagePair(Transform):
    """Read two images of one head on one grid into a float32 image of two channels.

    Channel 0 is the first, anatomical image; channel 1 the second, or its luma where it is in color. Pixels keep
    their units. The second image is put in the first one's storage order where only that differs; everything that
    would be paired wrongly is refused.

    Args:
        spatial_dims: 2 or 3 to refuse anything else (a volume of one slice counts as 2D), None for both.
        chroma: "auto" keeps Cb and Cr of a color image, "always" gives neutral ones for a grey image too (batches
            that mix both), "never" drops them (training).
        allow_constant: accept an image without any contrast instead of refusing it.

    Example:
        >>> image, chroma = LoadImagePair()(np.eye(8), 1 - np.eye(8))
        >>> image.shape, chroma is None
        (torch.Size([2, 8, 8]), True)
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, spatial_dims: int | None = None, chroma: str = "auto", allow_constant: bool = False) -> None:
        if spatial_dims not in (None, 2, 3):
            raise ValueError(f"spatial_dims: expected 2, 3 or None, found {spatial_dims!r}")
        if chroma not in CHROMA:
            raise ValueError(f"chroma: expected one of {CHROMA}, found {chroma!r}")
        self.spatial_dims = spatial_dims
        self.chroma = chroma
        self.allow_constant = allow_constant

    def __call__(self, image: Any, image2: Any = None) -> tuple[MetaTensor, MetaTensor | None]:
        """Load a pair.

        Args:
            image: path or array of the first image, a sequence of both, or one file or array with two channels.
            image2: path or array of the second image, where `image` is the first alone.

        Returns:
            The pair, shape (2, *spatial), and Cb, Cr of the second image, shape (2, *spatial) in [0, 1], or None.
            Meta: `filename_or_obj` and `affine` of the first image, `image2_filename_or_obj`, `format` of values in
            `dtype` (first image, as stored) and `value_range` (its white, 0.0 where unknown), `color` (1 for a color
            second image), `notes` (text), `original_channel_dim` 0.

        Raises:
            FusionInputError: a file that cannot be read, not two images, grids that differ, a color first image,
                NaN or infinite values, a constant image.
        """
        first, second = self._sources(image, image2)
        first, second = self._checked_dims(first), self._checked_dims(second)
        if first.color:
            raise input_error(first.name, "a grey image first", "a color image", "name the MRI (or CT) first")
        self._check_contrast(first)
        self._check_contrast(second)
        note = ""
        if second.color and second.affine is None and first.affine is None:
            match_grids(second.array[..., 0], None, first.array.shape, None, (first.name, second.name))
        else:
            second.array, note = match_grids(
                second.array, second.affine, first.array.shape, first.affine, (first.name, second.name)
            )
        luma, chroma = _split_color(second)
        pair = torch.from_numpy(np.stack([first.array.astype(np.float32), luma]))  # (2, *spatial)
        meta = self._meta(first, second, note)
        return _with_meta(pair, first, meta), self._chroma(chroma, pair, first, meta)

    def _sources(self, image: Any, image2: Any) -> tuple[_Source, _Source]:
        if isinstance(image, list | tuple):
            if image2 is not None or len(image) > 2:
                raise _pair_error("image", f"{len(image) + (image2 is not None)} images")
            return self._sources(*image) if image else self._sources(None, None)
        if image is None:
            raise _pair_error("image", "none")
        if image2 is None:
            return self._stacked(image)
        first = _from_file(image) if _is_path(image) else _drop_channel(_from_array(image, "image"))
        second = _from_file(image2) if _is_path(image2) else _drop_channel(_from_array(image2, "image2"))
        return first, second if _is_path(image2) else _find_color(second, first.array.shape)

    def _stacked(self, image: Any) -> tuple[_Source, _Source]:
        """Split one file or array with two channels into its images."""
        source = _from_file(image, two_channels=True) if _is_path(image) else _from_array(image, "image")
        channel = -1 if _is_path(image) else _channel_dim(image)
        if source.array.ndim not in (3, 4) or source.array.shape[channel] != 2:
            raise _pair_error(source.name, f"one of shape {tuple(source.array.shape)}")
        arrays = np.moveaxis(source.array, channel, 0)
        first = replace(source, array=arrays[0])
        return first, _Source(arrays[1], f"{source.name}, second channel", affine=source.affine)

    def _checked_dims(self, source: _Source) -> _Source:
        if self.spatial_dims == 2 and source.array.ndim == 3 and source.array.shape[2] == 1 and not source.color:
            source.array = source.array[..., 0]
        shape = source.array.shape[:-1] if source.color else source.array.shape
        flat = len(shape) == 3 and 1 in shape
        if len(shape) not in (2, 3) or (self.spatial_dims and (len(shape) != self.spatial_dims or flat)):
            expected = f"a {self.spatial_dims}D image" if self.spatial_dims else "a 2D or 3D image"
            remedy = "use the 2D bundle" if self.spatial_dims == 3 else "use the 3D bundle, or choose one slice"
            raise input_error(source.name, expected, f"size {' x '.join(map(str, shape))}", remedy)
        return source

    def _check_contrast(self, source: _Source) -> None:
        if not self.allow_constant and source.array.min() == source.array.max():
            found = f"{source.array.flat[0]} everywhere"
            raise input_error(source.name, "an image with contrast", found, "check that the right file was exported")

    def _meta(self, first: _Source, second: _Source, note: str) -> dict[str, Any]:
        notes = [f"{source.name}: {text}" for source in (first, second) for text in source.notes]
        notes += [f"{second.name}: {note}"] if note else []
        return {
            "filename_or_obj": first.path,
            "image2_filename_or_obj": second.path,
            "original_channel_dim": 0,
            "dtype": first.dtype,
            "value_range": first.value_range,
            "color": int(second.color),
            "notes": "; ".join(notes),
        }

    def _chroma(self, chroma: Any, pair: torch.Tensor, first: _Source, meta: dict[str, Any]) -> MetaTensor | None:
        if self.chroma == "never" or (chroma is None and self.chroma == "auto"):
            return None
        planes = torch.full_like(pair, 0.5) if chroma is None else torch.from_numpy(chroma)
        return _with_meta(planes, first, meta)


def _with_meta(tensor: torch.Tensor, first: _Source, meta: Mapping[str, Any]) -> MetaTensor:
    affine = torch.eye(4, dtype=torch.float64) if first.affine is None else torch.as_tensor(np.array(first.affine))
    return MetaTensor(tensor.contiguous(), affine=affine, meta={**meta, "original_affine": affine.clone()})


class LoadImagePaird(MapTransform):
    """Dictionary form of `LoadImagePair`: one entry with two channels from the paths or arrays of two entries.

    Args:
        keys: the entry with the first image (or both); the pair takes its place, shape (2, *spatial).
        pair_key: the entry with the second image; it may be missing. A path stays as text, an array is taken out.
        chroma_key: where Cb, Cr go, shape (2, *spatial); None for `<key>_chroma`. Absent for grey pairs ("auto").
        spatial_dims: as in `LoadImagePair`.
        chroma: as in `LoadImagePair`.
        allow_constant: as in `LoadImagePair`.
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
        chroma_key: str | None = None,
        spatial_dims: int | None = None,
        chroma: str = "auto",
        allow_constant: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys: expected one key (the second image is at pair_key), found {self.keys}")
        self.pair_key = pair_key
        self.chroma_key = chroma_key or f"{self.keys[0]}_chroma"
        self.loader = LoadImagePair(spatial_dims, chroma, allow_constant)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the pair; see `LoadImagePair.__call__` for what is returned and raised."""
        d = dict(data)
        for key in self.key_iterator(d):
            image, chroma = self.loader(d[key], d.get(self.pair_key))
            d[key] = image
            second = d.pop(self.pair_key, None)
            if _is_path(second):
                d[self.pair_key] = os.fsdecode(second)  # text, because batches hold no paths
            if chroma is not None:
                d[self.chroma_key] = chroma
        return d
