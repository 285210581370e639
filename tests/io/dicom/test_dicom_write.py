"""Derived DICOM series: geometry, identity, references, validity, and whole or not at all."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image, write_image
from clinicalfmamba_nets.io.dicom.header import read_dataset
from clinicalfmamba_nets.io.dicom.modules import decimal
from clinicalfmamba_nets.io.dicom.read import write_dicom


def headers(folder):
    """Datasets of a written series, in the order of its names."""
    import pydicom

    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


def test_a_round_trip_keeps_values_and_place(make_series, tmp_path):
    source = make_series(4, Modality="CT")
    array, meta = read_image(source)
    write_dicom(tmp_path / "out", array + 7.0, source, meta["affine"])
    again, other = read_image(tmp_path / "out")
    assert np.array_equal(again, array + 7) and np.abs(other["affine"] - meta["affine"]).max() < 1e-6


def test_what_is_kept_and_what_is_new(make_series, tmp_path):
    source = make_series(3)
    make_series(3, SeriesInstanceUID="1.2.9", Modality="CT", StudyInstanceUID="1.2.10")
    array, _ = read_image(f"{source}::MR")
    write_dicom(tmp_path / "out", array, f"{source}::MR", references=[f"{source}::CT"])
    made = headers(tmp_path / "out")
    first = made[0]
    assert (first.PatientID, first.PatientName, first.StudyInstanceUID) == ("P7", "Test^Head", "1.2.3.1")
    assert first.FrameOfReferenceUID == "1.2.3.3" and first.SeriesInstanceUID != "1.2.3.2"
    assert len({item.SOPInstanceUID for item in made}) == 3 and len({item.SeriesInstanceUID for item in made}) == 1
    assert first.ImageType[:2] == ["DERIVED", "SECONDARY"] and first.SeriesDescription.startswith(
        "Not for diagnostic use"
    )
    assert "1.2.3.2 and 1.2.9" in first.DerivationDescription and first.SoftwareVersions
    references = [item.ReferencedSOPInstanceUID for item in first.SourceImageSequence]
    assert references == ["1.2.3.2.1", "1.2.3.2.1"], "one slice of each source; the test gives both the same UIDs"
    assert first.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.2"
    other = first.StudiesContainingOtherReferencedInstancesSequence[0]
    assert (other.StudyInstanceUID, other.ReferencedSeriesSequence[0].SeriesInstanceUID) == ("1.2.10", "1.2.9")


@pytest.mark.parametrize(("low", "high"), [(-3e4, 2e4), (0, 1e6), (0, 1e-3), (-5, -5)])
def test_any_range_is_stored_with_16_bits(make_series, tmp_path, low, high):
    source = make_series(2)
    array = np.linspace(low, high, 48).reshape(4, 6, 2)
    write_dicom(tmp_path / "out", array, source)
    assert np.abs(read_image(tmp_path / "out")[0] - array).max() <= max(
        (high - low) / 65535, 0.5 if low < -1e4 else 1e-4
    )


def test_color_becomes_secondary_capture(make_series, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 2, 3)).astype(float)
    write_dicom(tmp_path / "out", array, make_series(2))
    again, meta = read_image(tmp_path / "out")
    assert meta["color"] and np.array_equal(again, array)
    assert headers(tmp_path / "out")[0].SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"


def test_values_of_the_source_that_are_not_valid_are_left_out(make_series, tmp_path, caplog):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = make_series(2, PatientBirthDate="1990/1", PatientAge="0Y", SeriesDescription="../../evil")
    write_dicom(tmp_path / "out", read_image(source)[0], source)
    assert headers(tmp_path / "out")[0].PatientBirthDate == "" and "PatientAge" not in headers(tmp_path / "out")[0]
    assert caplog.text.count("PatientBirthDate of the source is not valid") == 1


def test_an_interrupted_write_leaves_nothing(make_series, tmp_path, monkeypatch):
    source = make_series(3)
    array, _ = read_image(source)

    def stop(made, used):
        if made.InstanceNumber == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("clinicalfmamba_nets.io.dicom.encoding.add_references", stop)
    with pytest.raises(KeyboardInterrupt):
        write_dicom(tmp_path / "out", array, source)
    assert [item.name for item in tmp_path.iterdir()] == ["series"]


def test_only_results_of_its_own_are_replaced(make_series, tmp_path):
    source = make_series(2)
    array, _ = read_image(source)
    write_dicom(tmp_path / "out", array, source)
    write_dicom(tmp_path / "out", array + 1, source)
    assert read_image(tmp_path / "out")[0].min() == array.min() + 1
    with pytest.raises(FusionInputError, match="expected a new folder"):
        write_dicom(source, array, source)
    assert np.array_equal(read_image(source)[0], array)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(FusionInputError):
        write_dicom(tmp_path / "out", array, source)


def test_what_cannot_be_written(make_series, tmp_path):
    source = make_series(2)
    array, meta = read_image(source)
    with pytest.raises(FusionInputError, match="expected 4 x 6 x 2 voxels"):
        write_dicom(tmp_path / "out", array[:2], source)
    with pytest.raises(FusionInputError, match="another affine"):
        write_dicom(tmp_path / "out", array, source, meta["affine"] + np.eye(4))
    with pytest.raises(FusionInputError, match="expected a DICOM series to derive from, found none"):
        write_dicom(tmp_path / "out", array)
    with pytest.raises(FusionInputError, match="NaN"):
        write_dicom(tmp_path / "out", array * np.nan, source)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [-161.07467269897461, 1e-20, 123456789.123456789, -1.2345678901234e-9, -0.0, 5.0])
def test_numbers_fit_into_16_characters(value):
    text = decimal(value)
    assert len(text) <= 16 and float(text) == pytest.approx(value, rel=1e-9, abs=1e-25)


VALID = [
    "ct_phantom_5mm",
    "mr_t1gd_vsseg001",
    "mr_pd_t2_dual_echo::EchoTime=11",
    "ct_gantry_tilt",
    "mr_enhanced_philips",
    "mr_non_isotropic_rescale",
    "mr_rgb",
    "nibabel_singles/slicethickness_empty_string.dcm",
    "wg04/CT1_J2KR.dcm",
]


@pytest.mark.parametrize("name", VALID)
def test_an_independent_validator_finds_no_error(shared_data, tmp_path, name):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (Debian: apt install dicom3tools)")
    source = shared_data / "dicom" / name
    array, meta = read_image(source)
    write_dicom(tmp_path / "out", array, source, meta["affine"], references=[source])
    for file in sorted((tmp_path / "out").iterdir())[:2]:
        told = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False).stderr
        assert "Image" in told and not [line for line in told.splitlines() if line.startswith("Error")], told


@pytest.mark.parametrize(
    "name", ["ct_phantom_5mm", "mr_hitachi_oblique", "mr_non_isotropic_rescale", "mr_enhanced_philips"]
)
def test_fused_dicom_as_nifti_lies_where_the_source_lies(shared_data, tmp_path, name):
    source = shared_data / "dicom" / name
    array, meta = read_image(source)
    write_dicom(tmp_path / "out", array, source, meta["affine"])
    again, other = read_image(tmp_path / "out")
    write_image(tmp_path / "fused.nii.gz", again.astype(np.float32), affine=other["affine"])
    _, nifti = read_image(tmp_path / "fused.nii.gz")
    assert np.abs(nifti["affine"] - meta["affine"]).max() < 1e-3
    assert np.abs(again - array.astype(float)).max() <= np.ptp(array) / 65535


def test_itk_reads_the_fused_series_at_the_place_of_the_source(shared_data, tmp_path):
    import itk

    source = shared_data / "dicom" / "mr_hitachi_oblique"
    array, meta = read_image(source)
    write_dicom(tmp_path / "out", array, source, meta["affine"])
    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(str(tmp_path / "out"))
    image = itk.imread(list(names.GetFileNames(names.GetSeriesUIDs()[0])), itk.F)
    corner = np.diag([-1, -1, 1, 1]) @ meta["affine"] @ [63, 63, 3, 1]
    assert np.abs(np.array(image.TransformIndexToPhysicalPoint([63, 63, 3])) - corner[:3]).max() < 1e-3
    assert np.array_equal(itk.array_from_image(image).transpose(2, 1, 0), array)


@pytest.mark.parametrize(("first", "second", "told"), [("NO", "YES", "YES"), ("NO", "NO", "NO"), ("NO", None, None)])
@pytest.mark.parametrize("color", [False, True])
def test_burned_in_text_is_told_as_the_sources_tell_it(make_series, tmp_path, first, second, told, color):
    sources = [
        make_series(
            2, name, edit=lambda n, made, word=word: setattr(made, "BurnedInAnnotation", word) if word else None
        )
        for name, word in (("a", first), ("b", second))
    ]
    array = read_image(sources[0])[0]
    array = np.stack([array % 256] * 3, -1) if color else array
    write_dicom(tmp_path / "out", array, sources[0], references=[sources[1]], multiframe=color)
    made = read_dataset(next((tmp_path / "out").iterdir()))
    assert made.get("BurnedInAnnotation") == (told or ("NO" if color else None))
