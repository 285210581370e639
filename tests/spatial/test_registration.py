"""Known motions found again, hopeless pairs refused, transforms that ITK reads."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.transform_file import LPS, euler_angles, itk_transform_text, write_transform
from clinicalfmamba_nets.spatial import resample
from clinicalfmamba_nets.spatial.registration import RigidAlignment, register_rigid
from clinicalfmamba_nets.spatial.similarity import Comparison, Similarity

GRID = np.array([[3.0, 0, 0, -96], [0, 3.0, 0, -96], [0, 0, 4.0, -88], [0, 0, 0, 1]])
SHAPE = (64, 64, 44)


def head(shape: tuple[int, ...], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two contrasts of one head that looks alike from no two sides, computed at the centers of the voxels."""
    index = np.indices(shape).reshape(3, -1)
    x, y, z = (affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]

    def ball(center: tuple[float, float, float], sides: tuple[float, float, float]) -> np.ndarray:
        place = zip((x, y, z), center, sides, strict=True)
        beyond = min(sides) * (np.sqrt(sum(((axis - at) / side) ** 2 for axis, at, side in place)) - 1)  # mm
        return 1 / (1 + np.exp(beyond.clip(-50, 50)))

    skull, brain = ball((0, 0, 0), (72, 88, 70)), ball((0, -3, 4), (64, 78, 60))
    fluid = ball((14, 8, 10), (9, 28, 13)) + ball((-13, 14, 12), (8, 24, 15)) + ball((2, -42, -22), (14, 9, 12))
    lesion = ball((34, 30, -8), (15, 12, 18)) + ball((-30, -38, 24), (10, 18, 9)) + ball((-22, 36, -22), (9, 11, 8))
    folds = brain * np.sin(x / 7 + np.sin(z / 19)) * np.cos(y / 8 - z / 31) * np.sin(z / 9 + x / 23)
    first = 40 * skull + 60 * brain + 120 * fluid + 50 * lesion + 40 * folds
    second = 100 * skull - 30 * brain - 50 * fluid + 90 * lesion - 30 * folds
    return first.reshape(shape).astype(np.float32), second.clip(0).reshape(shape).astype(np.float32)


def motion(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def distance(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Degrees between two motions, and the largest way in mm between them on a ball of 80 mm."""
    turn = found[:3, :3].T @ true[:3, :3]
    points = np.array([[*point, 1] for point in itertools.product((-46, 46), repeat=3)]).T
    way = np.linalg.norm(((found - true) @ points)[:3], axis=0).max()
    return math.degrees(math.acos(min(1, (np.trace(turn) - 1) / 2))), float(way)


@pytest.mark.slow
def test_a_known_motion_is_found_in_another_contrast_on_another_grid():
    true = motion((9, -6, 14), (16, -9, 11))
    fixed, _ = head(SHAPE, GRID)
    grid = np.array([[0, 2.5, 0, -90], [-2.5, 0, 0, 105], [0, 0, 3.5, -85], [0, 0, 0, 1.0]])
    _, moving = head((80, 72, 48), np.linalg.solve(true, grid))
    lines: list[str] = []
    found = register_rigid(fixed, GRID, moving, grid, tell=lines.append)
    degrees, way = distance(found.matrix, true)
    assert degrees < 0.5
    assert way < 0.5
    assert found.after.information > 1.3 * found.before.information
    assert found.warnings == ()
    assert [line.split(":")[0] for line in lines[1:]] == [f"level {n}/4, {8 / 2 ** (n - 1):g} mm" for n in range(1, 5)]
    again = register_rigid(fixed, GRID, moving, grid, tell=lines.append)
    # ITK adds up its threads' sums in the order in which they end, which leaves rounding, and no more.
    degrees, way = distance(again.matrix, found.matrix)
    assert degrees < 0.01
    assert way < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(0, 1), (1, 2)])
def test_a_head_with_two_axes_reversed_is_turned_back_and_told(axes):
    fixed, moving = head(SHAPE, GRID)
    found = register_rigid(fixed, GRID, np.flip(moving, axes), GRID, levels=(8.0, 4.0))
    aligned = register_rigid(fixed, GRID, moving, GRID, levels=(8.0, 4.0))
    assert found.angle > 179 and found.after.information > 0.95 * aligned.after.information
    assert found.warnings == ("the second volume was turned by 180 degrees: check sides and headers",)


def test_an_aligned_pair_stays_where_it_is():
    fixed, moving = head(SHAPE, GRID)
    found = register_rigid(fixed, GRID, moving, GRID, levels=(8.0, 4.0))
    assert np.array_equal(found.matrix, np.eye(4))
    assert "gained nothing" in found.notes[0]


def test_volumes_of_two_spaces_are_brought_together_from_their_centers():
    fixed, moving = head(SHAPE, GRID)
    far = motion((0, 0, 0), (0, 0, 900)) @ GRID
    with pytest.raises(FusionInputError, match=r"b: expected a volume of the same place as a, found .* 0\.0 %"):
        register_rigid(fixed, GRID, moving, far, ("a", "b"))
    found = register_rigid(fixed, GRID, moving, far, same_frame_of_reference=False, levels=(8.0, 4.0))
    assert np.linalg.norm(found.shift - [0, 0, 900]) < 1
    assert any("moved far" in note for note in found.notes)


def test_the_center_of_mass_of_a_padded_ct_is_the_heads():
    """In a wide scan whose corners lie at -3024, below its air, a head off the middle was refused as another patient's.

    A center of mass by HU as they are is worse: it moves away from the head (seen in SimpleITK 2.5.7 and dipy 1.12.1).
    """
    wide = np.array([[6.0, 0, 0, -252], [0, 6.0, 0, -252], [0, 0, 4.0, -88], [0, 0, 0, 1]])
    shift = np.array([90.0, -60, 0])
    ct, _ = head((85, 85, 44), wide - np.outer([*shift, 0], [0, 0, 0, 1]))
    ct = 8 * ct - 1000
    x, y = np.mgrid[-252:253:6, -252:253:6]
    ct[np.hypot(x, y) > 252] = -3024
    _, mr = head(SHAPE, GRID)
    found = register_rigid(mr, GRID, ct, wide, same_frame_of_reference=False, levels=(8.0,))
    assert np.linalg.norm(found.shift - shift) < 3


def test_a_slab_of_a_head_is_warned_of():
    fixed, moving = head(SHAPE, GRID)
    slab, place = fixed[:, :, 25:40], GRID @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 25], [0, 0, 0, 1.0]])
    told = "the first volume is only 60 mm deep and may fit in more than one place: compare the rims of both skulls"
    assert told in register_rigid(slab, place, moving, GRID, ("a", "b"), levels=(8.0,)).warnings
    assert not register_rigid(fixed, GRID, moving, GRID, ("a", "b"), levels=(8.0,)).warnings


def test_volumes_without_common_structure_are_refused():
    fixed, _ = head(SHAPE, GRID)
    noise = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    with pytest.raises(
        FusionInputError, match=r"noise: expected a volume with the structures of head .* of one patient"
    ):
        register_rigid(fixed, GRID, noise, GRID, ("head", "noise"), levels=(8.0,))


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 64)])
def test_too_few_slices_are_refused(shape):
    with pytest.raises(FusionInputError, match="at least 4 slices"):
        register_rigid(np.zeros(shape), GRID, np.zeros(SHAPE), GRID)


def test_similarity_ignores_contrast_and_sees_a_shift():
    first, second = head(SHAPE, GRID)
    compare = Comparison(first, GRID, second, GRID)
    good, bad = compare.with_sharpness(np.eye(4)), compare(motion((0, 0, 0), (15, 0, 0)))
    assert good.information > 1.5 * bad.information > 0
    assert good.sharpness > 1.1
    assert good.overlap == 1
    assert 0.85 < bad.overlap < 0.95
    inverted = Comparison(first, GRID, 7 - 3 * second, GRID)(np.eye(4))
    assert 0 <= inverted.information <= 1


def test_similarity_counts_nothing_where_the_heads_hardly_meet():
    first, second = head(SHAPE, GRID)
    assert Comparison(first, GRID, second, GRID)(motion((0, 0, 0), (120, 0, 0))).information == 0


def test_angles_and_shift_are_those_of_the_center():
    center = np.array([10.0, -20.0, 30.0])
    matrix = motion((0, 0, 90), (0, 0, 0))
    matrix[:3, 3] = center - matrix[:3, :3] @ center + [1, 2, 3]
    found = RigidAlignment(matrix, center, Similarity(0.1, 0.9), Similarity(0.2, 0.8))
    assert np.allclose(found.angles, (0, 0, 90))
    assert np.allclose(found.shift, (1, 2, 3))
    assert "turned by 90.00 degrees" in found.text()
    assert "moved by 3.74 mm (1.00, 2.00, 3.00)" in found.text()
    assert "0.100 before and 0.200 after" in found.text()


def test_itk_reads_the_transform_file(tmp_path):
    import itk

    matrix, center = motion((11, -23, 37), (4, -5, 6)), np.array([12.0, -7.0, 30.0])
    write_transform(tmp_path / "moved.tfm", itk_transform_text(matrix, center))
    read = itk.transformread(str(tmp_path / "moved.tfm"))[0]
    for point in np.eye(3) * 50:
        assert np.allclose(read.TransformPoint(point.tolist()), (LPS @ matrix @ LPS @ [*point, 1])[:3], atol=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == ["moved.tfm"]


def test_euler_angles_at_the_pole_give_the_rotation_back():
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_euler("YXZ"[::-1], (30, 90, 0), degrees=True).as_matrix()
    x, y, z = euler_angles(rotation)
    assert np.allclose(Rotation.from_euler("ZXY", (z, x, y)).as_matrix(), rotation, atol=1e-6)


@pytest.mark.slow
def test_the_turned_head_of_a_real_pair_is_found(shared_data):
    folder = shared_data / "vol" / "tcga_fg_6692_native"
    (first, meta), (second, meta2) = (
        read_image(folder / f"TCGA-FG-6692_native_{name}.nii.gz") for name in ("t2", "flair")
    )
    found = register_rigid(first, meta["affine"], second, meta2["affine"])
    back = register_rigid(second, meta2["affine"], first, meta["affine"])
    assert 17 < found.angle < 19
    assert found.after.information > 4 * found.before.information
    degrees, way = distance(back.matrix @ found.matrix, np.eye(4))
    assert degrees < 0.5
    assert way < 1


@pytest.mark.slow
def test_a_known_motion_of_a_real_volume_is_found(shared_data):
    folder = shared_data / "vol" / "tcga_fg_6692"
    (first, meta), (second, _) = (read_image(folder / f"TCGA-FG-6692_{name}.nii.gz") for name in ("t2", "flair"))
    affine = meta["affine"]
    center = (affine @ [*(np.array(first.shape) / 2 - 0.5), 1])[:3]
    true = motion((8, -5, 12), (0, 0, 0))
    true[:3, 3] = center - true[:3, :3] @ center + [9, -6, 14]
    grid = true @ affine @ np.diag([1.5, 1.2, 2.5, 1])
    aligned = register_rigid(first, affine, second, affine).matrix  # what the headers leave between the two contrasts
    moved, _ = resample(second, affine, (160, 200, 62), np.linalg.solve(true, grid))
    found = register_rigid(first, affine, moved, grid)
    degrees = distance(found.matrix, true @ aligned)[0]
    at_center = (found.matrix - true @ aligned) @ [*center, 1]
    assert degrees < 0.5
    assert np.linalg.norm(at_center[:3]) < 0.5


@pytest.mark.slow
def test_two_patients_are_refused(shared_data):
    first, meta = read_image(shared_data / "vol" / "brats_gli_00001" / "BraTS-GLI-00001-000-t2w.nii.gz")
    second, meta2 = read_image(shared_data / "vol" / "tcga_fg_6692" / "TCGA-FG-6692_flair.nii.gz")
    with pytest.raises(FusionInputError, match="of one patient"):
        register_rigid(first, meta["affine"], second, meta2["affine"])
