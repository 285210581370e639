"""The task t2_flair on a small BraTS 2019 tree: slices of volumes are trained on, fused and evaluated."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch

from clinicalfmamba_nets.data import brats_datalist
from clinicalfmamba_nets.engine import run_bundle
from clinicalfmamba_nets.io import write_image

AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 2, -5], [0, 0, 0, 1]])
TASK = {"task": "t2_flair", "split_run": "run2"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four patients of each grade, with eight slices that show something."""
    root, random = tmp_path_factory.mktemp("brats"), np.random.default_rng(0)
    for grade in ("HGG", "LGG"):
        for number in range(4):
            name = f"BraTS19_{grade}_{number}_1"
            for contrast in ("t2", "flair"):
                values = np.zeros((40, 44, 12), np.int16)
                values[6:34, 6:36, 2:10] = random.integers(1, 900, (28, 30, 8))
                write_image(root / grade / name / f"{name}_{contrast}.nii.gz", values, affine=AFFINE, dtype="int16")
    return root


@pytest.fixture(scope="module")
def trained(tree, tiny_training, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    settings = {**tiny_training, **TASK, "epochs": 1, "batch_size": 16, "slice_step": 4, "datalist": None}
    run_bundle("fusion_2d", "train", overrides={**settings, "dataset_dir": str(tree), "output_dir": str(folder)})
    return folder


@pytest.fixture
def infer(trained, tree, tiny, tmp_path):
    def run(overlays=(), **given):
        settings = {**tiny, **TASK, "device": torch.device("cpu"), "ckpt_path": str(trained / "model.pt"), **given}
        settings |= {"dataset_dir": str(tree), "output_dir": str(tmp_path / "out")}
        run_bundle("fusion_2d", "inference", overlays, settings)
        return tmp_path / "out"

    return run


@pytest.mark.slow
def test_training_sees_no_slice_of_a_held_out_patient(trained, tree):
    cases = json.loads((trained / "run.json").read_text())
    told = json.dumps(cases)
    held_out = {entry["case"] for entry in brats_datalist(tree, run="run2", section="testing")}
    assert len(held_out) == 2
    assert not [case for case in held_out if case in told]
    assert "_z002" in told


def test_each_slice_of_the_test_patients_is_fused_where_it_lies(infer, tree):
    folder = infer(slice_step=3)
    names = sorted(path.name for path in folder.glob("*_fused.nii.gz"))
    cases = sorted(entry["case"] for entry in brats_datalist(tree, run="run2", section="testing"))
    assert names == [f"{case}_z{place:03d}_fused.nii.gz" for case in cases for place in (2, 5, 8)]
    fused = nibabel.load(folder / names[1])
    assert fused.shape[:2] == (40, 44)
    assert np.allclose(fused.affine[:3, 3], (AFFINE @ [0, 0, 5, 1])[:3])


def test_the_papers_preparation_resizes_slices(infer):
    folder = infer(slice_step=8, preparation="brats", brats_size=[32, 32])
    fused = nibabel.load(next(folder.glob("*_fused.nii.gz")))
    assert fused.shape[:2] == (32, 32)
    sides = np.linalg.norm(fused.affine[:3, :2], axis=0)
    assert np.allclose(sides, [40 / 32, 44 / 32], rtol=0.05)


@pytest.mark.slow
def test_slices_are_evaluated(infer):
    folder = infer(["evaluate"], slice_step=8, metrics=["psnr", "ssim"], published_rows=False)
    assert len((folder / "pairs.csv").read_text().splitlines()) > 2
    assert "ClinicalFMamba" in (folder / "table.md").read_text()
