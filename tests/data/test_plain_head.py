"""Heads of even tissues in 3D."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.data import plain_head, write_plain_head
from clinicalfmamba_nets.io import read_image

SIZE = (48, 48, 20)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_brain_is_even_and_one_image_shows_the_lesion(seed):
    pair = plain_head(SIZE, seed)
    brain, lesion = pair["brain"], pair["lesion"]
    assert brain.sum() > 1000 and lesion.any() and not (brain & lesion).any()
    ranges = [np.ptp(pair[name][brain]) for name in ("first", "second")]
    heights = [abs(pair[name][lesion].mean() - pair[name][brain].mean()) for name in ("first", "second")]
    assert max(ranges) < 0.02 and min(heights) < 0.01 and max(heights) > 0.05
    assert all(pair[name].min() == 0 and pair[name].max() <= 1 for name in ("first", "second"))


def test_mirrored_heads_and_others():
    mirrored, other = plain_head(SIZE, 4), plain_head(SIZE, 4, mirrored=False)
    assert all(np.array_equal(image, image[::-1]) for image in mirrored.values())
    assert not all(np.array_equal(image, image[::-1]) for image in other.values())


def test_pairs_are_written(tmp_path):
    paths = write_plain_head(tmp_path, SIZE, seed=5)
    volumes = [read_image(path)[0] for path in paths]
    pair = plain_head(SIZE, 5)
    for volume, name in zip(volumes, ("first", "second"), strict=True):
        assert np.allclose(volume / 1200, pair[name], atol=1e-3)
