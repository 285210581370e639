"""A grey PET or SPECT in color: the fused luma with the color differences of the second image's palette."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import TransformBackends

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.colour import displayed_rgb, rgb_to_ycbcr
from clinicalfmamba_nets.functional.voi import apply_curve
from clinicalfmamba_nets.io.dicom.colour import palette_table
from clinicalfmamba_nets.transforms.notes import add_notes
from clinicalfmamba_nets.transforms.restore import COVERED_KEY, CURVE_KEY, FACTS_KEY, SCALE_KEY

DEFAULT_PALETTE = "hot_iron"  # of PET and SPECT in previews
COLOR_RESULTS = ("beside", "instead")
_OTHER_NAMES = {"hot": "hot_iron", "gray": "grey", "none": "grey", "off": "grey"}


def palette_name(name: str) -> str:
    """Return the name of one of DICOM's well-known palettes, "grey" for no color.

    Args:
        name: in any case, with "-" or "_"; "hot" is short for "hot_iron".

    Raises:
        FusionInputError: an unknown name.

    Example:
        >>> palette_name("Hot"), palette_name("hot-metal-blue"), palette_name("off")
        ('hot_iron', 'hot_metal_blue', 'grey')
    """
    if not isinstance(name, str):
        raise input_error("palette", "a name such as hot_iron", repr(name), "name a palette")
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    plain = _OTHER_NAMES.get(plain, plain)
    if plain != "grey":
        palette_table(plain)
    return plain


def shown_palette(meta: Mapping[str, Any]) -> str:
    """Return the palette of a pair's second image in pictures: the one asked for, else hot iron for PET and SPECT."""
    facts = json.loads(meta.get(FACTS_KEY, "[]"))
    functional = len(facts) > 1 and facts[1]["modality"] in ("PT", "NM")
    return str(meta.get("palette") or (DEFAULT_PALETTE if functional else "grey"))


def unit_luma(fused: torch.Tensor, meta: Mapping[str, Any]) -> torch.Tensor:
    """Bring a fused image in the units of the first one to [0, 1] by what `WindowIntensityPair` recorded."""
    if CURVE_KEY in meta:
        return apply_curve(fused.double(), torch.as_tensor(meta[CURVE_KEY])[0]).float()
    low, high = (float(limit) for limit in meta.get(SCALE_KEY, [[0.0, 1.0]])[0])
    return ((fused - low) / ((high - low) or 1.0)).clamp(0, 1)


def color_by_palette(luma: torch.Tensor, second: torch.Tensor, table: np.ndarray) -> torch.Tensor:
    """Give a luma the color differences of a grey image that is colored by a palette.

    Args:
        luma: (*spatial) in [0, 1].
        second: (*spatial) in [0, 1]; 0 becomes the palette's first color.
        table: (256, 3) uint8.

    Returns:
        Red, green and blue, (3, *spatial), uint8, of the luma given: colors that do not exist are drawn towards grey.

    Example:
        >>> color_by_palette(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), palette_table("hot_iron")).tolist()
        [[0, 255], [0, 255], [0, 255]]
    """
    colors = torch.from_numpy(table.copy()).float() / 255
    planes = rgb_to_ycbcr(colors.T[None])[0]  # (3, 256)
    index = (second.clamp(0, 1) * 255).round().long()
    picked = torch.stack([luma.float(), planes[1][index], planes[2][index]])  # (3, *spatial)
    return (displayed_rgb(picked[None])[0] * 255).round().to(torch.uint8)


class ColorByPaletted(MapTransform):
    """Color fused images by a palette of the grey second image, where that is asked for.

    The luma is the network's, the color that of the second image in the palette, as with pictures that come in color.
    The result is an entry of its own, in [0, 255], to be written beside the grey one, or takes its place.

    Args:
        keys: entries with fused images, shape (1, *spatial), in the units of the first image.
        image_key: the pair in [0, 1], shape (2, *spatial), with its meta.
        palette: one of DICOM's well-known palettes: "hot_iron", "pet", "hot_metal_blue", "pet_20_step", "spring",
            "summer", "fall", "winter"; "grey" and None for no color.
        result: "beside" for an entry `<key>_color`, "instead" to replace the grey one. A single picture without a
            place in space (PNG) is replaced.
        allow_missing_keys: do not raise when a key of `keys` is missing.

    Raises:
        FusionInputError: an unknown palette, or neither "beside" nor "instead".
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: str = "image",
        palette: str | None = None,
        result: str | None = "beside",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.palette = None if palette is None else palette_name(palette)
        self.result = result or "beside"
        if self.result not in COLOR_RESULTS:
            raise input_error("color", f"one of {', '.join(COLOR_RESULTS)}", repr(result), "choose one of these")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Color the fused images; images that are in color stay as they are."""
        d = dict(data)
        image = d.get(self.image_key)
        if self.palette is None or not isinstance(image, MetaTensor):
            self._tell_grey(d, image)
            return d
        image.meta["palette"] = self.palette
        if self.palette == "grey":
            return d
        for key in self.key_iterator(d):
            if d[key].shape[0] != 1:
                told = "the second image is in color: its own colors are kept, not the palette"
                add_notes(image.meta, "notes", told)
                continue
            colored = self._colored(d[key], image)
            picture = colored.dim() == 3 and float(image.meta.get("value_range", 0)) > 0
            d[key if picture or self.result == "instead" else f"{key}_color"] = colored
        return d

    def _tell_grey(self, d: Mapping[Hashable, Any], image: Any) -> None:
        """Say that uptake is written in grey, where nobody has asked."""
        meta = getattr(image, "meta", {})
        if shown_palette(meta) != "grey" and all(d[key].shape[0] == 1 for key in self.key_iterator(d)):
            told = f"the result is grey: palette {DEFAULT_PALETTE} writes one in color"
            add_notes(meta, "notes", told)

    def _colored(self, fused: Any, image: MetaTensor) -> MetaTensor:
        table = palette_table(str(self.palette))
        meta, plain = image.meta, torch.as_tensor(fused)[0].cpu()
        second = image.as_tensor()[1].cpu()
        if COVERED_KEY in meta:
            second = torch.where(torch.as_tensor(meta[COVERED_KEY]), second, torch.zeros_like(second))
        made = torch.empty((3, *plain.shape), dtype=torch.uint8)
        for place in range(plain.shape[-1]):  # slice by slice: little memory beside the result
            luma = unit_luma(plain[..., place], meta)
            made[..., place] = color_by_palette(luma, second[..., place], table)
        return MetaTensor(made, affine=image.affine, meta={"palette": self.palette})
