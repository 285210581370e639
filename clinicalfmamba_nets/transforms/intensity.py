"""Intensities of a pair scaled to [0, 1] in a way that is recorded and can be undone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_tensor

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import printable

SCALE_KEY = "intensity_scale"
# A background is the value that all corners of an image share; interpolation undershoots it in at most this share of
# the voxels that are not background.
UNDERSHOOT_SHARE = 0.02


class ScaleIntensityPair(Transform):
    """Scale each channel from its own minimum and maximum to [0, 1]; a constant channel becomes 0.

    The limits are kept in `meta["intensity_scale"]`, a float64 tensor of shape (channels, 2) with minimum and maximum
    in each row, so that `RestoreIntensity` can undo the scaling; `meta["notes"]` tells about constant channels.

    Args:
        clip_undershoot: take the few values that lie below the background as background. Interpolation makes such
            values in skull-stripped volumes; without this they would turn the black background grey.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, clip_undershoot: bool = False) -> None:
        self.clip_undershoot = clip_undershoot

    def __call__(self, img: Any) -> MetaTensor:
        """Scale a pair.

        Args:
            img: channels first, shape (2, *spatial), finite.

        Returns:
            float32, the same shape, in [0, 1].

        Raises:
            FusionInputError: NaN or infinite values.

        Example:
            >>> ScaleIntensityPair()(torch.tensor([[0.0, 5.0], [3.0, 3.0]])).tolist()
            [[0.0, 1.0], [0.0, 0.0]]
        """
        image = convert_to_tensor(img, dtype=torch.float32, track_meta=True)
        values = image.as_tensor().flatten(1)  # (channels, voxels)
        low, high = values.amin(1).double(), values.amax(1).double()
        if not bool(torch.isfinite(low + high).all()):
            name = printable(image.meta.get("filename_or_obj") or "image")
            raise input_error(name, "finite values", "NaN or infinite ones", "replace them by the background value")
        told = list(filter(None, [image.meta.get("notes")]))
        if self.clip_undershoot:
            for channel, lowest in enumerate(low.tolist()):
                background, share = _background(image.as_tensor()[channel])
                if background is not None and background > lowest and share <= UNDERSHOOT_SHARE:
                    low[channel] = background
                    told.append(f"channel {channel}: values below the background {background:g} taken as background")
        span = torch.where(high > low, high - low, torch.ones_like(high))
        scaled = ((values - low.float()[:, None]) / span.float()[:, None]).clamp_(0, 1)
        result = MetaTensor(scaled.reshape(image.shape), meta=image.meta, applied_operations=image.applied_operations)
        result.meta[SCALE_KEY] = torch.stack([low, high], dim=1).cpu()
        constant = [str(index) for index in torch.nonzero(high == low).flatten().tolist()]
        result.meta["notes"] = "; ".join([*told, *(f"channel {c} is constant: set to 0" for c in constant)])
        return result


def _background(channel: torch.Tensor) -> tuple[float | None, float]:
    """Return the value that all corners share, None where they differ, and the share of the other values below it."""
    corners = channel
    for axis in range(channel.dim()):
        corners = corners.index_select(axis, torch.tensor([0, channel.shape[axis] - 1], device=channel.device))
    value = corners.flatten()[0]
    if not bool((corners == value).all()):
        return None, 0.0
    others = channel.numel() - int((channel == value).sum())
    return float(value), int((channel < value).sum()) / max(others, 1)


class RestoreIntensity(Transform):
    """Undo `ScaleIntensityPair`: bring a fused image from [0, 1] to the range that one source had.

    Args:
        channel: the source whose range is meant; 0, the first image, by default.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, channel: int = 0) -> None:
        self.channel = channel

    def __call__(self, img: Any, scale: Any) -> Any:
        """Restore a range.

        Args:
            img: fused image in [0, 1], any shape.
            scale: what `ScaleIntensityPair` recorded, shape (channels, 2).

        Returns:
            The image in the units of the source.

        Example:
            >>> RestoreIntensity()(torch.tensor([0.0, 1.0]), [[-1000.0, 3000.0], [0.0, 255.0]]).tolist()
            [-1000.0, 3000.0]
        """
        low, high = (float(limit) for limit in scale[self.channel])
        return img * (high - low) + low


class ScaleIntensityPaird(MapTransform):
    """Dictionary form of `ScaleIntensityPair`.

    Args:
        keys: entries with pairs, shape (2, *spatial).
        clip_undershoot: as in `ScaleIntensityPair`.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = ScaleIntensityPair.backend

    def __init__(
        self, keys: KeysCollection = "image", clip_undershoot: bool = False, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scaler = ScaleIntensityPair(clip_undershoot)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the pairs; see `ScaleIntensityPair.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.scaler(d[key])
        return d


class RestoreIntensityd(MapTransform):
    """Dictionary form of `RestoreIntensity`; an image that was never scaled stays as it is.

    Args:
        keys: entries with fused images in [0, 1].
        image_key: the pair whose meta holds `intensity_scale`.
        channel: the source whose range is restored.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = RestoreIntensity.backend

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: str = "image",
        channel: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.restorer = RestoreIntensity(channel)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore the range of the fused images; see `RestoreIntensity.__call__`."""
        d = dict(data)
        scale = getattr(d.get(self.image_key), "meta", {}).get(SCALE_KEY)
        for key in self.key_iterator(d):
            if scale is not None:
                d[key] = self.restorer(d[key], scale)
        return d
