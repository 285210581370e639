"""The picture of three volumes: directions, proportions, and the difference."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.engine.pictures.pair import HEADER, MARGIN
from clinicalfmamba_nets.engine.pictures.volume import SIDE, volume_preview

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def volumes():
    """A block with a bright corner: right, anterior and superior; in the fused volume a second, darker one is new."""
    first = np.zeros((60, 60, 20))
    first[10:50, 10:50, 2:18] = 0.4
    first[40:50, 40:50, 2:18] = 1.0
    fused = first.copy()
    fused[10:20, 10:20, 2:18] = 0.9
    return first, first, fused


def panel(picture, column):
    """The axial picture of a column, values 0 to 255."""
    left = MARGIN + column * (SIDE + MARGIN)
    return np.asarray(picture)[HEADER : HEADER + SIDE, left : left + SIDE].astype(int)


def test_the_right_side_is_on_the_left_and_the_front_on_top():
    axial = panel(volume_preview(volumes(), AFFINE), 0)[..., 0]
    assert axial[SIDE // 4, SIDE // 4] > 240  # right and anterior
    assert 60 < axial[3 * SIDE // 4, 3 * SIDE // 4] < 160


def test_red_tells_what_became_brighter():
    difference = panel(volume_preview(volumes(), AFFINE), 3)
    assert difference[3 * SIDE // 4, 3 * SIDE // 4, 0] > 200
    assert difference[SIDE // 4, SIDE // 4].max() == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_storage_does_not_matter(order):
    turned = [np.flip(volume, 0).transpose(order) for volume in volumes()]
    affine = AFFINE.copy()
    affine[:, 3] += affine[:, 0] * 59
    affine[:, 0] *= -1
    picture = volume_preview(turned, affine[:, [*order, 3]])
    assert np.array_equal(np.asarray(picture), np.asarray(volume_preview(volumes(), AFFINE)))


def test_thick_slices_keep_their_proportions():
    height = volume_preview(volumes(), AFFINE, title="x").height
    assert height == 2 * HEADER + 3 * SIDE + 3 * MARGIN  # 20 slices of 3 mm are as high as 60 voxels of 1 mm
