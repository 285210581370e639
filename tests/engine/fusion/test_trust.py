"""Numbers of trust: a copy of a source, a mean, and inventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from clinicalfmamba_nets.engine.fusion.trust import scores_text, trust_scores
from clinicalfmamba_nets.transforms.restore import COVERED_KEY, SCALE_KEY


def sample(fuse, shape=(48, 48, 6), covered=None) -> dict:
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    first = np.where(axes[0] ** 2 + axes[1] ** 2 < 0.8, 0.5 + 0.2 * np.sin(7 * axes[0]), 0)
    second = np.where(axes[0] ** 2 + axes[1] ** 2 < 0.7, 0.4 + 0.2 * np.cos(9 * axes[1]), 0)
    meta = {SCALE_KEY: torch.tensor([[0.0, 900.0], [0.0, 80.0]]), "coverage": 1.0, "mutual_information": 0.2}
    if covered is not None:
        meta |= {COVERED_KEY: torch.from_numpy(covered), "coverage": float(covered.mean())}
    image = MetaTensor(torch.from_numpy(np.stack([first, second]).astype(np.float32)), meta=meta)
    return {"image": image, "pred": MetaTensor(fuse(image[0], image[1])[None] * 900)}


@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 6)])
def test_a_copy_of_the_first_source(shape):
    found = trust_scores(sample(lambda a, b: a, shape))
    assert found["ssim_a"] == pytest.approx(1, abs=1e-4) and found["ssim_b"] < 0.9
    assert found["outside_sources"] == 0 and found["extrema_in_neither"] == 0
    assert found["coverage"] == 1 and found["mutual_information"] == 0.2
    assert found["slices"] == (1 if len(shape) == 2 else 6)


def test_what_is_in_neither_source_is_counted():
    def spotted(a, b):
        fused = torch.maximum(a, b).clone()
        fused[20:23, 20:23] = 1.0
        return fused

    found, plain = trust_scores(sample(spotted)), trust_scores(sample(torch.maximum))
    assert plain["outside_sources"] == 0 and 0.002 < found["outside_sources"] < 0.01
    assert found["extrema_in_neither"] > plain["extrema_in_neither"] + 0.002


def test_only_what_both_cover_is_measured():
    covered = np.ones((48, 48, 6), bool)
    covered[..., 3:] = False

    def broken(a, b):
        fused = torch.maximum(a, b).clone()
        fused[..., 3:] = 0
        return fused

    found = trust_scores(sample(broken, covered=covered))
    assert found["outside_sources"] == 0 and found["coverage"] == 0.5 and found["slices"] == 3


def test_words():
    text = scores_text(trust_scores(sample(lambda a, b: a)), ("MRI", "CT"))
    assert "SSIM to MRI 1.00" in text and "covered 100.0 %" in text and text.endswith("6 slices")
