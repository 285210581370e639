"""`clinicalfmamba train` runs the bundle's training with the settings that are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

TINY = ("epochs=1", "batch_size=2", "patch_size=[32,32]", "features=8", "dim=16", "depth=1", "decoder_depth=1")


@pytest.fixture
def pairs(tmp_path):
    """A folder with four pairs of noise, 40 x 40."""
    generator = np.random.default_rng(0)
    for folder in ("MRI", "CT"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in "1234":
            pixels = generator.integers(0, 256, (40, 40)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{name}.png")
    return tmp_path / "data"


def test_train_writes_weights_and_goes_on(run_cli, pairs, tmp_path):
    words = ("train", "--task", "ct_mri", "--dataset_dir", pairs, "-o", tmp_path / "run")
    outcome = run_cli(*words, *TINY)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "model.pt").is_file() and f"weights  {tmp_path / 'run' / 'model.pt'}" in outcome.out
    resumed = run_cli(*words, *TINY[1:], "epochs=2", "--resume")
    assert resumed.code == 0, resumed.err
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["epochs"] == {"done": 2, "planned": 2} and report["settings"]["features"] == 8


@pytest.mark.parametrize(("rank", "told"), [("0", True), ("1", False)])
def test_of_several_processes_the_first_one_tells_where_the_weights_lie(
    run_cli, monkeypatch, pairs, tmp_path, rank, told
):
    started = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("clinicalfmamba_nets.cli.measuring.run_configured", lambda *given: 0)
    outcome = run_cli("train", "--dataset_dir", pairs, "-o", tmp_path / "run")
    assert outcome.code == 0 and ("weights" in outcome.out) == told


def test_missing_folder_is_told_in_one_line(run_cli, tmp_path):
    outcome = run_cli("train", "--dataset_dir", tmp_path / "nowhere", "-o", tmp_path / "run")
    assert outcome.code == 1 and "nowhere: expected a folder of image pairs" in outcome.cause
    assert not (tmp_path / "run").exists()


def test_overlays_are_laid_over_the_training(run_cli, pairs, tmp_path):
    words = ("train", "--dataset_dir", pairs, "-o", tmp_path / "run", "--overlay", "published_train.json", *TINY)
    outcome = run_cli(*words, "val_interval=1", "learning_rate=0.002")
    assert outcome.code == 0, outcome.err
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["graph"]["head"] == "sigmoid" and settings["loss_terms"]["gradient"] == "magnitude"
    assert settings["learning_rate"] == 0.002 and settings["epochs"] == 1  # what the line says counts more


@pytest.mark.parametrize(
    ("setting", "told"),
    [("losses::ct_mri::depth_weight=1", "'depth_weight'"), ("graphs::ct_mri::head=mixed", "'mixed'")],
)
def test_what_a_component_says_of_its_settings_is_told(run_cli, pairs, tmp_path, setting, told):
    outcome = run_cli("train", "--dataset_dir", pairs, "-o", tmp_path / "run", *TINY, setting)
    assert outcome.code == 1 and outcome.cause.startswith("error: settings of ") and told in outcome.cause


@pytest.mark.parametrize(
    ("command", "name", "told"),
    [
        ("train", "publish_train", "did you mean published_train?"),
        ("train", "inference", "expected one"),
        ("train", "peers/swinfusion", "did you mean peers/swin_fusion?"),
        ("evaluate", "peers/swinfusion", "did you mean peers/swin_fusion?"),
        ("evaluate", "published_train", "expected one of evaluate, peers/"),
    ],
)
def test_an_overlay_that_is_none_is_a_wrong_argument(run_cli, tmp_path, command, name, told):
    outcome = run_cli(command, "--dataset_dir", tmp_path, "-o", tmp_path / "run", "--overlay", name)
    assert outcome.code == 2 and told in outcome.cause


@pytest.mark.parametrize(
    ("command", "option", "setting", "told"),
    [
        (
            "train",
            ("--task", "ct_mri"),
            "task=pet_mri",
            "task: expected one value, found --task ct_mri and task=pet_mri",
        ),
        ("train", (), "output_dir=there", "output_dir: expected one value, found -o "),
        ("train", ("--device", "cpu"), "device=cuda", "device: expected one value, found --device cpu and device=cuda"),
        ("train", (), "task=nope", "task 'nope': expected one of ct_mri"),
        ("evaluate", ("--split", "case3"), "split=random3", "split: expected one value, found --split case3 and"),
        ("evaluate", ("--datalist", "list.json", "--split", "case3"), "epochs=1", "found both; leave --split out"),
    ],
)
def test_a_setting_that_is_named_twice_is_a_wrong_argument(run_cli, tmp_path, command, option, setting, told):
    outcome = run_cli(command, "--dataset_dir", tmp_path, "-o", tmp_path / "run", *option, setting)
    assert outcome.code == 2 and told in outcome.cause


def test_a_class_that_python_cannot_import_is_told(run_cli, pairs, tmp_path):
    words = ("train", "--dataset_dir", pairs, "-o", tmp_path / "run", *TINY)
    outcome = run_cli(*words, 'fusion_loss={"_target_": "my_losses.Mine"}')
    told = "error: _target_ my_losses.Mine: expected a class that Python can import, found none; correct the name"
    assert outcome.code == 1 and outcome.cause.startswith(told)
