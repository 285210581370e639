"""Volumes brought onto another grid: linear images exactly, outside told, wrong pairs refused."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.spatial import resample


def ramp(affine, shape):
    """A linear function of the place in mm: trilinear interpolation gives it back without error."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (index @ affine[:3, :3].T + affine[:3, 3]) @ [1.0, 2.0, -0.5]


def oblique(angle, spacing, origin):
    """An affine with a turn about the third axis."""
    affine = np.eye(4)
    cos, sin = np.cos(angle), np.sin(angle)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) * spacing
    affine[:3, 3] = origin
    return affine


def test_a_linear_image_is_interpolated_exactly():
    source, target = oblique(0.3, [1.5, 1.0, 2.0], [-20, -20, -8]), oblique(-0.1, [0.7, 0.9, 1.1], [-5, -4, -2])
    result, inside = resample(ramp(source, (40, 44, 12)), source, (10, 9, 8), target)
    assert result.dtype == np.float32 and inside is None
    assert np.abs(result - ramp(target, (10, 9, 8))).max() < 1e-4


def test_outside_the_edge_is_repeated_and_marked():
    array = np.random.default_rng(0).random((6, 6, 6)) + 1
    moved = np.eye(4)
    moved[2, 3] = 3
    result, inside = resample(array, np.eye(4), (6, 6, 6), moved)
    assert np.allclose(result[..., :3], array[..., 3:], atol=1e-6)
    assert inside[..., :3].all() and not inside[..., 3:].any()
    assert np.allclose(result[..., 3:], array[..., 5:])


@pytest.mark.parametrize("shift", [0.3, 0.5, -0.5])
def test_the_outer_half_voxel_is_covered_by_the_value_of_the_edge(shift):
    array = np.random.default_rng(1).random((5, 6, 7)).astype(np.float32)
    finer = np.diag([1.0, 1.0, 1.0, 1.0])
    finer[1, 3] = shift
    result, inside = resample(array, np.eye(4), array.shape, finer)
    assert inside is None
    rim, edge = (result[:, -1], array[:, -1]) if shift > 0 else (result[:, 0], array[:, 0])
    assert np.allclose(rim, edge)


def test_another_place_is_refused():
    far = np.eye(4)
    far[0, 3] = 500
    with pytest.raises(FusionInputError, match="b: expected an image of the same place as a, found 0.0 %"):
        resample(np.ones((4, 4, 4)), np.eye(4), (4, 4, 4), far, ("a", "b"))
