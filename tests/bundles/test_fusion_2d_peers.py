"""The overlays of the comparison networks: they build their network and loss, train it and evaluate it."""

from __future__ import annotations

import json

import pytest
import torch

from clinicalfmamba_nets.engine import run_bundle
from clinicalfmamba_nets.engine.run.workflows import read_bundle

SMALL = {"spatial_dims": 2, "num_down": 2, "features": 4, "dim": 16, "depth": 1, "decoder_depth": 1, "d_state": 4}
# Overlay -> class, its parameters, its loss's weights, and a form of it that is small.
PEERS = {
    "swin_fusion": ("SwinFusion", 965_251, (20, 100, 50), {"channels": 12, "heads": 3, "depth": 1}),
    "mambadfuse": ("MambaDFuse", 1_347_271, (20, 100, 50), {"channels": 8, "depth": 1, "fusion_depth": 1}),
    "clinicalfmamba_published": ("ClinicalFMamba", 3_168_961, (2, 10, 5), SMALL),
    "eh_dran": ("EHDRAN", 414_081, (1, 0.2), {"features": 4}),
    "mrsc_autoencoder": ("MRSCFusion", 22_150_073, (1, 100), {"widths": [8, 8, 8, 8], "heads": 2, "depth": 1}),
    "mrsc_fusion": ("MRSCFusion", 22_150_073, (1000, 1, 1), {"widths": [8, 8, 8, 8], "heads": 2, "depth": 1}),
    "fusionmamba": ("FusionMamba", 163_819_456, (20, 10, 10), {"widths": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}),
}
LABELS = {
    "clinicalfmamba_published": "ClinicalFMamba, published form",
    "eh_dran": "EH-DRAN",
    "mrsc_autoencoder": "MRSCFusion, auto-encoder alone",
}
PATHS = ("dataset_dir", "split", "split_run", "val_heads", "seed", "preprocessing", "train", "validate")


def test_every_overlay_is_listed_here(bundle_dir):
    assert {path.stem for path in (bundle_dir / "configs" / "peers").glob("*.json")} == set(PEERS)


@pytest.mark.parametrize("name", PEERS)
def test_an_overlay_is_short_and_leaves_data_and_validation_alone(bundle_dir, name):
    text = (bundle_dir / "configs" / "peers" / f"{name}.json").read_text()
    assert 40 <= len(text.splitlines()) <= 70
    assert text == json.dumps(json.loads(text), indent=4) + "\n"
    assert not set(json.loads(text)) & set(PATHS) and json.loads(text)["phantoms"] == 0


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("base", [("train",), ("inference", "evaluate")], ids="-".join)
def test_it_builds_its_network_and_loss(name, base):
    kind, parameters, weights, _ = PEERS[name]
    parser = read_bundle("fusion_2d", base[0], [*base[1:], f"peers/{name}"], {"device": torch.device("meta")})
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert type(network).__name__ == kind == parser["graph"]["network"]
    assert sum(value.numel() for value in network.parameters()) == parameters
    assert parser["label"] == LABELS.get(name, kind)
    if base == ("train",):
        assert tuple(parser.get_parsed_content("fusion_loss").weights.values()) == weights
        assert ("features" in parser["settings"]) == (kind == "ClinicalFMamba")
        assert parser["settings"]["graph"] == "@graph"


def test_the_first_stage_trains_the_auto_encoder_and_the_second_the_fusion_alone():
    for name, moved in (("mrsc_autoencoder", {"conv_in", "encoder", "decoder"}), ("mrsc_fusion", {"fusion"})):
        parser = read_bundle("fusion_2d", "train", [f"peers/{name}"], {"device": torch.device("cpu")})
        parser["network_def"] = {"_target_": "clinicalfmamba_nets.nets.MRSCFusion", "widths": [8] * 4, "heads": 2}
        network = parser.get_parsed_content("stage")
        loss, image = parser.get_parsed_content("fusion_loss"), torch.rand(1, 2, 64, 64)
        loss(network(image), image).backward()
        inner = network.network.named_parameters()
        assert {key.split(".")[0] for key, value in inner if value.grad is not None and value.grad.any()} == moved


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_two_steps_then_the_evaluation_of_a_pair(tiny_training, datalist, tmp_path, name):
    kind, _, _, small = PEERS[name]
    network = {"_target_": f"clinicalfmamba_nets.nets.{kind}", **small}
    settings = {key: value for key, value in tiny_training.items() if key not in ("features", "dim", "depth")}
    settings |= {"epochs": 1, "network_def": network, "output_dir": str(tmp_path / "run")}
    run_bundle("fusion_2d", "train", [f"peers/{name}"], settings)
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["settings"]["graph"]["network"] == kind
    pair = json.loads(datalist.read_text())["testing"][0]
    one = datalist.parent / f"one_{name}.json"
    one.write_text(json.dumps({"testing": [pair]}))
    found = {"datalist": str(one), "dataset_dir": str(datalist.parent), "ckpt_path": str(tmp_path / "run" / "model.pt")}
    found |= {"network_def": network, "output_dir": str(tmp_path / "scores"), "metrics": ["qabf", "ssim"]}
    run_bundle("fusion_2d", "inference", ["evaluate", f"peers/{name}"], found)
    table = (tmp_path / "scores" / "table.md").read_text()
    assert f"| {LABELS.get(name, kind)} |" in table and "| maximum |" in table
