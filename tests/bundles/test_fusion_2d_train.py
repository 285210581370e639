"""Training by the bundle: ten small pairs, exact resuming, determinism, properties, errors of the user."""

from __future__ import annotations

import json

import pytest
import torch
from monai.bundle import ConfigWorkflow

from clinicalfmamba_nets.engine import open_bundle, run_bundle
from clinicalfmamba_nets.errors import FusionInputError

TASK = "ct_mri_published"  # its graph and loss are the paper's and stay as they are


def train(settings, folder, **more):
    return run_bundle("fusion_2d", "train", overrides={**settings, "output_dir": str(folder), **more})


def weights(folder, name="network"):
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    return saved[name] if name == "network" else saved[name]["module"]


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(tiny_training, tmp_path_factory):
    """Folder and workflow of a training of four epochs."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(tiny_training, folder, epochs=4, ema_decay=0.9, task=TASK)


def test_files_of_a_training(whole):
    folder, workflow = whole
    names = {"checkpoint.pt", "curves.png", "history.csv", "model.pt", "phantoms", "run.json", "tensorboard"}
    assert {path.name for path in folder.iterdir()} == names
    history = workflow.trainer.state.history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["loss"] < history[0]["loss"]
    assert {"val_selection", "val_loss", "val_qabf", "val_ssim", "val_vif", "val_scd", "lr", "pixel"} <= set(history[0])


def test_model_is_the_raw_state_dict_of_the_best_epoch(whole):
    folder, workflow = whole
    state = torch.load(folder / "model.pt", weights_only=True)
    workflow.network_def.load_state_dict(state)
    best = max(workflow.trainer.state.history, key=lambda row: row["val_selection"])
    assert best["epoch"] == workflow.evaluator.state.best_metric_epoch
    if best["epoch"] == 4:
        assert equal(state, weights(folder, "average"))


def test_report_of_the_training(whole, bundle_dir):
    report = json.loads((whole[0] / "run.json").read_text())
    assert report["cases"]["validation"] == ["p0", "p5"]
    assert len(report["cases"]["training"]) == 12  # four phantoms
    config = json.loads((bundle_dir / "configs" / "train.json").read_text())
    assert report["settings"]["graph"] == config["graphs"][TASK]
    assert report["settings"]["loss_terms"] == config["losses"][TASK]


def test_properties_of_the_training(whole):
    workflow = whole[1]
    assert workflow.check_properties() == []
    assert workflow.max_epochs == 4
    assert len(workflow.train_dataset_data) == 12
    assert workflow.val_interval == 1


def test_two_and_two_epochs_equal_four(whole, tiny_training, tmp_path):
    train(tiny_training, tmp_path, epochs=2, schedule_epochs=4, ema_decay=0.9, task=TASK)
    torch.rand(7)
    train(tiny_training, tmp_path, epochs=4, ema_decay=0.9, task=TASK, resume=True)
    assert equal(weights(tmp_path), weights(whole[0]))
    assert equal(weights(tmp_path, "average"), weights(whole[0], "average"))
    first, second = (torch.load(folder / "model.pt", weights_only=True) for folder in (tmp_path, whole[0]))
    assert equal(first, second)


def test_the_seed_decides(tiny_training, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(tiny_training, tmp_path / name, epochs=1, seed=seed, val_interval=2, phantoms=0)
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_color_pairs_are_trained_by_their_luma(tiny_training, color_datalist, tmp_path):
    workflow = train(tiny_training, tmp_path, epochs=1, task="spect_mri", datalist=str(color_datalist), val_interval=2)
    assert workflow.train_dataset[0]["image"].shape == (2, 32, 32)
    assert (tmp_path / "model.pt").is_file()


def test_a_training_starts_from_weights(tiny_training, tiny_weights, tmp_path):
    settings = {**tiny_training, "start_from": str(tiny_weights), "learning_rate": 0.0, "minimum_learning_rate": 0.0}
    train(settings, tmp_path, epochs=1, val_interval=2)
    state, start = torch.load(tmp_path / "model.pt"), torch.load(tiny_weights)
    assert all(torch.equal(state[name], start[name]) for name in start if name.endswith("weight"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"epochz": 3}, "override 'epochz': .*did you mean 'epochs'"),
        ({"patchsize": [8, 8]}, "did you mean 'patch_size'"),
        ({"epochs": "ten"}, "override 'epochs': expected a whole number"),
        (
            {"task": "ct"},
            "task: expected one of ct_mri, spect_mri, pet_mri, ct_mri_published, t2_flair, generic, found 'ct'",
        ),
        ({"datalist": None, "dataset_dir": "nowhere"}, "dataset_dir nowhere: expected a folder of image pairs"),
        ({"datalist": "nowhere.json"}, "nowhere.json: .*found no such file"),
        ({"start_from": "nowhere.pt"}, "start_from nowhere.pt: expected a file of weights, found no such file"),
        ({"val_fraction": 1.5}, "val_fraction: expected a share between 0 and 1"),
    ],
    ids=str,
)
def test_errors_of_the_user_are_one_line(tiny_training, tmp_path, given, told):
    settings = {name: value for name, value in tiny_training.items() if given.get(name, "") is not None}
    with pytest.raises(FusionInputError, match=told) as caught:
        run_bundle("fusion_2d", "train", overrides={**settings, "output_dir": str(tmp_path / "out"), **given})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_every_task_has_a_network_and_a_loss(bundle_dir):
    tasks = ("ct_mri", "spect_mri", "pet_mri", "t2_flair", "ct_mri_published", "generic")
    for task in tasks:
        get = open_bundle("fusion_2d", "train", overrides={"task": task}).parser.get_parsed_content
        assert get("network_def").spatial_dims == 2
        assert get("fusion_loss").weights["pixel"] > 0
    assert set(json.loads((bundle_dir / "configs" / "train.json").read_text())["losses"]) == set(tasks)


def test_the_order_of_handlers_that_exact_resuming_needs(bundle_dir):
    handlers = json.loads((bundle_dir / "configs" / "train.json").read_text())["train"]["handlers"]
    names = [handler["_target_"].split(".")[-1] for handler in handlers]
    assert names.index("LrScheduleHandler") < names.index("ValidationHandler") < names.index("TrainingProgress")
    assert names[-1] == "TrainingCheckpoint"


def test_training_of_real_pairs(shared_data, tiny_training, tmp_path):
    settings = {name: value for name, value in tiny_training.items() if name != "datalist"}
    workflow = train(
        {**settings, "dataset_dir": str(shared_data / "aanlib"), "cache_rate": 0.0, "num_workers": 0},
        tmp_path,
        epochs=1,
        val_fraction=0.01,
        val_interval=2,
        hold_out=False,
        phantoms=3,
        **{"train::trainer::epoch_length": 2},
    )
    assert len(workflow.train_dataset) == 128 + 3  # phantoms
    assert (tmp_path / "model.pt").is_file()


def test_opening_needs_no_data(bundle_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workflow = ConfigWorkflow(str(bundle_dir / "configs" / "train.json"), logging_file=False, dataset_dir="nowhere")
    workflow.initialize()
    assert workflow.network_def.spatial_dims == 2
