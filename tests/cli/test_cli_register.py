"""`fuse --register rigid`: what is told, what is written, what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from clinicalfmamba_nets.io import write_image
from clinicalfmamba_nets.spatial import registration

TINY = {"features": 4, "dim": 16, "depth": 1, "roi_size": [16, 16, 16]}


@pytest.fixture
def cli(run_cli, checkout, tmp_path, monkeypatch):
    """`run_cli` with a tiny bundle for volumes that has random weights."""
    root = tmp_path / "bundles" / "fusion_3d"
    shutil.copytree(checkout / "bundles" / "fusion_3d", root, ignore=shutil.ignore_patterns("models"))
    config = json.loads((root / "configs" / "inference.json").read_text()) | TINY
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    (root / "models").mkdir()
    torch.manual_seed(0)
    torch.save(ConfigParser(config).get_parsed_content("network_def").state_dict(), root / "models" / "model.pt")
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(root.parent))
    return run_cli


@pytest.fixture
def pair(tmp_path):
    values = np.random.default_rng(0).random((18, 17, 16)).astype(np.float32)
    for name, shift in (("t2", 0.0), ("flair", 2.5)):
        affine = np.eye(4)
        affine[0, 3] = shift
        write_image(tmp_path / f"{name}.nii.gz", values, affine=affine)
    return tmp_path / "t2.nii.gz", tmp_path / "flair.nii.gz"


def test_the_alignment_is_told_and_its_transform_written(cli, pair, tmp_path, monkeypatch):
    matrix = np.eye(4)
    matrix[0, 3] = 2.5

    def found(*places, same_frame_of_reference):
        before, after = registration.Similarity(0.1, 0.8), registration.Similarity(0.4, 0.9, 2.0)
        return registration.RigidAlignment(matrix, np.zeros(3), before, after)

    monkeypatch.setattr(registration, "register_rigid", found)
    outcome = cli("fuse", *pair, "--register", "rigid", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "moved by 2.50 mm (2.50, 0.00, 0.00), mutual information 0.100 before and 0.400 after" in outcome.out
    assert (tmp_path / "out" / "t2_registration.tfm").read_text().startswith("#Insight Transform File V1.0\n")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["settings"]["register"] == "rigid"
    assert cli("fuse", *pair, "-o", tmp_path / "plain").code == 0
    assert not (tmp_path / "plain" / "t2_registration.tfm").exists()


def test_single_images_are_not_registered(toy_cli, tmp_path):
    for name in ("mri", "ct"):
        write_image(tmp_path / f"{name}.png", np.arange(1024, dtype=np.uint8).reshape(32, 32))
    outcome = toy_cli("fuse", tmp_path / "mri.png", tmp_path / "ct.png", "--register", "rigid", "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "mri.png: expected a volume to register, found a single image; leave out --register" in outcome.cause


def test_another_kind_of_registration_is_a_wrong_argument(run_cli, tmp_path):
    outcome = run_cli("fuse", "a.nii", "b.nii", "--register", "affine", "-o", tmp_path)
    assert outcome.code == 2
    assert "--register" in outcome.cause
