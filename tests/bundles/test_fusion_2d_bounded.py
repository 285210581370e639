"""The bounded training: one command by two configurations, its bound, its heads, exact resuming."""

from __future__ import annotations

import json

import pytest
import torch

from clinicalfmamba_nets.engine import open_bundle, run_bundle

FEW = {"val_interval": 1, "learning_rate": 1e-3, "patch_size": [24, 24]}


def bounded(settings, folder, **more):
    """Train a tiny network by the configuration of the bundle."""
    given = {**settings, **FEW, "ema_decay": 0.9, "output_dir": str(folder), **more}
    return run_bundle("fusion_2d", "train", overrides=given)


@pytest.fixture(scope="module")
def whole(tiny_training, tmp_path_factory):
    """Folder and workflow of a bounded training of four epochs."""
    folder = tmp_path_factory.mktemp("bounded")
    return folder, bounded(tiny_training, folder, epochs=4)


@pytest.mark.slow
def test_the_terms_are_told_and_the_trained_network_is_bounded(whole):
    folder, workflow = whole
    row = workflow.trainer.state.history[-1]
    assert {"pixel", "gradient", "ssim", "edges", "information", "overshoot", "plateau", "spots"} <= set(row)
    network = workflow.network_def.eval()
    network.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    image = torch.rand(2, 2, 40, 33)
    with torch.no_grad():
        fused = network(image)
    assert bool((fused >= image.amin(1, keepdim=True)).all() and (fused <= image.amax(1, keepdim=True)).all())
    settings = json.loads((folder / "run.json").read_text())["settings"]
    assert settings["graph"]["head"] == "mix" and settings["val_heads"] == ["41", "40"]


@pytest.mark.slow
def test_two_and_two_epochs_equal_four(whole, tiny_training, tmp_path):
    bounded(tiny_training, tmp_path, epochs=2, schedule_epochs=4)
    torch.rand(7)
    bounded(tiny_training, tmp_path, epochs=4, resume=True)
    first, second = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (tmp_path, whole[0]))
    for part in (lambda saved: saved["network"], lambda saved: saved["average"]["module"]):
        assert all(torch.equal(value, part(second)[name]) for name, value in part(first).items())


@pytest.mark.parametrize(("task", "heads"), [("ct_mri", {2, 33}), ("spect_mri", {3, 22})])
def test_no_test_head_is_trained_or_validated_on(shared_data, task, heads):
    overrides = {"task": task, "dataset_dir": str(shared_data / "aanlib")}
    get = open_bundle("fusion_2d", "train", overrides=overrides).parser.get_parsed_content
    trained = {int(pair["case"]) // 1000 for pair in get("train::dataset::data::pairs")}
    validated = {int(pair["case"]) // 1000 for pair in get("validate::dataset::data")}
    assert trained and validated and validated <= {40, 41}
    assert not trained & validated and not (trained | validated) & heads
