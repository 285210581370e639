"""Images of a pair as they come, from files or arrays, with what must be known about each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.functional.colour import rgb_to_ycbcr
from clinicalfmamba_nets.functional.layout import plain_tensor
from clinicalfmamba_nets.io import check_values, printable, read_image

# What a format tells of an image where it can.
_OPTIONAL = (
    "modality", "description", "windows", "units", "suv_factor", "suv_reason", "background", "coordinates",
    "frame_of_reference", "patient", "issuer", "birth_date", "patient_name", "sex", "study", "taken",
    "space", "label", "fused",
)  # fmt: skip
# Of a picture in color: what is neither black nor white, what counts as grey, and a share of it that no color map has
# (0 in the atlas's SPECT and PET, 0.5 where a PET was laid over an MR).
_BLACK, _WHITE, _GREY, _LAID_OVER = 0.15, 0.95, 2.5 / 255, 0.35
# What `meta["sources"]` tells of each image.
FACTS = (
    "name", "path", "kind", "modality", "description", "windows", "units", "suv_factor", "suv_reason", "value_range",
    "dtype",
)  # fmt: skip


class PairSources(str):
    """The facts of both images of a pair: read like a list of two dictionaries, stored as JSON text.

    It is a text because MONAI's collation of batches passes on texts, numbers and arrays of one size alone.

    Example:
        >>> sources = PairSources.of({"modality": "MR"}, {"modality": "CT"})
        >>> sources[1]["modality"], len(sources), [one["modality"] for one in sources]
        ('CT', 2, ['MR', 'CT'])
    """

    @classmethod
    def of(cls, first: Mapping[str, Any], second: Mapping[str, Any]) -> PairSources:
        """Store the facts of two images."""
        return cls(json.dumps([dict(first), dict(second)]))

    def both(self) -> list[dict[str, Any]]:
        """Return the two dictionaries."""
        return json.loads(str(self))

    def __getitem__(self, place: Any) -> Any:
        return self.both()[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.both())

    def __len__(self) -> int:
        return len(self.both())


@dataclass
class Source:
    """One image as it came: pixels (*spatial) or (*spatial, 3), where it lies, and what is to be told about it."""

    array: np.ndarray
    name: str
    path: str = ""
    affine: np.ndarray | None = None
    color: bool = False
    value_range: float = 0.0
    dtype: str = "float32"
    frame_of_reference: str = ""
    patient: str = ""
    issuer: str = ""
    birth_date: str = ""
    patient_name: str = ""
    sex: str = ""
    study: str = ""
    taken: str = ""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kind: str = "array"
    modality: str = ""
    description: str = ""
    windows: list[Any] = field(default_factory=list)
    units: str = ""
    suv_factor: float | None = None
    suv_reason: str = ""
    background: np.ndarray | None = None
    coordinates: str = "patient"
    space: str = ""
    label: str = ""
    fused: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what is known of the image beside its pixels, as plain values."""
        known = {key: getattr(self, key) for key in FACTS}
        return known | {"windows": [list(window) for window in self.windows]}


def is_path(item: Any) -> bool:
    """Tell whether something names a file."""
    return isinstance(item, str | bytes | os.PathLike)


def pair_error(name: str, found: str) -> FusionInputError:
    """Build the error of an input that is not two images."""
    remedy = "give image and image2 (paths or arrays), or one with two channels"
    return input_error(name, "two images", found, remedy)


def from_file(path: Any, two_channels: bool = False) -> Source:
    """Read a file; with `two_channels` it must hold both images along its last dimension."""
    array, meta = read_image(path, two_channels)
    return Source(
        array=array,
        name=printable(path),
        path=os.fsdecode(path),
        affine=meta["affine"],
        color=meta["color"],
        value_range=meta["value_range"] or 0.0,
        dtype=meta["dtype"],
        notes=list(meta["notes"]),
        warnings=list(meta.get("warnings", [])),
        kind=meta["format"],
        **{key: meta[key] for key in _OPTIONAL if key in meta},
    )


def from_array(data: Any, name: str) -> Source:
    """Take an array or tensor that is already loaded; a MetaTensor brings its place and its file's name."""
    meta = data.meta if isinstance(data, MetaTensor) else {}
    if not isinstance(data, torch.Tensor | np.ndarray):
        raise pair_error(name, f"a {type(data).__name__}")
    if np.ma.is_masked(data):
        found = f"{np.ma.count_masked(data)} masked values"
        raise input_error(name, "an array without a mask", found, "give them a value: array.filled(0)")
    affine = to_affine_nd(3, data.affine.cpu().numpy()) if isinstance(data, MetaTensor) else None
    if isinstance(data, torch.Tensor):  # NumPy has neither bfloat16 nor floats of 8 bits
        dense = plain_tensor(data.detach(), name).cpu().resolve_neg()
        narrow = dense.is_floating_point() and dense.dtype not in (torch.float16, torch.float32, torch.float64)
        array = (dense.float() if narrow else dense.resolve_conj()).numpy()
    else:
        array = np.asarray(data)
    file = meta.get("filename_or_obj")
    path = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else ""
    name = printable(path) if path else name
    check_values(array, name)
    value_range = float(np.iinfo(array.dtype).max) if array.dtype in (np.uint8, np.uint16) else 0.0
    return Source(array, name, path, affine, False, value_range, array.dtype.name)


def channel_dim(data: Any) -> int:
    """Return the channel dimension of a loaded array: what its meta says, else the first or last of size 2."""
    stated = getattr(data, "meta", {}).get("original_channel_dim")
    if stated is not None and not isinstance(stated, str) and stated == stated:
        return int(stated)
    return 0 if tuple(data.shape[:1]) == (2,) else -1


def drop_channel(source: Source) -> Source:
    """Remove a leading channel of size 1 from an array."""
    if source.array.ndim in (3, 4) and source.array.shape[0] == 1:
        source.array = source.array[0]
    return source


def drop_flat_axis(source: Source) -> Source:
    """Make a volume of one slice an image: (X, Y, 1), or a slice of another plane as (1, Y, Z) or (X, 1, Z)."""
    sides = source.array.shape[:-1] if source.color else source.array.shape
    if len(sides) != 3 or 1 not in sides:
        return source
    flat = next(axis for axis in (2, 0, 1) if sides[axis] == 1)
    kept = [axis for axis in range(3) if axis != flat]
    source.array = source.array.squeeze(flat)
    if source.background is not None:
        source.background = source.background.squeeze(flat)
    if source.affine is not None:
        source.affine = np.asarray(source.affine)[:, [*kept, flat, 3]]
    return source


def find_color(source: Source, shape: tuple[int, ...]) -> Source:
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


def split_color(source: Source) -> tuple[np.ndarray, np.ndarray | None]:
    """Return luma in the image's own units, and Cb, Cr in [0, 1] with shape (2, *spatial), None for grey.

    An image in color of which much is grey gets a warning: its anatomy is fused, and its colors are no color map.
    """
    if not source.color:
        return source.array.astype(np.float32), None
    rgb = torch.from_numpy(np.moveaxis(source.array, -1, 0).astype(np.float32) / source.value_range)
    low, high = rgb.amin(0), rgb.amax(0)
    grey = (high - low <= _GREY)[(high > _BLACK) & (low < _WHITE)]
    share = float(grey.float().mean()) if grey.numel() else 0.0
    if share >= _LAID_OVER:
        told = f"{100 * share:.0f} % of what it shows is grey, the rest in color"
        source.warnings.append(f"{told}: colors laid over a grey image, as on a screen; name the image without them")
    planes = rgb_to_ycbcr(rgb[None])[0]  # (3, *spatial)
    return (planes[0] * source.value_range).numpy(), planes[1:].numpy()
