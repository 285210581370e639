"""`clinicalfmamba score`: fused folders of other programs on a list or a folder of pairs."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image


def write(path, seed, scale=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[0:48, 0:48]
    values = 120 + 100 * np.sin(rows / (3 + seed)) * np.cos(columns / (4 + seed))
    Image.fromarray((values * scale).clip(0, 255).astype(np.uint8)).save(path)


def test_two_methods_side_by_side(toy_cli, tmp_path):
    for case in "12":
        write(tmp_path / "pairs" / "MRI" / f"{case}.png", int(case))
        write(tmp_path / "pairs" / "CT" / f"{case}.png", int(case) + 3)
        write(tmp_path / "first" / f"{case}.png", int(case), 0.8)
        write(tmp_path / "second" / f"{case}_fused.png", int(case) + 3, 0.7)
    words = [tmp_path / "first", f"other={tmp_path / 'second'}", "--pairs", tmp_path / "pairs", "-o", tmp_path / "out"]
    outcome = toy_cli("score", *words, "--metrics", "ssim,qabf", "--baselines")
    assert outcome.code == 0, outcome.err
    assert f"table    {tmp_path / 'out' / 'table.md'}" in outcome.out
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {"first", "other", "average", "maximum"} <= set(content["networks"])
    assert set(content["comparison"]["average_rank"]) >= {"first", "other"}
    again = toy_cli("score", *words[:-1], tmp_path / "cdd", "--convention", "cddfuse")
    assert again.code == 0 and "| SSIM |" in (tmp_path / "cdd" / "table.md").read_text()


def test_wrong_arguments(toy_cli, tmp_path):
    assert toy_cli("score", tmp_path).code == 2
    outcome = toy_cli("score", tmp_path, "--pairs", tmp_path / "list.json", "--range", "0")
    assert outcome.code == 2 and "--range: expected a number above 0" in outcome.cause
    outcome = toy_cli("score", tmp_path, "--pairs", tmp_path / "list.json", "--range", "inf")
    assert outcome.code == 2 and "--range: expected a number above 0, found inf" in outcome.cause
    outcome = toy_cli("score", tmp_path, "--pairs", tmp_path / "list.json", "--window-b", "bne")
    assert outcome.code == 2 and "window 'bne': expected auto, brain" in outcome.cause
    write(tmp_path / "pairs" / "MRI" / "1.png", 1)
    write(tmp_path / "pairs" / "CT" / "1.png", 4)
    pairs = ("--pairs", tmp_path / "pairs", "-o", tmp_path / "out")
    outcome = toy_cli("score", "ours=", *pairs)
    assert outcome.code == 1 and "method ours: expected a folder of fused images, found an empty name" in outcome.cause
    outcome = toy_cli("score", tmp_path, *pairs, "--metrics", "")
    assert outcome.code == 1 and "metrics: expected names among" in outcome.cause and "found ''" in outcome.cause
    outcome = toy_cli("score", tmp_path, "--pairs", tmp_path / "list.json", "-o", tmp_path / "out")
    assert outcome.code == 1 and "list.json" in outcome.cause
    outcome = toy_cli("evaluate", "-o", tmp_path / "out")
    assert outcome.code == 2 and "expected --dataset_dir DIR or --datalist FILE" in outcome.cause


def test_a_method_cannot_take_the_name_of_a_row_of_the_table(toy_cli, tmp_path):
    write(tmp_path / "pairs" / "MRI" / "1.png", 1)
    write(tmp_path / "pairs" / "CT" / "1.png", 4)
    write(tmp_path / "maximum" / "1.png", 1)
    words = ["--pairs", tmp_path / "pairs", "-o", tmp_path / "out", "--metrics", "ssim"]
    for named, more in ((tmp_path / "maximum", ["--baselines"]), (f"average={tmp_path / 'maximum'}", [])):
        outcome = toy_cli("score", named, *words, *more)
        assert outcome.code == 1 and "expected a name that is no row of the table itself, found" in outcome.cause
    assert toy_cli("score", tmp_path / "maximum", *words).code == 0
    words = ["--dataset_dir", tmp_path / "pairs", "-o", tmp_path / "ev", 'metrics=["ssim"]', "--device", "cpu"]
    outcome = toy_cli("evaluate", *words, "label=average")
    assert outcome.code == 1 and "method 'average': expected a name that is no row" in outcome.cause
    outcome = toy_cli("evaluate", *words, "--fused", f"ClinicalFMamba={tmp_path / 'maximum'}")
    assert outcome.code == 1 and "multiple values for keyword argument 'ClinicalFMamba'" in outcome.cause
