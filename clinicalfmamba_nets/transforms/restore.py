"""A fused image brought back from [0, 1] to the units of a source."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from clinicalfmamba_nets.functional.voi import invert_curve

# Entries of the meta: limits of each channel, its curve where it is no straight line, words about each channel.
SCALE_KEY, CURVE_KEY, WINDOW_KEY = "intensity_scale", "intensity_curve", "intensity_windows"
FACTS_KEY = "intensity_facts"  # JSON: modality, window, low, high, unit of each channel
# Where the second image covers the first, and what the first one holds elsewhere.
COVERED_KEY, UNCOVERED_KEY = "covered", "uncovered_values"
TISSUE_KEY = "tissue_levels"  # (2, 2): what soft tissue and bone of a CT in HU have become; 0 and 1 of other images
SPIKES_KEY = "spikes"  # single voxels that the network did not see, white in the result: places in the flattened image


def restore_channel(values: Any, limits: Any) -> Any:
    """Bring values in [0, 1] back to the units that limits, (2,), or the knots of a curve, (K, 2), belong to.

    Args:
        values: tensor or array of any shape.
        limits: values of 0 and 1, or pairs of value and result.

    Returns:
        The same shape.
    """
    curve = torch.as_tensor(limits, dtype=torch.float64)
    if curve.dim() == 1:
        low, high = (float(limit) for limit in curve)
        return values * (high - low) + low
    restored = invert_curve(torch.as_tensor(values, dtype=torch.float32), curve)
    return restored if isinstance(values, torch.Tensor) else restored.numpy()


def black_and_white(meta: Mapping[str, Any]) -> tuple[float, float]:
    """Return the values of the first image that are shown black and white in a result in color.

    Args:
        meta: of the pair; `value_range` is the white of a picture of 8 bits, whose black is 0; other images have the
            limits that they were brought to [0, 1] by, because scanners fill a part of 16 bits.

    Example:
        >>> black_and_white({"value_range": 255.0}), black_and_white({"intensity_scale": [[300.0, 1200.0], [0.0, 1.0]]})
        ((0.0, 255.0), (300.0, 1200.0))
    """
    white = float(meta.get("value_range", 0))
    if 0 < white <= 255:
        return 0.0, white
    low, high = (float(limit) for limit in meta.get(SCALE_KEY, [[0.0, 1.0]])[0])
    return (low, high) if high > low else (low, low + 1.0)


class RestoreIntensity(Transform):
    """Undo `WindowIntensityPair`: bring a fused image from [0, 1] to the units of one source.

    0 and 1 become the limits that the source was clipped to: a fused image lies inside the window of that source.

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
            scale: what `WindowIntensityPair` recorded: limits, shape (channels, 2), or curves, (channels, K, 2).

        Returns:
            The image in the units of the source.

        Example:
            >>> RestoreIntensity()(torch.tensor([0.0, 1.0]), [[-1000.0, 3000.0], [0.0, 255.0]]).tolist()
            [-1000.0, 3000.0]
        """
        return restore_channel(img, scale[self.channel])


class RestoreIntensityd(MapTransform):
    """Dictionary form of `RestoreIntensity`; an image that was never scaled stays as it is.

    Where the second image does not cover the first one, the result is the first image itself, value by value.

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
        meta = getattr(d.get(self.image_key), "meta", {})
        scale = meta.get(CURVE_KEY, meta.get(SCALE_KEY))
        for key in self.key_iterator(d):
            if scale is not None:
                restored = _with_spikes(self.restorer(d[key], scale), meta, scale, self.restorer.channel)
                d[key] = _with_uncovered(restored, meta, self.restorer.channel)
        return d


def _with_spikes(fused: Any, meta: Mapping[str, Any], scale: Any, channel: int) -> Any:
    places = meta.get(SPIKES_KEY)
    if places is None or not isinstance(fused, torch.Tensor) or fused[0].numel() <= int(places.max()):
        return fused
    white = restore_channel(torch.ones(1), scale[channel])
    flat = fused.reshape(fused.shape[0], -1).clone()
    flat[0, places.to(fused.device)] = white.to(flat)
    return flat.reshape(fused.shape)


def _with_uncovered(fused: Any, meta: Mapping[str, Any], channel: int) -> Any:
    covered = meta.get(COVERED_KEY)
    if covered is None or channel != 0 or tuple(fused.shape[1:]) != tuple(covered.shape):
        return fused
    fused = fused.clone() if isinstance(fused, torch.Tensor) else fused.copy()
    outside = ~torch.as_tensor(covered)
    values = torch.as_tensor(meta[UNCOVERED_KEY])
    if isinstance(fused, torch.Tensor):
        fused[0][outside.to(fused.device)] = values.to(fused)
    else:
        fused[0][outside.numpy()] = values.numpy()
    return fused
