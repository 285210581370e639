"""Evaluation by the bundle: tables and pictures of the network beside the baselines."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch

from clinicalfmamba_nets.engine import run_bundle
from clinicalfmamba_nets.errors import FusionInputError

METRICS = ["qabf", "ssim"]
FILES = {"pairs.csv", "summary.json", "table.md", "box_plot.png", "contact_sheet.png"}


@pytest.fixture
def evaluate(tiny, tiny_weights, tmp_path):
    """Run the evaluation of the bundle with the tiny network into a folder."""

    def run(**given):
        settings = {**tiny, "ckpt_path": str(tiny_weights), "device": torch.device("cpu"), "metrics": METRICS}
        settings |= {"output_dir": str(tmp_path / "out"), **given}
        return run_bundle("fusion_2d", "inference", ["evaluate"], settings)

    return run


def rows_of(folder):
    return list(csv.DictReader((folder / "pairs.csv").open()))


def test_ten_pairs_and_every_network(evaluate, datalist, tmp_path):
    workflow = evaluate(datalist=str(datalist))
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    rows = rows_of(tmp_path / "out")
    networks = {row["network"] for row in rows}
    assert {"ClinicalFMamba", "average", "maximum", "Laplacian pyramid", "guided filter"} <= networks
    assert len(rows) == 10 * len(networks)
    assert workflow.check_properties() == []
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    told = summary["networks"]["ClinicalFMamba"]["over_runs"]["ssim"]["mean"]
    own = [float(row["ssim"]) for row in rows if row["network"] == "ClinicalFMamba"]
    assert told == pytest.approx(sum(own) / 10, rel=1e-6)


def test_an_evaluation_in_color_by_the_luma(evaluate, color_datalist, tmp_path):
    evaluate(datalist=str(color_datalist), task="spect_mri", metrics=["qabf"], label="ours", baselines=False)
    assert {row["network"] for row in rows_of(tmp_path / "out")} == {"ours", "average"}


@pytest.mark.slow
def test_weights_for_each_run(evaluate, tiny_weights, shared_data, tmp_path):
    for run in ("run1", "run2"):
        (tmp_path / run).mkdir()
        shutil.copy(tiny_weights, tmp_path / run / "model.pt")
    evaluate(
        dataset_dir=str(shared_data / "aanlib"),
        split="mydatasets",
        runs=["run1"],
        ckpt_path=str(tmp_path / "{run}" / "model.pt"),
        metrics=["psnr"],
        baselines=False,
    )
    assert {row["run"] for row in rows_of(tmp_path / "out")} == {"run1"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ckpt_path": "nowhere.pt"}, "ckpt_path nowhere.pt: expected a file of weights, found no such file"),
        ({"compare": ["nothing"]}, "task: expected one of ct_mri"),
        ({"run": ["run9"]}, "override 'run': expected expressions .*did you mean 'runs'"),
    ],
    ids=str,
)
def test_errors_of_the_user_are_one_line(evaluate, datalist, given, told):
    with pytest.raises(FusionInputError, match=told) as caught:
        evaluate(datalist=str(datalist), **given)
    assert "\n" not in str(caught.value)
