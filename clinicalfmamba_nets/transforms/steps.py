"""Steps from one slice of a fused volume to the next that neither source has, told as a warning."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from clinicalfmamba_nets.functional.ranges import HEAD_THRESHOLD
from clinicalfmamba_nets.io.dicom.geometry import PLANES
from clinicalfmamba_nets.spatial.grids import PATIENT, has_sides
from clinicalfmamba_nets.transforms.notes import add_notes
from clinicalfmamba_nets.transforms.restore import COVERED_KEY
from clinicalfmamba_nets.transforms.save import SaveFused

# A step is one of more than .04 of the range that is beyond twice that of either source. Of templates and PET and SPECT
# heads up to 1.3 % of a slice have one (17 % where shares are not smoothed), of CT heads with slices 4 and 5.5 mm apart
# 4.2 and 4.9 %.
STEP, LEAST_SHARE = 0.04, 0.05
_LEAST_VOXELS, _LEAST_PART = 500, 0.1  # of the head in two slices, also as a share of the most; fewer tell nothing
_SLAB = 16


class Step(NamedTuple):
    """The worst step of a volume.

    Attributes:
        share: of the head in both slices that steps where neither source does, in [0, 1].
        axis: of the volume as stored, across the slices.
        number: of the first of the two slices as stored, from 1.
    """

    share: float
    axis: int
    number: int


def worst_step(fused: Tensor, pair: Tensor, covered: Tensor | None = None) -> Step:
    """Find the two neighboring slices, along any axis, between which most of the head steps and neither source does.

    Args:
        fused: (X, Y, Z) in [0, 1].
        pair: (2, X, Y, Z) in [0, 1].
        covered: where both sources are, (X, Y, Z) bool; None for everywhere.

    Returns:
        The step; its share is 0 where there is none.

    Example:
        >>> pair = torch.stack([torch.full((30, 30, 8), 0.6), torch.full((30, 30, 8), 0.4)])
        >>> worst_step(torch.where(torch.arange(8) < 3, pair[0], pair[1]), pair)
        Step(share=1.0, axis=2, number=3)
    """
    counts = [torch.zeros(2, max(side - 1, 1), dtype=torch.int64) for side in fused.shape]  # steps, voxels of the head
    for start in range(0, fused.shape[0], _SLAB):
        end = min(start + _SLAB, fused.shape[0])
        for axis in range(3):
            part = slice(start, min(end + 1, fused.shape[0]) if axis == 0 else end)
            head = pair[:, part].amax(0) > HEAD_THRESHOLD
            if covered is not None:
                head &= covered[part].to(head.device)
            sides = head.shape[axis] - 1
            if not sides:
                continue
            shown = head.narrow(axis, 0, sides) & head.narrow(axis, 1, sides)
            allowed = 2 * pair[:, part].diff(dim=axis + 1).abs().amax(0) + STEP
            steps = (fused[part].diff(dim=axis).abs() > allowed) & shown
            others = [other for other in range(3) if other != axis]
            place = slice(start, start + sides) if axis == 0 else slice(None)
            counts[axis][:, place] += torch.stack([steps.sum(others), shown.sum(others)]).cpu()
    worst = Step(0.0, 0, 1)
    for axis, (steps, shown) in enumerate(counts):
        told = shown >= max(_LEAST_VOXELS, int(_LEAST_PART * int(shown.max())))
        shares = torch.where(told, steps / shown.clamp(min=1), 0.0)
        worst = max(worst, Step(float(shares.max()), axis, int(shares.argmax()) + 1), key=lambda step: step.share)
    return worst


class WarnOfStepsd(MapTransform):
    """Warn of a fused volume that steps from a slice to the next in 5 % of the head or more, where neither source does.

    Args:
        keys: entries with fused images in [0, 1], (1, *spatial); single images are passed over.
        image_key: the pair, (2, *spatial) in [0, 1], whose meta gets the warning.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = SaveFused.backend

    def __init__(
        self, keys: KeysCollection = "pred", image_key: str = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Look for steps; the images stay as they are."""
        d = dict(data)
        image = d.get(self.image_key)
        for key in self.key_iterator(d):
            if not isinstance(image, MetaTensor) or image.dim() != 4 or d[key].shape != (1, *image.shape[1:]):
                continue
            covered, pair = image.meta.get(COVERED_KEY), image.as_tensor()
            fused = d[key].as_tensor() if isinstance(d[key], MetaTensor) else d[key]
            step = worst_step(fused[0].to(pair.device), pair, None if covered is None else torch.as_tensor(covered))
            if step.share >= LEAST_SHARE:
                add_notes(image.meta, "warnings", _text(step, image.meta))
        return d


def _text(step: Step, meta: Mapping[str, Any]) -> str:
    affine, slices = meta.get("affine"), f"slices {step.number} and {step.number + 1}"
    turn = np.eye(3) if affine is None else np.abs(torch.as_tensor(affine).double().numpy()[:3, :3])
    plane = PLANES[int(np.argmax((turn / np.linalg.norm(turn, axis=0))[:, step.axis]))]
    sided = has_sides(str(meta.get("coordinates") or PATIENT))
    where = f"the {plane} {slices}" if sided else f"{slices} of axis {step.axis + 1}"
    return (
        f"between {where} the fused volume steps in"
        f" {100 * step.share:.0f} % of the head where neither source does: look at the sources there"
    )
