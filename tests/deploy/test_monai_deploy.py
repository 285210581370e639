"""The MONAI Deploy application, run as its users run it, in the environment of its own requirements."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.io import read_image

pytestmark = pytest.mark.slow
APP = Path(__file__).resolve().parents[2] / "deploy" / "monai_deploy"


@pytest.fixture
def run_app(interpreter, toy_bundles, monkeypatch):
    """`run_app(study, out, ...)` gives the finished process; its bundles have random weights."""
    python = interpreter("monai.deploy.operators", "CLINICALFMAMBA_DEPLOY_PYTHON")
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(toy_bundles))

    def run(study, out, *options):
        command = [python, APP, "-i", study, "-o", out, "--device", "cpu", *options]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)

    return run


@pytest.fixture
def refused(interpreter, toy_bundles):
    """`refused(runs, ...)` gives the errors of runs that all fail, in one process: the SDK takes long to start."""
    python = interpreter("monai.deploy.operators", "CLINICALFMAMBA_DEPLOY_PYTHON")

    def run(runs, **variables):
        words = [[str(word) for word in (*options, "--device", "cpu")] for options in runs]
        code = f"import sys; sys.path.insert(0, {str(APP)!r}); from command import main; "
        code += f"sys.exit(sum(main(words) for words in {words!r}))"
        environment = {**os.environ, "CLINICALFMAMBA_BUNDLES": str(toy_bundles), **variables}
        command = [python, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == len(words) == len(told) and "Traceback" not in done.stderr, done.stderr
        return told

    return run


def cause(done):
    """The last line on stderr."""
    return done.stderr.strip().splitlines()[-1]


def fused_by_the_bundle(folder, image, image2, task, bundle="fusion_2d"):
    """The volume that the bundle itself makes of two series."""
    case = {"case": "study", "image": f"{folder}::{image}", "image2": f"{folder}::{image2}"}
    return FusionPipeline(task, "cpu", bundle=bundle)(case)["pred"][0].numpy()


def assert_equals(out, expected, source):
    """The written series holds these values, rounded to its stored steps, on the source's grid."""
    fused, meta = read_image(out / "study_fused")
    _, place = read_image(source)
    step = float(_headers(out)[0].get("RescaleSlope", 1))
    assert fused.shape == expected.shape and np.ptp(fused) > 0
    assert np.abs(fused - expected).max() <= 0.51 * step + 1e-4 * np.ptp(expected)
    assert np.abs(meta["affine"] - place["affine"]).max() < 1e-3


def _headers(out):
    import pydicom

    return [pydicom.dcmread(file) for file in sorted((out / "study_fused").iterdir())]


def test_rules_choose_two_contrasts_and_the_output_equals_the_bundles(run_app, small_study, tmp_path):
    out = tmp_path / "out"
    done = run_app(small_study, out, "--rules", APP / "rules" / "pd_with_t2.json")
    assert done.returncode == 0, done.stderr
    assert sorted(item.name for item in out.iterdir()) == ["study_fused", "study_preview.png", "study_view.html"]
    expected = fused_by_the_bundle(small_study, "EchoTime=11", "EchoTime=92", "t2_flair")
    assert_equals(out, expected, f"{small_study}::EchoTime=11")
    made = _headers(out)[0]
    assert made.ImageType[0] == "DERIVED" and "Not for diagnostic use" in made.SeriesDescription
    assert len(made.SourceImageSequence) == 2 and made.SOPClassUID.name == "MR Image Storage"
    if shutil.which("dciodvfy"):
        file = out / "study_fused" / "IM0001.dcm"
        assert "Error" not in subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False).stderr


def test_without_rules_the_mri_comes_first_and_own_results_are_not_taken_again(run_app, mixed_study, tmp_path):
    out = tmp_path / "out"
    assert run_app(mixed_study, out).returncode == 0
    assert_equals(out, fused_by_the_bundle(mixed_study, "MR", "CT", "ct_mri"), f"{mixed_study}::MR")
    shutil.copytree(out / "study_fused", mixed_study / "result")
    again = run_app(mixed_study, out, "--rules", APP / "rules" / "mri_with_other.json", "--task", "spect_mri")
    assert again.returncode == 0, again.stderr
    shutil.rmtree(mixed_study / "result")
    assert_equals(out, fused_by_the_bundle(mixed_study, "MR", "CT", "spect_mri"), f"{mixed_study}::MR")


def test_the_bundle_for_volumes_fuses_the_whole_series(run_app, shared_data, tmp_path):
    study, out = shutil.copytree(shared_data / "dicom" / "mr_pd_t2_dual_echo", tmp_path / "study"), tmp_path / "out"
    done = run_app(study, out, "--bundle", "fusion_3d")
    assert done.returncode == 0, done.stderr
    expected = fused_by_the_bundle(study, "EchoTime=11", "EchoTime=92", "t2_flair", "fusion_3d")
    assert expected.shape == (64, 64, 35)
    assert_equals(out, expected, f"{study}::EchoTime=11")
    assert (out / "study_preview.png").is_file()
    assert '"status": "done"' in (out / "study_view.html").read_text()


def test_an_unclear_choice_leaves_no_output(run_app, small_study, tmp_path):
    rules = {"selections": [{"name": name, "conditions": {"Modality": "MR"}} for name in ("image", "image2")]}
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    done = run_app(small_study, tmp_path / "out", "--rules", tmp_path / "rules.json")
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert "expected one series that fits the rule of image, found #1 MR" in cause(done)


def test_rules_that_cannot_be_used(refused, small_study, tmp_path):
    texts = {"JSONDecodeError": "{", "those for nothing": '{"selections": []}', "No such file": None}
    runs = []
    for number, text in enumerate(texts.values()):
        rules = tmp_path / f"{number}_rules.json"
        if text is not None:
            rules.write_text(text)
        runs.append(["-i", small_study, "-o", tmp_path / "out", "--rules", rules])
    for found, line in zip(texts, refused(runs), strict=True):
        assert found in line and "rules.json: expected selection rules" in line
    assert not (tmp_path / "out").exists()


def test_paths_come_from_the_variables_of_a_container(refused, tmp_path):
    told = refused([["-i", tmp_path / "missing"], []], HOLOSCAN_INPUT_PATH=str(tmp_path / "elsewhere"))
    assert "missing: expected the folder of a study, found no such folder" in told[0]
    assert "elsewhere: expected" in told[1]


def report_of(out):
    """The written report, and its texts by what they are about."""
    import pydicom

    report = pydicom.dcmread(out / "study_grade.dcm")
    items = [item for item in report.ContentSequence if item.ValueType == "TEXT"]
    return report, {item.ConceptNameCodeSequence[0].CodeValue: item.TextValue for item in items}


def test_a_glioma_is_graded_as_the_bundle_grades_it(
    run_app, grading_study, grading_model, graded_by_the_bundle, tmp_path
):
    out = tmp_path / "out"
    done = run_app(grading_study, out, "--app", "glioma_grading", "--model", grading_model)
    assert done.returncode == 0, done.stderr
    assert sorted(item.name for item in out.iterdir()) == ["study_grade.dcm", "study_preview.png"]
    report, told = report_of(out)
    assert float(told["PROBABILITY"]) == pytest.approx(graded_by_the_bundle["mean"], abs=1e-6)
    assert float(told["GREATEST"]) == pytest.approx(graded_by_the_bundle["max"], abs=1e-6)
    grade = "high" if graded_by_the_bundle["mean"] >= 0.5 else "low"
    assert told["GRADE"].startswith(grade) and int(told["SLICES"]) == graded_by_the_bundle["slices"]
    assert "whole brain" in told["REGION"] and "whole brain" in done.stderr
    assert "t2_tse_tra" in told["SOURCE_T2"] and "t2_flair_tra" in told["SOURCE_FLAIR"]
    assert "input clinicalfmamba" in told["METHOD"]
    assert report.SOPClassUID.name == "Basic Text SR Storage" and "Not for diagnostic use" in report.SeriesDescription
    assert (report.PatientID, report.PatientBirthDate, report.StudyInstanceUID) == ("P7", "19700101", "1.2.3.1")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {item.SeriesInstanceUID: len(item.ReferencedSOPSequence) for item in study.ReferencedSeriesSequence}
    assert listed == {"1.2.3.2.3": 20, "1.2.3.2.2": 20}
    assert (out / "study_preview.png").read_bytes().startswith(b"\x89PNG")
    if shutil.which("dciodvfy"):
        validator = subprocess.run(["dciodvfy", out / "study_grade.dcm"], capture_output=True, text=True, check=False)
        assert "BasicTextSR" in validator.stderr and "Error" not in validator.stderr, validator.stderr


def test_no_grade_without_trained_weights_or_a_clear_choice(refused, grading_study, grading_model, checkout, tmp_path):
    import pydicom

    for file in grading_study.glob("1_*.dcm"):
        image = pydicom.dcmread(file)
        image.SeriesDescription = "t2_blade_cor"
        image.save_as(file)
    source = checkout / "bundles" / "glioma_grading"
    bundle = shutil.copytree(source, tmp_path / "bundles" / source.name, ignore=shutil.ignore_patterns("output"))
    words = "expected weights of a trained grading network"
    expected = {
        ("--model", tmp_path / "none"): f"none/model.pt: {words}",
        ("--model", bundle.parent): f"output/run1/clinicalfmamba/model.pt: {words}",
        ("--model", grading_model, "--task", "ct_mri"): "--task: expected none",
        ("--model", grading_model): "expected one series that fits the rule of image, found #1 MR 1 t2_blade_cor",
    }
    given = ["-i", grading_study, "-o", tmp_path / "out", "--app", "glioma_grading"]
    told = refused([[*given, *options] for options in expected])
    for text, line in zip(expected.values(), told, strict=True):
        assert text in line and (words not in text or "train first" in line), line
    assert not (tmp_path / "out").exists()
