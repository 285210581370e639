"""Volumes on the command line and in Python: the bundle for volumes is chosen by the header of the first image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import clinicalfmamba_nets
from clinicalfmamba_nets.data import brain_volumes, write_brain_pair
from clinicalfmamba_nets.engine.fusion.inputs import choose_bundle, volume_task
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
    assert "fusion_3d" in json.dumps(report)
    again = run_cli("fuse", *pair, "-o", tmp_path / "out", "--task", "t2_flair")
    assert again.code == 0 and "already there" in again.out


def test_the_phantom_of_a_task_of_volumes(run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr("clinicalfmamba_nets.data.write_brain_pair", lambda folder: write_brain_pair(folder, SIZE))
    done = run_cli("fuse", "--phantom", "--task", "t2_flair", "-o", tmp_path / "out")
    assert done.code == 0 and (tmp_path / "out" / "phantom_fused.nii.gz").is_file()


def test_arrays_and_paths_in_python(pair):
    volumes = brain_volumes(SIZE)
    fused = clinicalfmamba_nets.fuse(volumes["t2"], volumes["flair"])
    assert fused.shape == SIZE and fused.dtype == np.float32 and fused.min() >= 0 and fused.max() <= volumes["t2"].max()
    by_path = clinicalfmamba_nets.fuse(*pair, window_a="minmax", window_b="minmax")
    assert np.abs(by_path / by_path.max() - fused / fused.max()).max() < 0.02


@pytest.mark.parametrize(
    ("image", "task", "bundle"),
    [
        ("mri.png", None, "fusion_2d"),
        (np.zeros((40, 48)), None, "fusion_2d"),
        (np.zeros((1, 40, 48)), None, "fusion_2d"),
        (np.zeros((40, 48, 1)), None, "fusion_2d"),
        (np.zeros((40, 48, 20)), None, "fusion_3d"),
        (torch.zeros(1, 40, 48, 20), None, "fusion_3d"),
        ("nowhere.nii.gz", "t2_flair", "fusion_2d"),
    ],
    ids=str,
)
def test_the_first_image_chooses_the_bundle(image, task, bundle):
    assert choose_bundle(image, task) == bundle


def test_a_slice_in_nifti_is_no_volume(tmp_path, pair):
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9, 1), np.int16), np.eye(4)), tmp_path / "slice.nii")
    assert choose_bundle(tmp_path / "slice.nii") == "fusion_2d"
    assert choose_bundle(pair[0]) == "fusion_3d"


def test_the_task_follows_from_the_second_name():
    assert volume_task("a/b_flair.nii.gz")[0] == "t2_flair"
    assert volume_task("a/7_ct.nii.gz")[0] == "ct_mri"
    assert volume_task("a/unknown.nii.gz")[0] == "t2_flair"


def test_a_task_of_slices_is_told_for_volumes(pair):
    with pytest.raises(FusionInputError, match="task: expected one of t2_flair"):
        clinicalfmamba_nets.fuse(*pair, task="spect_mri")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--bundle", "fusion_4d"], "bundle 'fusion_4d': expected one of fusion_2d, fusion_3d"),
        (["--task", "t2_flare"], "task 't2_flare': expected one of .*did you mean t2_flair"),
        (["--bundle", "fusion_3d", "--task", "spect_mri"], "task 'spect_mri': expected one of .*t2_flair"),
    ],
    ids=str,
)
def test_wrong_words_are_exit_code_2(run_cli, pair, tmp_path, words, told):
    done = run_cli("fuse", *pair, "-o", tmp_path / "out", *words)
    assert done.code == 2 and re.search(told, done.cause)
