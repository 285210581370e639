"""The comparison of networks at one budget: its plan, what it goes on with, its tables."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import peers
from clinicalfmamba_nets.data import write_phantom_pair
from clinicalfmamba_nets.errors import FusionInputError


@pytest.fixture(scope="module")
def datalist(tmp_path_factory):
    """A list of ten phantom pairs of 48 x 48 pixels."""
    folder, rows = tmp_path_factory.mktemp("pairs"), []
    for seed in range(10):
        mri, ct = write_phantom_pair(folder / str(seed), "ct_mri", 48, seed)
        rows.append({"image": str(mri.relative_to(folder)), "image2": str(ct.relative_to(folder)), "case": str(seed)})
    path = folder / "list.json"
    path.write_text(json.dumps({"training": rows[:8], "testing": rows[8:]}))
    return path


def test_every_overlay_belongs_to_a_network(checkout):
    overlays = {path.stem for path in (checkout / "bundles/fusion_2d/configs/peers").glob("*.json")}
    assert {overlay for stages in peers.STAGES.values() for overlay in stages} - {""} == overlays


def test_a_budget_becomes_whole_epochs_once(tmp_path, datalist, monkeypatch):
    monkeypatch.setattr(peers, "step_seconds", lambda parser: 10.0)
    stage = peers.Stage("ct_mri", "eh_dran", tmp_path / "run", {"datalist": str(datalist)})
    assert stage.state() == {} and stage.done() == 0 and not stage.finished()
    found = peers.plan(stage, 1.0)  # 7 pairs in 2 steps of 10 s: 3 epochs a minute
    assert (found["epochs"], found["steps"], found["cpu_seconds"]) == (3, 2, 0.0)
    assert peers.plan(stage, 50.0) == found == stage.state()
    other = peers.Stage("ct_mri", "eh_dran", tmp_path / "other", {"datalist": str(datalist)})
    assert peers.plan(other, 0.01)["epochs"] == 1
    (stage.folder / "run.json").write_text(json.dumps({"epochs": {"done": 2, "planned": 3}}))
    (stage.folder / "model.pt").touch()
    assert stage.done() == 2 and not stage.finished()
    (stage.folder / "run.json").write_text(json.dumps({"epochs": {"done": 3, "planned": 3}}))
    assert stage.finished()


def test_a_step_is_timed_with_the_loss_of_its_overlay(tmp_path, datalist):
    stage = peers.Stage("ct_mri", "eh_dran", tmp_path, {"datalist": str(datalist)})
    parser = stage.opened()
    parser.update({"patch_size": [16, 16], "network_def::features": 4})
    assert 0 < peers.step_seconds(parser) < 5


def test_cost_and_its_table():
    found = peers.cost(torch.nn.Conv2d(2, 1, 3, padding=1, bias=False), 32)
    assert (
        found["parameters"] == 18 and found["gflop"] == pytest.approx(2 * 18 * 32 * 32 / 1e9) and found["seconds"] > 0
    )
    table = peers.cost_table({"a": found, "b": {**found, "cpu_minutes": 1.26, "epochs": "2 + 1", "steps": 3}})
    assert table.splitlines()[2].startswith("| a | 18 | 0.0 |") and "see model card" in table
    assert table.splitlines()[3].endswith("| 1.3 | 2 + 1 | 3 |")


def test_the_document_has_the_marks(checkout, tmp_path):
    document = tmp_path / "page.md"
    document.write_text((checkout / "docs/explanation/comparison.md").read_text())
    peers.write_document(document, "### ct_mri")
    assert "### ct_mri" in document.read_text() and "No table stands here yet" not in document.read_text()
    with pytest.raises(FusionInputError, match="expected a document with both marks"):
        peers.write_document(tmp_path / "none.md", "")


@pytest.mark.slow
def test_it_trains_scores_and_goes_on(tmp_path, datalist, capfd):
    words = ["--datalist", str(datalist), "-o", str(tmp_path), "--tasks", "ct_mri", "--minutes", "0.01", "--size", "32"]
    assert peers.main([*words, "--networks", "EH-DRAN"]) == 0
    text, weights = (tmp_path / "peers.md").read_text(), tmp_path / "ct_mri" / "eh_dran" / "model.pt"
    assert "| EH-DRAN | 414,081 |" in text and "| maximum |" in text and "SwinFusion" not in text
    assert "0.01 CPU minutes" in text and "2 test pairs" in text
    before = weights.stat().st_mtime_ns
    assert peers.main([*words, "--networks", "EH-DRAN"]) == 0
    assert (
        weights.stat().st_mtime_ns == before
        and (tmp_path / "peers.md").read_text().splitlines()[:5] == text.splitlines()[:5]
    )
    assert "[1/1] ct_mri: EH-DRAN" in capfd.readouterr().out
