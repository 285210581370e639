"""Random windows and percentiles for training, so that weights do not depend on one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends

from clinicalfmamba_nets.functional.voi import WINDOWS, percentile, sample_values
from clinicalfmamba_nets.transforms.intensity import WindowIntensityPair, as_pair, pair_sources, without_holes
from clinicalfmamba_nets.transforms.limits import looks_like_hu, shown, source_modality


class RandWindowIntensityPair(RandomizableTransform):
    """Bring a pair to [0, 1] as `WindowIntensityPair` does, by windows and percentiles that differ from call to call.

    A CT in HU gets a window between those of brain and bone (center 35 to 600, width 60 to 2800, drawn along their
    line with 20 % of play), or with a probability of 0.15 the curve "head". Another image gets limits drawn
    around its percentiles: 0 to 2 below, 95 to 100 above of what is not background. A CT that somebody has windowed
    already (8 bit) cannot get its values back: it gets up to a tenth cut off below and up to 40 % above, as a narrower
    window would. With a probability of 1 - `prob` the pair gets the fixed range of `WindowIntensityPair`.

    Args:
        prob: how often the range is random.
        task: as in `WindowIntensityPair`.
        clip_undershoot: as in `WindowIntensityPair`.

    Example:
        >>> pair = torch.stack([torch.arange(100.0), torch.linspace(-1000, 1000, 100)]).reshape(2, 10, 10)
        >>> scaled = RandWindowIntensityPair(task="ct_mri").set_random_state(seed=0)(pair)
        >>> float(scaled.min()), float(scaled.max())
        (0.0, 1.0)
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, prob: float = 1.0, task: str | None = None, clip_undershoot: bool = False) -> None:
        RandomizableTransform.__init__(self, prob)
        self.task = task
        self.clip_undershoot = clip_undershoot
        self._draws = np.zeros((2, 3))

    def randomize(self, data: Any = None) -> None:
        """Draw whether and how the range differs."""
        super().randomize(None)
        self._draws = self.R.uniform(size=(2, 3))

    def __call__(self, img: Any, randomize: bool = True) -> MetaTensor:
        """Bring a pair to [0, 1].

        Args:
            img: as in `WindowIntensityPair.__call__`: the whole image, before it is cut into patches.
            randomize: draw anew, or use the last draw.

        Returns:
            float32, (2, *spatial), in [0, 1].

        Raises:
            FusionInputError: no pair of real numbers, or infinite values.
        """
        if randomize:
            self.randomize()
        image = as_pair(img)
        windows = ["auto", "auto"]
        if self._do_transform:
            values, _ = without_holes(image)
            for channel, source in enumerate(pair_sources(image.meta, len(values))):
                modality = source_modality(source, channel, self.task)
                windows[channel] = self._window(values[channel], source, modality, self._draws[channel])
        return WindowIntensityPair(windows[0], windows[1], self.task, self.clip_undershoot)(image)

    def _window(self, plane: torch.Tensor, source: Mapping[str, Any], modality: str, draws: np.ndarray) -> str:
        """Return a range in the words of `parse_voi`."""
        sample = sample_values(plane)
        if modality == "CT" and looks_like_hu(sample, source):
            if draws[2] < 0.15:
                return "head"
            (near, narrow), (far, wide) = WINDOWS["brain"], WINDOWS["bone"]
            share = draws[0] ** 2  # more often near the brain's
            play = 0.8 + 0.4 * draws[1]
            width = max(60.0, float(np.exp(np.log(narrow) + share * np.log(wide / narrow))) * play)
            return f"{near + share**2 * (far - near):.6f}/{width:.6f}"
        least, most = float(sample.min()), float(sample.max())
        if not most > least:
            return "auto"
        if modality == "CT":
            return _range(least + 0.1 * draws[0] * (most - least), most - 0.4 * draws[1] * (most - least))
        inside = sample[shown(sample)]
        low = percentile(inside, 2 * draws[0]) * draws[2] + least * (1 - draws[2])
        return _range(low, percentile(inside, 95 + 5 * draws[1]))


def _range(low: float, high: float) -> str:
    return f"{low:.9g} - {high:.9g}" if low < high else "auto"


class RandWindowIntensityPaird(MapTransform, RandomizableTransform):
    """Dictionary form of `RandWindowIntensityPair`.

    In a `train.json` it is the first of the random transforms, and takes the place of `WindowIntensityPaird` among the
    deterministic ones, so that the cache holds the files' own values::

        {"_target_": "clinicalfmamba_nets.transforms.RandWindowIntensityPaird",
         "keys": "image", "task": "@task", "prob": "@window_prob"}

    It needs the meta that `LoadImagePaird` gives, thus goes before `EnsureTyped(track_meta=False)` and before crops.
    Validation keeps `WindowIntensityPaird`.

    Args:
        keys: entries with pairs, shape (2, *spatial), in the units of their files.
        prob: as in `RandWindowIntensityPair`.
        task: as in `RandWindowIntensityPair`.
        clip_undershoot: as in `RandWindowIntensityPair`.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = RandWindowIntensityPair.backend

    def __init__(
        self,
        keys: KeysCollection = "image",
        prob: float = 1.0,
        task: str | None = None,
        clip_undershoot: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.scaler = RandWindowIntensityPair(prob, task, clip_undershoot)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandWindowIntensityPaird:
        """Seed the draws."""
        super().set_random_state(seed, state)
        self.scaler.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the pairs, each by a draw of its own; see `RandWindowIntensityPair.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.scaler(d[key])
        return d
