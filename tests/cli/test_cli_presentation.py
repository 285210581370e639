"""The DICOM fusion set of `fuse`: beside the series by default, on request, never, and gone with its result."""

from __future__ import annotations

import json

import pydicom
import pytest

pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'clinicalfmamba-nets[dicomweb]'")
pytestmark = pytest.mark.slow


def told(folder):
    """What run.json tells about the case."""
    return json.loads((folder / "run.json").read_text())["details"]["study"]


@pytest.mark.parametrize("modality", ["CT", "PT", "NM"])
def test_a_state_over_both_sources_lies_beside_the_series(toy_cli, head_study, tmp_path, modality):
    done = toy_cli("fuse", head_study("study", modality), "-o", tmp_path / "out")
    assert done.code == 0, done.err
    (file,) = (tmp_path / "out" / "study_presentation").iterdir()
    state = pydicom.dcmread(file)
    sources = [pydicom.dcmread(tmp_path / "study" / f"{kind}00.dcm") for kind in ("MR", modality)]
    named = [item.SeriesInstanceUID for item in state.AdvancedBlendingSequence]
    assert named == [source.SeriesInstanceUID for source in sources]
    fused = pydicom.dcmread(tmp_path / "out" / "study_fused" / "IM0001.dcm")
    assert fused.StudyInstanceUID == state.StudyInstanceUID == sources[0].StudyInstanceUID
    low, high = (told(tmp_path / "out")["intensity"][1][key] for key in ("low", "high"))
    window = state.AdvancedBlendingSequence[1].SoftcopyVOILUTSequence[0]
    ends = window.WindowCenter - window.WindowWidth / 2, window.WindowCenter + window.WindowWidth / 2
    assert [float(end) for end in ends] == pytest.approx([low, high], rel=1e-6, abs=1e-3)
    assert "study_presentation" in done.out
    text = state.ContentDescription
    assert ("hot_iron" in text) == (modality != "CT") and f"{modality} on MR" in text


def test_never_leaves_no_state_of_an_earlier_result(toy_cli, head_study, tmp_path):
    study, place = head_study(), tmp_path / "out" / "study_presentation"
    assert toy_cli("fuse", study, "-o", tmp_path / "out").code == 0 and place.is_dir()
    other = toy_cli("fuse", study, "-o", tmp_path / "out", "--presentation", "never")
    assert other.code == 1 and "--overwrite" in other.cause and place.is_dir()
    done = toy_cli("fuse", study, "-o", tmp_path / "out", "--presentation", "never", "--overwrite")
    assert done.code == 0 and not place.exists() and "presentation" not in told(tmp_path / "out")


def test_nothing_of_another_program_is_replaced(toy_cli, head_study, tmp_path):
    place = tmp_path / "out" / "study_presentation"
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    done = toy_cli("fuse", head_study(), "-o", tmp_path / "out", "--presentation", "always")
    assert done.code == 1 and "notes.txt" in done.cause and (place / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "out" / "study_fused").exists()


def test_a_series_without_a_frame_of_reference_is_fused_without_a_state(toy_cli, head_study, tmp_path):
    def edit(number, made):
        del made.FrameOfReferenceUID

    study = head_study(edit=edit)
    done = toy_cli("fuse", study, "-o", tmp_path / "out")
    assert done.code == 0 and "note: no presentation state" in done.out and "(0020,0052)" in done.out
    assert ".tmp" not in done.out, "the hidden folder of a result in the making"
    assert (tmp_path / "out" / "study_fused").is_dir() and not (tmp_path / "out" / "study_presentation").exists()
    refused = toy_cli("fuse", study, "-o", tmp_path / "other", "--presentation", "always")
    assert refused.code == 1 and "(0020,0052)" in refused.cause
    assert [item.name for item in (tmp_path / "other").iterdir()] == ["run.json"]


def test_a_result_of_another_format_has_a_state_only_on_request(toy_cli, head_study, tmp_path):
    study = head_study()
    assert toy_cli("fuse", study, "-o", tmp_path / "out", "--format", "nifti").code == 0
    assert not (tmp_path / "out" / "study_presentation").exists()
    done = toy_cli("fuse", study, "-o", tmp_path / "two", "--format", "nifti", "--presentation", "always")
    assert done.code == 0 and (tmp_path / "two" / "study_presentation" / "PR0001.dcm").is_file()


def test_a_registered_pair_has_its_registration_in_the_set(toy_cli, head_study, tmp_path):
    def edit(number, made):
        made.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.77"

    study = head_study(slices=12, shift=3, edit=edit)
    done = toy_cli("fuse", study, "-o", tmp_path / "out", "--register", "rigid")
    assert done.code == 0, done.err
    names = sorted(item.name for item in (tmp_path / "out" / "study_presentation").iterdir())
    assert names == ["PR0001.dcm", "REG0001.dcm"]
    registration = pydicom.dcmread(tmp_path / "out" / "study_presentation" / "REG0001.dcm")
    matrix = registration.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    moved = float(matrix.FrameOfReferenceTransformationMatrix[3])
    assert moved == pytest.approx(-6, abs=0.7), "three columns of 2 mm to the left of the image"
