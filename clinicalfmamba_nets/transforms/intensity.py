"""Intensities of a pair brought to [0, 1] by windows, percentiles or limits, in a way that is recorded and undone."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TransformBackends, convert_to_tensor

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.layout import plain_tensor
from clinicalfmamba_nets.functional.ranges import value_text
from clinicalfmamba_nets.functional.voi import apply_curve, sample_values
from clinicalfmamba_nets.io import printable
from clinicalfmamba_nets.spatial.grids import PATIENT, has_sides
from clinicalfmamba_nets.transforms.limits import Limits, choose_limits, range_text, shown, source_modality
from clinicalfmamba_nets.transforms.matched_levels import TASKS, match_levels
from clinicalfmamba_nets.transforms.misfit import information_of, measure_fit
from clinicalfmamba_nets.transforms.notes import add_notes
from clinicalfmamba_nets.transforms.restore import (
    COVERED_KEY,
    CURVE_KEY,
    FACTS_KEY,
    SCALE_KEY,
    SPIKES_KEY,
    TISSUE_KEY,
    UNCOVERED_KEY,
    WINDOW_KEY,
    restore_channel,
)
from clinicalfmamba_nets.transforms.spikes import find_spikes, soften_spikes


class WindowIntensityPair(InvertibleTransform):
    """Bring each image of a pair to [0, 1] as its kind asks for: the front end of every network.

    A CT in HU is shown in the brain window (center 40, width 80; bone above it is white), an MR from its background to
    the 99.5 percentile of what is not background, PET and SPECT from 0 to the 99.9 percentile of the head (PET in
    SUVbw where the file allows it), 8-bit images and values in [0, 1], which somebody has windowed already, from their
    least to their greatest value, unless a spike stands far above all others in [0, 1]. Of T2 with FLAIR the range of
    the brighter brain is then moved (`match_levels`).
    Limits come from the whole image or series, never from a slice. NaN counts as background.

    What an image is, is read from `meta["sources"]` (see `LoadImagePair`), else from `task`. Recorded in the meta:
    `intensity_scale` (float64, (2, 2): least and greatest value), `intensity_curve` (float64, (2, 4, 2)) where a curve
    is no straight line, `tissue_levels` (float64, (2, 2): what soft tissue of 40 HU and bone of 300 HU of a CT
    became; 0 and 1 of other images), `intensity_windows` (words, a line for each channel), `notes` and `warnings`.

    Args:
        window_a: range of the first image: "auto" as above, a window of CT by name ("brain", "stroke", "subdural",
            "soft", "bone", the monotone curve "head") or as "CENTER/WIDTH", "LOW-HIGH", "p1/p99" for percentiles of
            what is not background, "suv", "suv 0-6" or "counts" for PET, "header" for the file's own first window,
            "minmax".
        window_b: that of the second image.
        task: such as "ct_mri", for images whose files do not tell what they are.
        check_fit: warn where two volumes do not lie on each other, and record `mutual_information` (see `measure_fit`).
        clip_undershoot: with least and greatest value, take the few values that lie below the background as
            background. Interpolation makes such values in skull-stripped volumes.

    Example:
        >>> WindowIntensityPair(window_b="40/80")(torch.tensor([[0.0, 5.0], [20.0, 900.0]])).tolist()
        [[0.0, 1.0], [0.25, 1.0]]
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        window_a: str | None = "auto",
        window_b: str | None = "auto",
        task: str | None = None,
        clip_undershoot: bool = False,
        check_fit: bool = False,
    ) -> None:
        self.windows = tuple("auto" if window in (None, "") else window for window in (window_a, window_b))
        self.check_fit = check_fit
        self.task = task
        self.clip_undershoot = clip_undershoot

    def __call__(self, img: Any) -> MetaTensor:
        """Bring a pair to [0, 1].

        Args:
            img: channels first, shape (2, *spatial), in the units of the files; NaN is background.

        Returns:
            float32, the same shape, in [0, 1].

        Raises:
            FusionInputError: no pair of real numbers, infinite values, or a window that cannot be read.
        """
        image = as_pair(img)
        values, holes = without_holes(image)
        found = self._limits(values, image.meta)
        scaled = torch.empty_like(values, memory_format=torch.contiguous_format)
        for channel, limits in enumerate(found):
            scaled[channel] = scale_channel(values[channel], limits)
        spikes = [_without_spikes(*item) for item in zip(scaled, values, found, strict=True)]
        if bool(holes.any()):
            scaled[holes] = 0.0
        result = MetaTensor(scaled, meta=dict(image.meta), applied_operations=image.applied_operations)
        _record(result.meta, found, image, holes)
        if any(map(len, spikes)):
            result.meta[SPIKES_KEY] = torch.cat(spikes)
        if self.check_fit:
            _record_fit(result, self._unhidden(result, values, found))
        self.push_transform(result, extra_info={"knots": torch.stack([limits.knots for limits in found])})
        return result

    def inverse(self, img: MetaTensor) -> MetaTensor:
        """Bring both channels back to the units of their files; what was clipped comes back as the limit."""
        knots = self.pop_transform(img)["extra_info"]["knots"]
        restored = torch.stack(
            [restore_channel(plane, curve) for plane, curve in zip(img.as_tensor(), knots, strict=True)]
        )
        return MetaTensor(restored, meta=img.meta, applied_operations=img.applied_operations)

    def _unhidden(self, image: MetaTensor, values: torch.Tensor, found: Sequence[Limits]) -> np.ndarray:
        """Return the pair as it is compared: a window that hides most of a head tells nothing of where it lies."""
        pair = image.numpy()
        if any(limits.hides for limits in found):
            usual = WindowIntensityPair(task=self.task)._limits(values, image.meta)
            wider = [limits if other.hides else None for limits, other in zip(usual, found, strict=True)]
            planes = zip(pair, values, wider, strict=True)
            pair = np.stack([scale_channel(own, to).cpu().numpy() if to else plane for plane, own, to in planes])
        return pair

    def _limits(self, values: torch.Tensor, meta: Mapping[str, Any]) -> list[Limits]:
        sources = pair_sources(meta, len(values))
        samples = [sample_values(plane) for plane in values]
        heads = [shown(samples[0])] * len(samples)
        together, covered = samples, meta.get(COVERED_KEY)
        if covered is not None and bool(covered.any()):  # elsewhere the second image repeats its edge
            inside = sample_values(torch.as_tensor(covered, device=values.device))
            together = [one[inside] for one in samples]
            samples[1:], heads[1:] = together[1:], [one[inside] for one in heads[1:]]
        found = [
            choose_limits(
                values[channel],
                samples[channel],
                heads[channel],
                self.windows[min(channel, 1)],
                source,
                source_modality(source, channel, self.task),
                self.clip_undershoot,
            )
            for channel, source in enumerate(sources)
        ]
        if self.task in TASKS and all("percentile without" in limits.name for limits in found):
            found = match_levels(found, together, [shown(sample) for sample in together])
        for limits, sample, head, source in zip(found, samples, heads, sources, strict=True):
            limits.text = range_text(limits, sample, head, source)
        return found


def as_pair(img: Any) -> MetaTensor:
    """Return a pair in float32 with its meta.

    Args:
        img: tensor or array, channels first, shape (2, *spatial).

    Raises:
        FusionInputError: another number of channels, no pixel, complex numbers, or no tensor or array.
    """
    expected, remedy = "a pair as tensor or array, (2, *spatial)", "load it by LoadImagePaird, one pair at a time"
    if not isinstance(img, torch.Tensor | np.ndarray):
        raise input_error("image", expected, f"a {type(img).__name__}", remedy)
    name = printable(getattr(img, "meta", {}).get("filename_or_obj") or "image")
    if img.ndim < 2 or img.shape[0] != 2 or 0 in img.shape:
        raise input_error(name, expected, f"shape {tuple(img.shape)}", remedy)
    if img.is_complex() if isinstance(img, torch.Tensor) else np.iscomplexobj(img):
        raise input_error(name, "real numbers", "complex ones", "take their magnitude")
    plain = plain_tensor(img, name) if isinstance(img, torch.Tensor) else img
    return convert_to_tensor(plain, dtype=torch.float32, track_meta=True)


def without_holes(image: MetaTensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the values with NaN replaced by the least value of the channel, and where NaN was.

    Raises:
        FusionInputError: infinite values.
    """
    values = image.as_tensor()
    holes = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    if bool(torch.isfinite(torch.stack(torch.aminmax(values))).all()):
        return values, holes
    holes = torch.isnan(values)
    if bool(torch.isinf(values).any()):
        name = printable(image.meta.get("filename_or_obj") or "image")
        raise input_error(name, "finite values", "NaN or infinite ones", "replace them by the background value")
    planes = []
    for plane, hole in zip(values, holes, strict=True):
        least = plane[~hole].amin() if bool((~hole).any()) else plane.new_zeros(())
        planes.append(torch.where(hole, least, plane))
    return torch.stack(planes), holes


def _without_spikes(scaled: torch.Tensor, values: torch.Tensor, limits: Limits) -> torch.Tensor:
    """Take single voxels far beyond a percentile out of a channel; return their places."""
    if "percentile" not in limits.name or limits.ends[0] == limits.ends[1]:
        return torch.empty(0, dtype=torch.int64)
    places = find_spikes(values, *limits.ends)
    soften_spikes(scaled, places)
    if len(places):
        told = f"{len(places)} single voxel{'s' * (len(places) > 1)} of {value_text(float(values.max()))}"
        limits.notes.append(f"{told} far beyond all others: kept from the network, white in the result")
    return places


def pair_sources(meta: Mapping[str, Any], channels: int) -> Sequence[Mapping[str, Any]]:
    """Return what is known of each channel: `meta["sources"]`, else the little that other entries tell."""
    stated = meta.get("sources") or []
    sources = json.loads(stated) if type(stated) is str else list(stated)  # a batch leaves text alone
    if len(sources) == channels:
        return sources
    known = {"dtype": meta.get("dtype", ""), "path": meta.get("filename_or_obj", "")}
    other = {"dtype": meta.get("dtype", ""), "path": meta.get("image2_filename_or_obj", "")}
    return [known, *[other] * (channels - 1)][:channels]


def scale_channel(values: torch.Tensor, limits: Limits) -> torch.Tensor:
    """Bring one channel to [0, 1]; a constant one becomes 0."""
    low, high = limits.ends
    if limits.name == "curve head":
        return apply_curve(values, limits.knots)
    span = torch.tensor((high - low) if high > low else 1.0, dtype=torch.float64).float()
    return ((values - low) / span.to(values.device)).clamp_(0, 1)


def _record(meta: dict[str, Any], found: Sequence[Limits], image: MetaTensor, holes: torch.Tensor) -> None:
    """Put into the meta what was chosen and what is to be told about it."""
    knots = torch.stack([limits.knots for limits in found])
    meta[SCALE_KEY] = knots[:, [0, -1], 0].clone()
    if any(limits.name == "curve head" for limits in found):
        meta[CURVE_KEY] = knots
    meta[TISSUE_KEY] = torch.tensor([limits.tissues for limits in found], dtype=torch.float64)
    meta[FACTS_KEY] = json.dumps([limits.facts() for limits in found])
    meta[WINDOW_KEY] = "\n".join(limits.text for limits in found)
    notes, warnings = [], []
    for channel, limits in enumerate(found):
        missing = int(torch.count_nonzero(holes[channel]))
        told = [*limits.notes, *([f"{missing} voxels of NaN taken as background"] if missing else [])]
        if limits.ends[0] == limits.ends[1]:
            told.append("is constant: set to 0")
        name = f"image {'AB'[channel]}"
        notes += [f"{name} is {text[3:]}" if text.startswith("is ") else f"{name}: {text}" for text in told]
        warnings += [f"{name}: {text}" for text in limits.warnings]
        if not limits.name.startswith("least"):
            notes.append(f"{name}, {limits.text}")
    add_notes(meta, "notes", *notes)
    add_notes(meta, "warnings", *warnings)
    _keep_uncovered(meta, image, holes)


def _keep_uncovered(meta: dict[str, Any], image: MetaTensor, holes: torch.Tensor) -> None:
    """Keep the first image where the second one has no values: it is the result there."""
    covered = meta.get(COVERED_KEY)
    if len(image) > 1 and bool(holes[1].any()):
        covered = ~holes[1] if covered is None else covered & ~holes[1]
    if covered is not None:
        meta[COVERED_KEY] = covered
        meta[UNCOVERED_KEY] = image.as_tensor()[0][~covered].nan_to_num(float(meta[SCALE_KEY][0, 0]))


def _record_fit(image: MetaTensor, pair: np.ndarray) -> None:
    """Measure how a pair, (2, *spatial) in [0, 1], lies on each other; put it into the meta of the image."""
    covered, sided = image.meta.get(COVERED_KEY), has_sides(str(image.meta.get("coordinates") or PATIENT))
    fit = measure_fit(pair, image.affine.numpy(), None if covered is None else np.asarray(covered), sided)
    image.meta["mutual_information"] = information_of(pair) if fit is None else fit.information
    if fit is None:
        return
    add_notes(image.meta, "warnings", fit._replace(registered=bool(image.meta.get("registration"))).warning)


class ScaleIntensityPair(WindowIntensityPair):
    """`WindowIntensityPair` from the least to the greatest value of each image, whatever it is.

    Args:
        clip_undershoot: as there; without it such values turn the black background of skull-stripped volumes grey.

    Example:
        >>> ScaleIntensityPair()(torch.tensor([[0.0, 5.0], [3.0, 3.0]])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, clip_undershoot: bool = False) -> None:
        super().__init__("minmax", "minmax", clip_undershoot=clip_undershoot)


class WindowIntensityPaird(MapTransform, InvertibleTransform):
    """Dictionary form of `WindowIntensityPair`.

    Args:
        keys: entries with pairs, shape (2, *spatial).
        window_a: as in `WindowIntensityPair`.
        window_b: as in `WindowIntensityPair`.
        task: as in `WindowIntensityPair`.
        check_fit: as in `WindowIntensityPair`.
        clip_undershoot: as in `WindowIntensityPair`.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = WindowIntensityPair.backend

    def __init__(
        self,
        keys: KeysCollection = "image",
        window_a: str | None = "auto",
        window_b: str | None = "auto",
        task: str | None = None,
        clip_undershoot: bool = False,
        allow_missing_keys: bool = False,
        check_fit: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scaler = WindowIntensityPair(window_a, window_b, task, clip_undershoot, check_fit)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the pairs; see `WindowIntensityPair.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.scaler(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Undo it; see `WindowIntensityPair.inverse`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.scaler.inverse(d[key])
        return d


class ScaleIntensityPaird(WindowIntensityPaird):
    """Dictionary form of `ScaleIntensityPair`.

    Args:
        keys: entries with pairs, shape (2, *spatial).
        clip_undershoot: as in `ScaleIntensityPair`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self, keys: KeysCollection = "image", clip_undershoot: bool = False, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, "minmax", "minmax", None, clip_undershoot, allow_missing_keys)
