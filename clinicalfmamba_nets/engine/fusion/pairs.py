"""How arrays are read as pairs: single images, volumes or batches, and never one of them for another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.functional.layout import plain_tensor


@dataclass
class Reading:
    """What two arguments were read as.

    Args:
        pairs: entries `image`, `image2`, one for each pair.
        volume: whether they are volumes.
        paths: whether both are paths.
        batch: whether they came as a batch.
        channel: whether the first image came with a channel: 0 or -1 for its place, None for none.
        like: the first image where it is a tensor.
    """

    pairs: Sequence[Mapping[str, Any]]
    volume: bool = False
    paths: bool = False
    batch: bool = False
    channel: int | None = None
    like: torch.Tensor | None = field(default=None, repr=False)

    def joined(self, results: Sequence[torch.Tensor]) -> Any:
        """Return results, (1, *spatial) or (3, *spatial) each, in the layout of the first image."""
        shaped = [self._shaped(result) for result in results]
        whole = torch.stack(shaped) if self.batch else shaped[0]
        if self.like is not None:
            return whole.to(device=self.like.device, dtype=torch.float32)
        return np.ascontiguousarray(whole.cpu().numpy(), dtype=np.float32)

    def _shaped(self, result: torch.Tensor) -> torch.Tensor:
        result = result.as_tensor() if hasattr(result, "as_tensor") else result
        if self.channel == 0:
            return result
        if len(result) == 1 and self.channel is None:
            return result[0]
        return result.movedim(0, -1)


def read_pair(image_a: Any, image_b: Any, spatial_dims: int | None = None) -> Reading:
    """Tell what two images are.

    Args:
        image_a: array, tensor or path.
        image_b: array, tensor or path.
        spatial_dims: 2 for images, 3 for volumes, None where the shapes tell.

    Raises:
        FusionInputError: shapes that can be read in two ways, both of which are named, or that are no pair.

    Example:
        >>> read_pair(np.zeros((4, 1, 8, 8)), np.zeros((4, 1, 8, 8))).batch
        True
    """
    for name, item in (("image_a", image_a), ("image_b", image_b)):
        if _is_path(item) and not os.fspath(item):  # which stands for the current folder
            raise input_error(name, "an array, a tensor or a path", "an empty path", "give one of these")
    if _is_path(image_a):
        from clinicalfmamba_nets.io import is_dicom, is_volume

        volume = is_dicom(image_a) or is_volume(image_a)
        return Reading([{"image": image_a, "image2": image_b}], volume, paths=_is_path(image_b))
    array = _grey(_checked(image_a, "image_a"), spatial_dims)
    dims, channel, batch = _layout(array, spatial_dims)
    like = image_a if isinstance(image_a, torch.Tensor) else None
    if not batch:
        single = array if channel is None else _without_channel(array, channel)
        return Reading([{"image": single, "image2": image_b}], dims == 3, channel=channel, like=like)
    second = _checked(image_b, "image_b")
    if not len(array):
        raise input_error("image_a", "a batch of at least one image", "none", "leave empty batches out")
    if len(second) != len(array):
        found = f"{len(second)} for {len(array)}"
        raise input_error("image_b", "as many images as image_a has", found, "give batches of one length")
    pairs = [{"image": one[0] if channel == 0 else one, "image2": two} for one, two in zip(array, second, strict=True)]
    return Reading(pairs, dims == 3, batch=True, channel=channel, like=like)


def _layout(array: Any, spatial_dims: int | None) -> tuple[int, int | None, bool]:
    """Return the number of spatial dimensions, the place of the channel (0, -1 or None), and whether it is a batch."""
    shape, dims = tuple(array.shape), len(array.shape)
    if dims == 2 and spatial_dims != 3:
        return 2, None, False
    if dims == 3 and spatial_dims != 3 and 1 in (shape[0], shape[-1]):
        return 2, (0 if shape[0] == 1 else -1), False
    if dims == 3 and spatial_dims == 2:
        return 2, None, True
    if dims == 3 and (spatial_dims == 3 or _placed(array)):
        return 3, None, False
    if dims == 4 and spatial_dims != 3 and shape[1] == 1:
        return 2, 0, True
    if dims == 4 and spatial_dims != 2 and shape[0] == 1:
        return 3, 0, False
    if dims == 4 and spatial_dims == 3:
        return 3, None, True
    if dims == 5 and spatial_dims != 2 and shape[1] == 1:
        return 3, 0, True
    raise _unclear(shape, spatial_dims)


def _unclear(shape: tuple[int, ...], spatial_dims: int | None) -> FusionInputError:
    told = f"shape {' x '.join(map(str, shape))}"
    if len(shape) == 2:
        remedy = "leave out spatial_dims=3 and bundle='fusion_3d' for single images"
        return input_error("image_a", "a volume, (X, Y, Z) or (B, 1, X, Y, Z)", told, remedy)
    if len(shape) == 3:
        told += f", which is a batch of {shape[0]} images or a volume of {shape[2]} slices"
        remedy = "add spatial_dims=2 for the batch, spatial_dims=3 for the volume"
        return input_error("image_a", "a shape that can be read in one way", told, remedy)
    expected = "(H, W), (B, 1, H, W), (X, Y, Z) or (B, 1, X, Y, Z)"
    return input_error("image_a", expected, told, "give grey images on one grid, their dimensions by spatial_dims")


def _grey(array: Any, spatial_dims: int | None) -> Any:
    """Take a picture with three equal channels as grey; refuse one in color, and what may be one."""
    if array.ndim != 3 or spatial_dims == 3 or 3 not in (array.shape[0], array.shape[-1]) or _placed(array):
        return array
    last = array.shape[-1] == 3
    if spatial_dims == 2 and not last:
        return array  # a batch of three
    planes = [array[..., number] if last else array[number] for number in range(3)]
    if all(bool((plane == planes[0]).all()) for plane in planes[1:]):
        return planes[0]
    slices = "a volume of 3 slices" if last else "a batch of 3 images, or a volume"
    found = f"shape {' x '.join(map(str, array.shape))}, which is a picture in color (3 channels) or {slices}"
    remedy = "give the grey MRI (or CT) first; spatial_dims=3 for the volume"
    raise input_error("image_a", "a grey image", found, remedy + ("" if last else ", spatial_dims=2 for the batch"))


def _without_channel(array: Any, channel: int) -> Any:
    return array[0] if channel == 0 else array[..., 0]


def _placed(array: Any) -> bool:
    """Tell whether an array brings a place in space with it, as MONAI's images do: then it is a volume."""
    affine = getattr(array, "affine", None)
    return affine is not None and not torch.equal(torch.as_tensor(affine).double(), torch.eye(4, dtype=torch.float64))


def _checked(image: Any, name: str) -> Any:
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise input_error(name, "an array, a tensor or a path", f"a {type(image).__name__}", "give one of these")
    return plain_tensor(image, name) if isinstance(image, torch.Tensor) else image


def _is_path(item: Any) -> bool:
    return isinstance(item, str | bytes | os.PathLike)
