"""`clinicalfmamba evaluate` runs the bundle's evaluation with the settings that are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pairs(tmp_path):
    """A folder with two pairs of noise, 40 x 40."""
    generator = np.random.default_rng(0)
    for folder in ("MRI", "CT"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in "12":
            pixels = generator.integers(0, 256, (40, 40)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{name}.png")
    return tmp_path / "data"


def test_evaluate_writes_tables_beside_the_baselines(toy_cli, pairs, tmp_path):
    out = tmp_path / "out"
    outcome = toy_cli("evaluate", "--task", "ct_mri", "--dataset_dir", pairs, "-o", out, 'metrics=["ssim","qabf"]')
    assert outcome.code == 0, outcome.err
    assert f"table    {out / 'table.md'}" in outcome.out
    assert {path.name for path in out.iterdir()} >= {"pairs.csv", "summary.json", "table.md", "contact_sheet.png"}
    networks = json.loads((out / "summary.json").read_text())["networks"]
    assert {"ClinicalFMamba", "average", "maximum", "Laplacian pyramid", "guided filter"} <= set(networks)


def test_missing_folder_is_told_in_one_line(toy_cli, tmp_path):
    outcome = toy_cli("evaluate", "--dataset_dir", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert outcome.code == 1 and "nowhere: expected a folder of image pairs" in outcome.cause
    assert not (tmp_path / "out" / "table.md").exists()


def test_unknown_setting_is_a_wrong_argument(toy_cli, pairs, tmp_path):
    outcome = toy_cli("evaluate", "--dataset_dir", pairs, "-o", tmp_path / "out", "metric=[]")
    assert outcome.code == 2 and "did you mean 'metrics'?" in outcome.cause
