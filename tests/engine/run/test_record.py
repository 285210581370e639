"""run.json: contents, order, whole files only."""

from __future__ import annotations

import json

import pytest

from clinicalfmamba_nets.engine.run.record import CaseResult, RunReport, machine_facts, read_outputs, write_json


def filled(folder, interval=2.0):
    """A report with one case of each status."""
    report = RunReport(folder, {"task": "ct_mri"}, interval)
    report.add(CaseResult("b", "b1.png", "b2.png", "b_fused.png", "b_preview.png", "done"), seconds=0.5, task="ct_mri")
    report.add(CaseResult("a", "a1.png", "a2.png", error="a2.png: expected a PNG file, found text; replace it"))
    report.add(CaseResult("c", "c1.png", "c2.png", "c_fused.png", "c_preview.png", "skipped"))
    return report


def test_written_report(tmp_path):
    content = json.loads(filled(tmp_path).write().read_text())
    assert [entry["case"] for entry in content["outputs"]] == ["b", "a", "c"]
    assert [entry["status"] for entry in content["outputs"]] == ["done", "failed", "skipped"]
    assert set(content["outputs"][0]) == {"case", "image", "image2", "fused", "preview", "status", "error"}
    assert content["outputs"][1]["fused"] is None and "expected a PNG" in content["outputs"][1]["error"]
    assert content["counts"] == {"done": 1, "failed": 1, "skipped": 1}
    assert content["settings"] == {"task": "ct_mri"} and content["details"]["b"]["seconds"] == 0.5
    assert content["finished"] >= content["started"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_report_is_on_the_disk_while_the_run_goes_on(tmp_path):
    filled(tmp_path, interval=0.0)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["finished"] is None and len(content["outputs"]) == 3


def test_read_outputs_joins_details(tmp_path):
    filled(tmp_path).write()
    assert read_outputs(tmp_path)["b"]["task"] == "ct_mri" and read_outputs(tmp_path)["a"]["status"] == "failed"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"outputs": [1]}', '{"outputs": [{"case": "a"}'])
def test_read_outputs_of_a_broken_report_is_empty(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert read_outputs(tmp_path) == {}


def test_read_outputs_of_no_folder_is_empty(tmp_path):
    assert read_outputs(tmp_path / "nowhere") == {}


def test_failed_write_keeps_the_old_file_and_leaves_no_draft(tmp_path):
    path = tmp_path / "run.json"
    write_json({"old": 1}, path)
    with pytest.raises(TypeError):
        write_json({"new": object()}, path)
    assert json.loads(path.read_text()) == {"old": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_names_that_are_not_text_are_escaped(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_json({"image": name}, tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["image"] == name


def test_unknown_status_is_refused(tmp_path):
    with pytest.raises(ValueError, match="status of a: expected one of"):
        RunReport(tmp_path).add(CaseResult("a", "1", "2", status="ok"))


def test_machine_facts_name_what_is_installed():
    facts = machine_facts()
    assert facts["cores"] >= 1 and {"torch", "monai", "numpy"} <= set(facts["packages"])
