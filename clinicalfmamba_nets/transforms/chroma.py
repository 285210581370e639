"""Color of the second image put back on the fused luma."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from clinicalfmamba_nets.functional.colour import displayed_rgb
from clinicalfmamba_nets.transforms.restore import black_and_white


class MergeChroma(Transform):
    """Join a fused luma with the color differences of a source: the fused image in color."""

    backend = [TransformBackends.TORCH]

    def __call__(self, luma: Any, chroma: Any, value_range: float = 1.0, black: float = 0.0) -> Any:
        """Merge.

        Args:
            luma: fused image, shape (1, *spatial), in [black, value_range].
            chroma: Cb and Cr in [0, 1], 0.5 for grey, shape (2, *spatial).
            value_range: white of the luma.
            black: its black.

        Returns:
            Red, green, blue, shape (3, *spatial), in [black, value_range]; colors outside are drawn towards grey.

        Raises:
            ValueError: sizes that differ.

        Example:
            >>> MergeChroma()(torch.full((1, 2, 2), 0.25), torch.full((2, 2, 2), 0.5)).shape
            torch.Size([3, 2, 2])
        """
        if luma.shape[0] != 1 or chroma.shape[0] != 2 or luma.shape[1:] != chroma.shape[1:]:
            raise ValueError(
                f"chroma: expected (1, *spatial) and (2, *spatial), found {tuple(luma.shape)} and {tuple(chroma.shape)}"
            )
        bright = (convert_to_tensor(luma, dtype=torch.float32) - black) / (value_range - black)
        planes = torch.cat([bright, convert_to_tensor(chroma, dtype=torch.float32, device=bright.device)])
        rgb = displayed_rgb(planes[None])[0] * (value_range - black) + black  # (3, *spatial)
        return convert_to_dst_type(rgb, luma)[0]


class MergeChromad(MapTransform):
    """Dictionary form of `MergeChroma`; a fused image stays grey where there is no chroma or the source was grey.

    Args:
        keys: entries with fused images, shape (1, *spatial), in the units of the first image.
        image_key: the pair, whose meta holds `color` and black and white of the first image (see `black_and_white`).
        chroma_key: entry with Cb, Cr; None for `<image_key>_chroma`.
        allow_missing_keys: do not raise when a key of `keys` is missing.
    """

    backend = MergeChroma.backend

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: str = "image",
        chroma_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.chroma_key = chroma_key or f"{image_key}_chroma"
        self.merger = MergeChroma()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Put the color back; see `MergeChroma.__call__`."""
        d = dict(data)
        meta = getattr(d.get(self.image_key), "meta", {})
        if self.chroma_key not in d or not meta.get("color", 1):
            return d
        black, white = black_and_white(meta)
        for key in self.key_iterator(d):
            d[key] = self.merger(d[key], d[self.chroma_key], white, black)
        return d
