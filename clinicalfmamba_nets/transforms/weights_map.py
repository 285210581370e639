"""The weight of the first image at each pixel: split off the network's output, and saved beside the fused image."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from clinicalfmamba_nets.functional.ranges import HEAD_THRESHOLD
from clinicalfmamba_nets.io import write_image
from clinicalfmamba_nets.transforms.restore import COVERED_KEY
from clinicalfmamba_nets.transforms.save import SaveFused, case_of


class SplitWeightsd(MapTransform):
    """Split the output of a network with `return_weights` into the fused image and the weight map.

    An output of one channel stays as it is, so that the step may stand in every configuration. Where the second image
    ends, the first one is all of the result. Outside the head, where both sources are background, a share says nothing:
    it is 0 there, black in pictures.

    Args:
        keys: entries with outputs, (1 or 2, *spatial).
        image_key: the pair, whose meta tells where the second image ends.
        weights_key: where the weight map goes, (1, *spatial) in [0, 1]: the share of the first image in each pixel.
        allow_missing_keys: do not raise when a key is missing.

    Example:
        >>> split = SplitWeightsd("pred")({"pred": torch.tensor([[0.5], [0.25]])})
        >>> split["pred"].tolist(), split["weights"].tolist()
        ([[0.5]], [[0.25]])
    """

    backend = SaveFused.backend

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: str = "image",
        weights_key: str = "weights",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key, self.weights_key = image_key, weights_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Split; see the class."""
        d = dict(data)
        for key in self.key_iterator(d):
            if d[key].shape[0] == 2:
                d[key], weights = d[key][:1], d[key][1:]
                covered = getattr(d.get(self.image_key), "meta", {}).get(COVERED_KEY)
                if covered is not None:
                    weights = torch.where(torch.as_tensor(covered, device=weights.device), weights, 1.0)
                outside = _outside(d.get(self.image_key), weights.shape)
                d[self.weights_key] = (
                    weights if outside is None else torch.where(outside.to(weights.device), 0.0, weights)
                )
        return d


def _outside(image: Any, shape: torch.Size) -> torch.Tensor | None:
    """Mark what lies around the head, (1, *spatial) bool; None where the pair is not there or shows no head at all."""
    if not isinstance(image, torch.Tensor) or image.shape[1:] != shape[1:]:
        return None
    from scipy.ndimage import binary_fill_holes  # takes a fifth of a second to load

    bright = (torch.as_tensor(image).amax(dim=0) > HEAD_THRESHOLD).cpu().numpy()
    outside = ~torch.from_numpy(binary_fill_holes(bright))[None]
    return None if bool(outside.all()) else outside


class SaveWeightsd(MapTransform):
    """Save weight maps as `<case>_weights`: 8-bit PNG (255: all of the first image) for pictures, else NIfTI in [0, 1].

    0 is all of the second image, and stands outside the head.

    Args:
        keys: entries with weight maps, (1, *spatial) in [0, 1]; a missing one is passed over.
        image_key: the pair, whose meta names the inputs and holds the affine.
        output_dir: as in `SaveFused`.
        case_key: entry with the case's name; it may be missing.
    """

    backend = SaveFused.backend

    def __init__(
        self,
        keys: KeysCollection = "weights",
        image_key: str = "image",
        output_dir: str | os.PathLike[str] = ".",
        case_key: str = "case",
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.image_key, self.case_key = image_key, case_key
        self.saver = SaveFused(output_dir, "weights")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the maps; the input stays as it is."""
        d = dict(data)
        for key in self.key_iterator(d):
            self._save(d[key], getattr(d.get(self.image_key), "meta", {}), d.get(self.case_key))
        return d

    def _save(self, weights: torch.Tensor, meta: Mapping[str, Any], case: Any) -> Path:
        sources = tuple(os.fsdecode(meta.get(name) or "") for name in ("filename_or_obj", "image2_filename_or_obj"))
        array = weights[0].detach().cpu().float().numpy()
        picture = array.ndim == 2
        path = self.saver.target(case_of(case, sources[0]), (sources[0], sources[1]), ".png" if picture else ".nii.gz")
        affine = None if picture or meta.get("affine") is None else torch.as_tensor(meta["affine"]).double().numpy()
        known = str(meta.get("coordinates") or "patient")
        write_image(path, array * 255 if picture else array, None, affine, "uint8" if picture else "float32", known)
        return path
