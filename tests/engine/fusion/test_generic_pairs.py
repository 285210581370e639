"""Pairs that show no head, fused by the default weights: they run, keep their bounds and colors, and are warned of."""

from __future__ import annotations

import itertools
import json
import warnings

import numpy as np
import pytest
from PIL import Image

import clinicalfmamba_nets as cfm
from clinicalfmamba_nets.data import formula_pair, write_formula_pair
from clinicalfmamba_nets.engine.run.tasks import LABELS, choose_task, find_task
from clinicalfmamba_nets.errors import FusionInputError, FusionWarning

TOLD = "its weights were trained on CT and MRI of heads"


def luma(image):
    return image @ np.array([0.299, 0.587, 0.114]) if image.ndim == 3 else image


def read(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(float)


@pytest.mark.parametrize("kind", ["infrared", "microscopy"])
def test_a_pair_of_files(run_cli, tmp_path, kind):
    first, second = write_formula_pair(tmp_path, kind, 64)
    words = ("--task", "generic", "--window-a", "0..255", "--window-b", "0..255", "--scores")
    outcome = run_cli("fuse", first, second, "-o", tmp_path / "out", *words)
    assert outcome.code == 0, outcome.err
    assert f"warning: task generic: {TOLD}" in outcome.out and "Qabf" in outcome.out
    fused = read(tmp_path / "out" / f"{first.stem}_fused.png")
    assert fused.shape == (64, 64, 3) and fused.std() > 10
    sources = [luma(read(path)) for path in (first, second)]
    assert (luma(fused) <= np.maximum(*sources) + 2.5).all() and (luma(fused) >= np.minimum(*sources) - 2.5).all()
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert TOLD in json.dumps(report)


def test_arrays_of_two_grey_images():
    first, second = (luma(image) for image in formula_pair("microscopy", 48))
    with pytest.warns(FusionWarning, match=TOLD):
        fused = cfm.fuse(first.astype(np.float32), second.astype(np.float32), task="generic")
    assert fused.shape == (48, 48) and np.isfinite(fused).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FusionWarning)
        ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
        cfm.fuse(ramp, ramp.T.copy(), task="ct_mri")


def test_the_task_is_never_chosen_by_a_name():
    row = find_task("generic")
    assert row.labels == ("A", "B") and TOLD in row.warning and not find_task("ct_mri").warning
    assert row.weights["fusion_2d"] == find_task("ct_mri").weights["fusion_2d"]
    words = ["", *set(LABELS) - {"first", "second"}]
    pairs = itertools.product(words, words, (False, True), (False, True))
    assert "generic" not in {choose_task((one, two), color, volume)[0] for one, two, color, volume in pairs}


def test_the_scenes_differ_between_the_images():
    grey, color = formula_pair("infrared", 64, seed=1)
    assert grey.max() > 0.85 and abs(np.corrcoef(grey.ravel(), luma(color).ravel())[0, 1]) < 0.5
    assert not np.array_equal(grey, formula_pair("infrared", 64, seed=2)[0])
    with pytest.raises(FusionInputError, match="kind 'radar': expected one of infrared, microscopy"):
        formula_pair("radar")
