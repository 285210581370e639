"""Grids in space: equal ones pass, other storage orders are put right exactly, everything else is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.spatial import match_grids
from clinicalfmamba_nets.spatial.grids import axis_order

AFFINE = np.array([[-0.85, 0.31, 0, 12.5], [-0.31, -0.85, 0, -40], [0, 0, 5.5, 7], [0, 0, 0, 1]])
SHAPE = (4, 5, 6)
EIGHTH_TURN = np.array([[0.7, -0.7, 0, 0], [0.7, 0.7, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def stored(array, affine, order, flips):
    """The same image with its axes in another order."""
    affine, array = affine[:, [*order, 3]].copy(), array.transpose(order)
    for axis in flips:
        affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
        affine[:, axis] *= -1
    return np.flip(array, flips), affine


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_every_storage_order_is_put_right(order, flips):
    array = np.arange(120).reshape(SHAPE)
    other, affine = stored(array, AFFINE, order, flips)
    found, note = match_grids(other, affine, SHAPE, AFFINE)
    assert np.array_equal(found, array)
    assert bool(note) == (order != (0, 1, 2) or flips != ())


@pytest.mark.parametrize("sides", [(0.45, 0.45, 5), (6, 0.3, 1), (1, 1, 1)])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_axes_is_that_of_their_directions(sides, order):
    """The longest voxel side of a tilted stack stood for two directions: no order was found, and none told."""
    from scipy.spatial.transform import Rotation

    for turn in Rotation.from_euler("xyz", [(8, 0, 0), (0, -25, 10), (30, 20, -15)], degrees=True).as_matrix():
        affine = np.eye(4)
        affine[:3, :3] = (turn @ np.diag([-1, 1, -1]) * sides)[:, order]
        found, backwards = axis_order(affine, np.eye(4))
        assert [order[axis] for axis in found] == [0, 1, 2] and backwards == [0, 2]


def test_an_order_is_found_for_every_turn():
    affine = np.eye(4)
    affine[:3, :3] = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3 * [1, -1, 1]
    order, backwards = axis_order(affine, np.eye(4))
    turned = affine[:3, order] * [-1 if place in backwards else 1 for place in range(3)]
    assert sorted(order) == [0, 1, 2] and (np.diag(turned) > 0.6).all()


def test_flat_images_are_flipped_too():
    array = np.arange(20).reshape(4, 5)
    affine = AFFINE.copy()
    affine[:, 3] += 3 * affine[:, 0]
    affine[:, 0] *= -1
    assert np.array_equal(match_grids(array[::-1], affine, (4, 5), AFFINE)[0], array)


@pytest.mark.parametrize(
    ("shape", "change", "message"),
    [
        ((4, 5, 7), lambda a: a, "b: expected the size 4 x 5 x 6 of a, found 4 x 5 x 7"),
        ((4, 5), lambda a: a, "expected the size 4 x 5 x 6"),
        (SHAPE, lambda a: a + np.eye(4, k=3) * 0.5, "whose corners lie up to .* voxels apart"),
        (SHAPE, lambda a: a @ np.diag([1.1, 1, 1, 1]), "expected the place in space of a"),
        (
            SHAPE,
            lambda a: a @ np.array([[0.7, -0.7, 0, 0], [0.7, 0.7, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "place|size",
        ),
        (SHAPE, lambda a: None, "geometry"),
    ],
)
def test_other_grids_are_refused(shape, change, message):
    with pytest.raises(FusionInputError, match=message):
        match_grids(np.zeros(shape), change(AFFINE), SHAPE, AFFINE, ("a", "b"))


def test_rounding_in_headers_passes():
    assert match_grids(np.zeros(SHAPE), AFFINE + 1e-4, SHAPE, AFFINE)[1] == ""


def test_pictures_are_compared_by_size():
    assert match_grids(np.zeros((3, 4)), None, (3, 4), None)[1] == ""
    with pytest.raises(FusionInputError, match="expected the size 3 x 4 of .*found 4 x 3; resample it"):
        match_grids(np.zeros((4, 3)), None, (3, 4), None)


@pytest.mark.parametrize("lost", [("none", "patient"), ("patient", "none"), ("none", "none"), ("other", "patient")])
@pytest.mark.parametrize("flip", [0, 1, 2])
def test_images_without_a_place_are_paired_by_index(lost, flip):
    array, other = np.arange(120).reshape(SHAPE), AFFINE.copy()
    other[:, flip] *= -1
    other[:3, 3] += 50
    found, note = match_grids(array, other, SHAPE, AFFINE, ("a", "b"), lost)
    assert found is array and "paired voxel by voxel" in note and "left and right" in note
    who = " and ".join(name for name, kind in zip("ab", lost, strict=True) if kind != "patient")
    assert f"no place in space for {who}:" in note
    with pytest.raises(FusionInputError, match=f"found 4 x 5 x 7, with no place in space for {who}; write the orient"):
        match_grids(np.zeros((4, 5, 7)), other, SHAPE, AFFINE, ("a", "b"), lost)
    with pytest.raises(FusionInputError, match="expected voxels of 0.9048 x 0.9048 x 5.5 mm as a, found 0.9.* x 8 mm"):
        match_grids(array, other @ np.diag([1, 1, 8 / 5.5, 1]), SHAPE, AFFINE, ("a", "b"), lost)


def test_a_spacing_that_is_not_stated_is_that_of_the_other_image():
    voxels = np.zeros(SHAPE)
    assert match_grids(voxels, np.eye(4), SHAPE, AFFINE, coordinates=("patient", "none"))[1]
    with pytest.raises(FusionInputError, match="expected voxels of 1 x 1 x 1 mm"):
        match_grids(voxels, AFFINE, SHAPE, np.eye(4), coordinates=("patient", "none"))


@pytest.mark.parametrize("lost", [("other", "other"), ("directions", "patient"), ("directions", "directions")])
def test_directions_that_are_known_must_agree(lost):
    other = AFFINE.copy()
    other[:3, 3] += 50
    assert "paired voxel by voxel" in match_grids(np.zeros(SHAPE), other, SHAPE, AFFINE, ("a", "b"), lost)[1]
    with pytest.raises(FusionInputError, match="found axes that run otherwise"):
        match_grids(np.zeros(SHAPE), other @ np.diag([-1, 1, 1, 1]), SHAPE, AFFINE, ("a", "b"), lost)


@pytest.mark.parametrize(("shift", "told"), [(0.04, ""), (0.09, "0.09 mm beside that of the first"), (0.11, None)])
def test_a_tenth_of_a_millimetre_is_rounding(shift, told):
    moved = np.diag([1.0, 1, 3, 1])
    moved[0, 3] = shift
    if told is None:
        with pytest.raises(FusionInputError, match="corners lie up to 0.11 voxels apart"):
            match_grids(np.zeros(SHAPE), moved, SHAPE, np.diag([1.0, 1, 3, 1]))
    else:
        assert told in match_grids(np.zeros(SHAPE), moved, SHAPE, np.diag([1.0, 1, 3, 1]))[1]


def test_real_templates_stored_mirrored(shared_data):
    folder = shared_data / "vol" / "spm_mni2mm"
    (t1, meta), (spect, other) = (read_image(folder / name) for name in ("avg152T1.nii", "SPECT.nii"))
    found, note = match_grids(spect, other["affine"], t1.shape, meta["affine"])
    assert np.array_equal(found, spect[::-1]) and "reordered" in note
