"""The grading bundle: its form, MONAI's commands, and the whole experiment on a tiny phantom set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from monai import bundle as commands
from PIL import Image

from clinicalfmamba_nets.data import write_brats_phantoms
from clinicalfmamba_nets.engine import open_bundle, run_bundle
from clinicalfmamba_nets.engine.grading.lists import grading_datalist
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import case_name

NAMES = ["evaluate", "experiment", "inference", "metadata", "multi_gpu_train", "train", "train_fusion"]
CLASSIFIER = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8]}
FUSION = {"fusion_features": 4, "fusion_dim": 16, "fusion_depth": 1, "fusion_decoder_depth": 1, "fusion_d_state": 4}
COMMON = {"roi_size": [16, 16, 8]}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundle(checkout):
    return checkout / "bundles" / "glioma_grading"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_brats_phantoms(tmp_path_factory.mktemp("data") / "phantoms", 6, 6, "easy", (24, 28, 20))


def test_configurations_and_files(bundle):
    assert sorted(path.stem for path in (bundle / "configs").glob("*.json")) == NAMES
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf"):
        assert (bundle / name).stat().st_size > 300, name


def test_defaults_of_the_paper_and_one_network(bundle):
    train, inference, fusion = (
        json.loads((bundle / "configs" / f"{name}.json").read_text()) for name in ("train", "inference", "train_fusion")
    )
    assert (train["learning_rate"], train["batch_size"], train["epochs"]) == (1e-3, 8, 50)
    assert (train["layers"], train["block"], train["roi_size"]) == ([3, 4, 6, 3], "bottleneck", [128, 128, 128])
    assert train["held_out"] == 20
    for name in ("in_channels", "block", "layers", "block_inplanes", "network_def", "images", "fusion_def"):
        assert train[name] == inference[name]
    assert train["fusion_defs"] == inference["fusion_defs"] == fusion["fusion_defs"]


def test_metadata_is_verified_offline(bundle, tmp_path):
    schema = shutil.copy(bundle.parent / "meta_schema_20240725.json", tmp_path)
    commands.verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(schema))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"] and "not for diagnosis" in metadata["intended_use"]
    assert metadata["eval_metrics"] == {}  # no score on phantoms is given as one of patients


@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("workflow", ["train", "inference", "train_fusion"])
def test_properties(workflow, phantoms, tmp_path, dims):
    settings = {**COMMON, **FUSION, "input": "clinicalfmamba", "dataset_dir": str(phantoms), "device": CPU}
    settings["spatial_dims"] = dims
    if workflow != "train_fusion":
        settings |= {**CLASSIFIER, "input": "t2_flair", "cache_dir": str(tmp_path)}
    if workflow != "inference":
        settings["output_dir"] = str(tmp_path)
    opened = open_bundle("glioma_grading", workflow, overrides=settings)
    assert opened.check_properties() == []


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "channels"), [("t2", 1), ("t2_flair", 2), ("clinicalfmamba", 1)])
def test_the_network_follows_two_ids(bundle, dims, name, channels):
    parser = commands.ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser.update({**CLASSIFIER, "spatial_dims": dims, "input": name})
    network = parser.get_parsed_content("network_def").eval()
    assert network(torch.rand(2, channels, *[32] * dims)).shape == (2, 1)


def test_without_trained_weights_no_opinion(phantoms, tmp_path):
    settings = {**COMMON, **CLASSIFIER, "input": "t2", "dataset_dir": str(phantoms), "model_dir": str(tmp_path)}
    with pytest.raises(FusionInputError, match="weights of a trained grading network, found no such file; train first"):
        run_bundle("glioma_grading", "inference", overrides={**settings, "device": CPU})
    assert not (tmp_path / "testing").exists()


def test_train_and_grade_one_patient(phantoms, tmp_path):
    model = tmp_path / "t2_flair"
    settings = {**COMMON, **CLASSIFIER, "input": "t2_flair", "device": CPU}
    training = {**settings, "dataset_dir": str(phantoms), "output_dir": str(model), "val_fraction": 0.25}
    run_bundle("glioma_grading", "train", overrides={**training, "epochs": 1})
    run_bundle("glioma_grading", "train", overrides={**training, "epochs": 2, "resume": True})
    assert len((model / "history.csv").read_text().splitlines()) == 3
    assert 0 < json.loads((model / "run.json").read_text())["loading_share"] < 1
    entry = grading_datalist(phantoms)[0]
    for mask in (entry["seg"], None):
        given = {"t2": entry["image"], "flair": entry["image2"], "mask": mask, "output_dir": str(tmp_path / "out")}
        run_bundle("glioma_grading", "inference", overrides={**settings, "model_dir": str(model), **given})
        (line,) = (tmp_path / "out" / "patients.csv").read_text().splitlines()[1:]
        assert 0 <= float(line.split(",")[2]) <= 1
        assert not (tmp_path / "out" / "metrics.json").exists()
        with Image.open(tmp_path / "out" / f"{case_name(entry['image'])}_preview.png") as preview:
            assert preview.mode == "RGB" and preview.width > 3 * 16
    with pytest.raises(FusionInputError, match="flair: expected a volume, found none"):
        alone = {"t2": entry["image"], "model_dir": str(model)}
        run_bundle("glioma_grading", "inference", overrides={**settings, **alone})


@pytest.mark.slow
def test_loading_takes_less_than_a_fifth_of_the_steps(tmp_path):
    root = write_brats_phantoms(tmp_path / "phantoms", 12, 12, "medium", (48, 56, 40))
    settings = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [8, 16, 32, 32], "roi_size": [32, 32, 8]}
    settings |= {"input": "t2_flair", "dataset_dir": str(root), "output_dir": str(tmp_path / "out"), "device": CPU}
    run_bundle("glioma_grading", "train", overrides={**settings, "batch_size": 32, "val_fraction": 0.15, "epochs": 4})
    assert json.loads((tmp_path / "out" / "run.json").read_text())["loading_share"] < 0.2


@pytest.mark.slow
def test_two_processes_train_as_programs(bundle, phantoms, tmp_path):
    configs = [str(bundle / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train")]
    settings = {**COMMON, **CLASSIFIER, "input": "flair", "dataset_dir": phantoms, "output_dir": tmp_path / "flair"}
    settings |= {"epochs": 1, "val_fraction": 0.25, "bundle_root": bundle}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    program = ["-m", "monai.bundle", "run", "training", "--config_file", str(configs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*start, *program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "flair" / "history.csv").read_text().splitlines()) == 2
    assert (tmp_path / "flair" / "model.pt").is_file()


@pytest.fixture(scope="module")
def experiment(phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")

    def run(**given):
        settings = {
            "dataset_dir": str(phantoms),
            "output_dir": str(folder),
            "runs": ["run1"],
            "device": "cpu",
            "shuffled": True,
            "common": COMMON,
            "fusion_settings": {**FUSION, "eh_dran_features": 4, "epochs": 1},
            "train_settings": {**CLASSIFIER, "epochs": 2, "val_fraction": 0.25},
            **given,
        }
        run_bundle("glioma_grading", "experiment", overrides=settings)
        return folder

    run()
    return run, folder


@pytest.mark.slow
def test_all_inputs_end_in_one_table(experiment):
    _, folder = experiment
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["inputs"]) == ["t2", "flair", "t2_flair", "eh_dran", "clinicalfmamba"]
    for scores in summary["inputs"].values():
        assert all(0 <= scores[name]["mean"] <= 1 for name in ("auc", "f1", "accuracy"))
    assert 0 <= summary["shuffled"]["auc"] <= 1
    assert summary["loading_share"] == max(scores["loading_share"] for scores in summary["inputs"].values()) > 0
    assert len(summary["comparisons"]) == 7
    assert "phantoms" in summary["title"] and "not for diagnosis" in summary["notice"]
    assert (folder / "table.md").read_text().count("\n| ") == 6
    for name in ("roc.png", "summary.csv", "run1/clinicalfmamba/testing/plots.png"):
        assert (folder / name).stat().st_size > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eh_dran", "clinicalfmamba"])
def test_no_fusion_network_has_seen_a_tested_patient(experiment, phantoms, name):
    _, folder = experiment
    cases = json.loads((folder / "run1" / name / "fusion" / "run.json").read_text())["cases"]
    seen = {case.rsplit("_z", 1)[0] for case in (*cases["training"], *cases["validation"])}
    parts = {part: {e["case"] for e in grading_datalist(phantoms, "run1", part)} for part in ("training", "testing")}
    assert seen == parts["training"]
    assert not seen & parts["testing"]


@pytest.mark.slow
def test_a_finished_experiment_is_not_done_again_and_another_is_refused(experiment):
    run, folder = experiment
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("model.pt")}
    (folder / "run1" / "clinicalfmamba" / "testing" / "metrics.json").unlink()
    run()
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("model.pt")}
    with pytest.raises(FusionInputError, match="results of these settings, found another roi_size"):
        run(common={"roi_size": [16, 16, 4]})


@pytest.mark.slow
def test_weights_of_another_run_are_refused_by_the_bundle(experiment, phantoms):
    _, folder = experiment
    model = folder / "run1" / "eh_dran"
    settings = {**COMMON, **CLASSIFIER, "input": "eh_dran", "eh_dran_features": 4, "model_dir": str(model)}
    with pytest.raises(FusionInputError, match="expected no patient of the test set"):
        overrides = {**settings, "split_run": "run2", "dataset_dir": str(phantoms), "device": CPU}
        run_bundle("glioma_grading", "inference", overrides=overrides)


@pytest.mark.slow
def test_volumes_are_graded_as_slices_are(phantoms, tmp_path):
    settings = {
        "dataset_dir": str(phantoms),
        "output_dir": str(tmp_path),
        "runs": ["run2"],
        "inputs": ["t2_flair", "eh_dran", "clinicalfmamba"],
        "spatial_dims": 3,
        "device": "cpu",
        "common": COMMON,
        "fusion_settings": {**FUSION, "eh_dran_features": 4, "epochs": 1, "batch_size": 2},
        "train_settings": {**CLASSIFIER, "epochs": 1, "val_fraction": 0.25},
    }
    run_bundle("glioma_grading", "experiment", overrides=settings)
    rows = (tmp_path / "run2" / "clinicalfmamba" / "testing" / "slices.csv").read_text().splitlines()[1:]
    tested = {entry["case"] for entry in grading_datalist(phantoms, "run2")}
    assert {row.split(",")[0] for row in rows} == tested and len(rows) == len(tested)
    assert len(json.loads((tmp_path / "summary.json").read_text())["comparisons"]) == 3
