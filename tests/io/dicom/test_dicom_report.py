"""Results in words as DICOM SR: identity, references, words, validity, and whole or not at all."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io.dicom.report import COMMENT, own_concept, write_report

TITLE = own_concept("REPORT", "Result of a test")
ITEMS = [(own_concept("GRADE", "Grade"), "high grade"), (COMMENT, "read by nobody")]


def read(path):
    import pydicom

    return pydicom.dcmread(path)


def words(report):
    """Meaning and text of each item in words."""
    items = [item for item in report.ContentSequence if item.ValueType == "TEXT"]
    return [(item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue) for item in items]


def test_patient_study_and_words(make_series, tmp_path):
    source = make_series(PatientBirthDate="19700101", StudyID="S1", AccessionNumber="A1")
    write_report(tmp_path / "report.dcm", TITLE, ITEMS, [source], "a1b2")
    report = read(tmp_path / "report.dcm")
    assert report.SOPClassUID.name == "Basic Text SR Storage" and report.Modality == "SR"
    kept = ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyID", "AccessionNumber")
    assert [str(report[name].value) for name in kept] == ["Test^Head", "P7", "19700101", "1.2.3.1", "S1", "A1"]
    assert report.SeriesInstanceUID != "1.2.3.2" and report.VerificationFlag == "UNVERIFIED"
    assert "Not for diagnostic use" in report.SeriesDescription
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "Result of a test"
    assert words(report)[1:] == [
        ("Comment", "Not for diagnostic use."),
        ("Grade", "high grade"),
        ("Comment", "read by nobody"),
    ]


def test_all_images_of_both_series_are_the_evidence(make_series, tmp_path):
    first = make_series(3, "first")

    def number(place, made):
        made.SOPInstanceUID = f"1.2.3.4.{place + 1}"

    second = make_series(2, "second", edit=number, SeriesInstanceUID="1.2.3.4")
    other = make_series(2, "other", StudyInstanceUID="1.2.9.1", SeriesInstanceUID="1.2.9.2")
    write_report(tmp_path / "report.dcm", TITLE, ITEMS, [first, second, other], "a1b2")
    report = read(tmp_path / "report.dcm")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {item.SeriesInstanceUID: item.ReferencedSOPSequence for item in study.ReferencedSeriesSequence}
    assert study.StudyInstanceUID == "1.2.3.1" and set(listed) == {"1.2.3.2", "1.2.3.4"}
    named = [image.ReferencedSOPInstanceUID for image in listed["1.2.3.2"]]
    assert named == ["1.2.3.2.1", "1.2.3.2.2", "1.2.3.2.3"]
    assert {image.ReferencedSOPClassUID.name for image in listed["1.2.3.4"]} == {"MR Image Storage"}
    assert [item.StudyInstanceUID for item in report.PertinentOtherEvidenceSequence] == ["1.2.9.1"]


def test_two_contrasts_of_one_series_are_listed_once(make_series, tmp_path):
    def edit(place, made):
        made.EchoTime, made.ImagePositionPatient = (10, 90)[place % 2], [-10, -20, place // 2]

    source = make_series(6, edit=edit)
    pair = [f"{source}::EchoTime={echo}" for echo in (10, 90)]
    write_report(tmp_path / "report.dcm", TITLE, ITEMS, pair, "a1b2")
    (study,) = read(tmp_path / "report.dcm").CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert len({image.ReferencedSOPInstanceUID for image in series.ReferencedSOPSequence}) == 6


def test_the_observer_is_a_device_of_its_own_for_each_model(make_series, tmp_path):
    source, found = make_series(), []
    for name, model in (("a", "x"), ("b", "x"), ("c", "y")):
        write_report(tmp_path / name, TITLE, ITEMS, [source], model)
        items = [item for item in read(tmp_path / name).ContentSequence if item.ValueType == "UIDREF"]
        found += [item.UID for item in items]
    assert found[0] == found[1] != found[2]
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in found)


@pytest.mark.parametrize(
    ("charset", "told"),
    [("ISO_IR 144", "series голова"), ("ISO_IR 192", "series голова"), ("", r"series \u0433\u043e")],
)
def test_letters_are_those_of_the_source(make_series, tmp_path, charset, told):
    name = "Иванов^Иван" if charset else "Test^Head"
    source = make_series(SpecificCharacterSet=charset, PatientName=name)
    write_report(tmp_path / "report.dcm", TITLE, [(COMMENT, "series голова\ufffd")], [source], "a1b2")
    report = read(tmp_path / "report.dcm")
    assert str(report.PatientName) == name and words(report)[-1][1].startswith(told)
    assert "\ufffd" not in words(report)[-1][1]


def test_refused_without_a_series_and_nothing_left(tmp_path):
    (tmp_path / "image.nii").write_bytes(b"0" * 400)
    with pytest.raises(FusionInputError, match="expected a DICOM series to derive from"):
        write_report(tmp_path / "report.dcm", TITLE, ITEMS, [tmp_path / "image.nii"], "a1b2")
    assert [item.name for item in tmp_path.iterdir()] == ["image.nii"]


@pytest.mark.parametrize("name", ["mr_pd_t2_dual_echo::EchoTime=11", "mr_t1gd_vsseg001", "mr_enhanced_philips"])
def test_a_validator_finds_no_error(shared_data, tmp_path, name):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (Debian: apt install dicom3tools)")
    write_report(tmp_path / "report.dcm", TITLE, ITEMS, [shared_data / "dicom" / name], "a1b2")
    told = subprocess.run(["dciodvfy", tmp_path / "report.dcm"], capture_output=True, text=True, check=False).stderr
    assert "BasicTextSR" in told and "Error" not in told, told
