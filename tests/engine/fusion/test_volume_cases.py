"""Volumes on the command line and in Python: the bundle for volumes is chosen by the header of the first image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

import clinicalfmamba_nets
from clinicalfmamba_nets.data import brain_volumes, write_brain_pair
from clinicalfmamba_nets.engine.fusion.case import Case
from clinicalfmamba_nets.engine.run.tasks import bundle_of
from clinicalfmamba_nets.errors import FusionInputError

SIZE = (26, 30, 24)


@pytest.fixture(autouse=True)
def bundles(toy_bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use random weights."""
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(toy_bundles))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Files of T2 and FLAIR."""
    return write_brain_pair(tmp_path / "in", SIZE)


def test_the_command_line_picks_the_bundle(run_cli, pair, tmp_path):
    done = run_cli("fuse", *pair, "-o", tmp_path / "out")
    assert done.code == 0 and "volumes: taken as t2_flair" in done.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"t2_fused.nii.gz", "t2_preview.png", "run.json"}
    fused, first = nibabel.load(tmp_path / "out" / "t2_fused.nii.gz"), nibabel.load(pair[0])
    assert fused.shape == SIZE and np.abs(fused.affine - first.affine).max() < 1e-4
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "fusion_2d" in json.dumps(report)
    again = run_cli("fuse", *pair, "-o", tmp_path / "out", "--task", "t2_flair")
    assert again.code == 0 and "already there" in again.out


@pytest.mark.parametrize(("name", "in_hu"), [("second.nii.gz", True), ("second.nii.gz", False), ("flair.nii.gz", True)])
def test_a_volume_of_no_name_with_the_values_of_a_ct_is_one(pair, name, in_hu):
    first = nibabel.load(pair[0])
    values = np.full(SIZE, 0 if in_hu else 1000, np.int16)
    values[4:-4, 4:-4, 4:-4] = 1000 + np.linspace(0, 80, SIZE[2] - 8)
    values[10, 10, 10] = 2200
    path = pair[0].with_name(name)
    nibabel.save(nibabel.Nifti1Image(values - np.int16(1000), first.affine), path)
    task, told = Case.of({"case": "1", "image": pair[0], "image2": path}).task()
    expected = "ct_mri" if in_hu and name == "second.nii.gz" else "t2_flair"
    assert task == expected and told.startswith("volumes, the second one in HU:" if task == "ct_mri" else "volumes: ")


@pytest.mark.parametrize("filler", [-1024, -2000, -3024, np.nan])
def test_what_a_ct_of_no_name_holds_outside_its_field_of_view_does_not_hide_it(pair, filler):
    values = np.full(SIZE, -1000, np.float32)
    values[4:-4, 4:-4, 4:-4] = np.linspace(0, 80, SIZE[2] - 8)
    values[10, 10, 10], values[:2], values[-2:] = 1200, filler, filler
    assert _task_with(pair, values) == "ct_mri"


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_a_volume_of_no_name_in_unsigned_numbers_is_none(pair, dtype):
    assert _task_with(pair, np.where(brain_volumes(SIZE)["t2"] > 0, 1064, 24), dtype) == "t2_flair"


def test_a_scaled_mr_and_maps_with_negative_values_are_no_ct(pair):
    t2, rng = brain_volumes(SIZE)["t2"], np.random.default_rng(0)
    frequency = np.where(t2 > 0, 60 * t2 / t2.max(), rng.uniform(-1000, 1000, SIZE))  # Hz; noise where nothing is
    phase = np.where(t2 > 0, 0, rng.uniform(-4096, 4095, SIZE))
    for values in (2000 * t2 / t2.max() - 1000, frequency, phase):
        assert _task_with(pair, values) == "t2_flair"


def _task_with(pair, values, dtype=np.float32) -> str:
    """The task of the first image with these values in a file whose name tells nothing."""
    path = pair[0].with_name("second.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values.astype(dtype), nibabel.load(pair[0]).affine), path)
    return Case.of({"case": "1", "image": pair[0], "image2": path}).task()[0]


@pytest.mark.parametrize(
    ("name", "told"), [("7_adc", "T2 and ADC map"), ("7_part-phase_t2", ""), ("7_swi", "T2 and SWI")]
)
def test_a_map_that_its_name_tells_of_is_told(pair, run_cli, tmp_path, name, told):
    second = pair[0].with_name(f"{name}.nii.gz")
    nibabel.save(nibabel.load(pair[1]), second)
    done = run_cli("fuse", pair[0], second, "-o", tmp_path / "out", "--task", "t2_flair")
    assert done.code == 0 and (f"the images are {told}: the weights of t2_flair" in done.out + done.err) == bool(told)


def test_the_phantom_of_a_task_of_volumes(run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr("clinicalfmamba_nets.data.write_brain_pair", lambda folder: write_brain_pair(folder, SIZE))
    done = run_cli("fuse", "--phantom", "--task", "t2_flair", "-o", tmp_path / "out")
    assert done.code == 0 and (tmp_path / "out" / "phantom_fused.nii.gz").is_file()


def test_arrays_and_paths_in_python(pair):
    volumes = brain_volumes(SIZE)
    fused = clinicalfmamba_nets.fuse(volumes["t2"], volumes["flair"], spatial_dims=3)
    assert fused.shape == SIZE and fused.dtype == np.float32 and fused.min() >= 0 and fused.max() <= volumes["t2"].max()
    by_path = clinicalfmamba_nets.fuse(*pair, window_a="minmax", window_b="minmax")
    apart = np.abs(by_path / by_path.max() - fused / fused.max())  # the files hold whole numbers
    assert apart.max() < 0.05 and np.quantile(apart, 0.99) < 0.01


def chosen(image: Path | str, image2: Path | str) -> tuple[str, str]:
    """Return the task that the images tell, and the bundle in which it fuses them."""
    case = Case.of({"case": "one", "image": str(image), "image2": str(image2)})
    task = case.task()[0]
    return task, bundle_of(task, case.first.is_volume)


def test_a_slice_in_nifti_is_no_volume(tmp_path, pair):
    for name in ("slice.nii", "slice_ct.nii"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9, 1), np.int16), np.eye(4)), tmp_path / name)
    assert chosen(tmp_path / "slice.nii", tmp_path / "slice_ct.nii") == ("ct_mri", "fusion_2d")
    assert chosen(*pair) == ("t2_flair", "fusion_2d")


@pytest.mark.parametrize(
    ("second", "task"), [("b_flair", "t2_flair"), ("7_ct", "ct_mri"), ("7_pet", "pet_mri"), ("unknown", "t2_flair")]
)
def test_the_task_of_volumes_follows_from_the_names(pair, second, task):
    assert chosen(pair[0], pair[0].with_name(f"{second}.nii.gz"))[0] == task


def test_volumes_of_a_task_of_slices_are_fused_slice_by_slice(pair):
    fused = clinicalfmamba_nets.fuse(*pair, task="spect_mri")
    assert fused.shape == SIZE


def test_a_bundle_that_does_not_know_a_task_tells_so(pair):
    with pytest.raises(FusionInputError, match="task: expected one of .*t2_flair"):
        clinicalfmamba_nets.fuse(*pair, task="ct_mri_published", bundle="fusion_3d")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--bundle", "fusion_4d"], "bundle 'fusion_4d': expected one of fusion_2d, fusion_3d"),
        (["--task", "t2_flare"], "task 't2_flare': expected one of .*did you mean t2_flair"),
        (
            ["--bundle", "fusion_3d", "--task", "ct_mri_published"],
            "task 'ct_mri_published': expected one of .*t2_flair",
        ),
    ],
    ids=str,
)
def test_wrong_words_are_exit_code_2(run_cli, pair, tmp_path, words, told):
    done = run_cli("fuse", *pair, "-o", tmp_path / "out", *words)
    assert done.code == 2 and re.search(told, done.cause)
