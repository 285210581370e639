"""Results in color: one file of many frames or a file for each slice, valid, in place, equal to what was given."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.colour import apply_palette
from clinicalfmamba_nets.io.dicom.read import write_dicom


def datasets(folder):
    import pydicom

    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


def colors(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3))


@pytest.mark.parametrize("multiframe", [True, False])
@pytest.mark.parametrize("turn", [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [0.6, 0.8, 0, 0, 0, -1]])
def test_colors_and_place_come_back(make_series, tmp_path, multiframe, turn):
    def edit(number, made):
        normal = np.cross(turn[:3], turn[3:])
        made.ImageOrientationPatient = turn
        made.ImagePositionPatient = [f"{value:.6f}" for value in np.array([-10.123456, 5.5, 7]) + 2.2 * number * normal]

    source = make_series(3, edit=edit)
    array, meta = read_image(source)
    write_dicom(tmp_path / "out", colors(array.shape), source, meta["affine"], multiframe=multiframe)
    again, other = read_image(tmp_path / "out")
    assert other["color"] and np.array_equal(again, colors(array.shape))
    assert np.abs(other["affine"] - meta["affine"]).max() < 1e-6


def test_one_file_names_all_images_of_its_sources(make_series, tmp_path):
    source = make_series(3)
    make_series(
        2, SeriesInstanceUID="1.2.9", Modality="CT", edit=lambda n, made: setattr(made, "SOPInstanceUID", f"1.9.{n}")
    )
    settings = "MR: 0.5 to 99.5 %; CT: window 40/80 HU; palette hot_iron"
    write_dicom(
        tmp_path / "out", colors((4, 6, 3)), f"{source}::MR", references=[f"{source}::CT"], multiframe=True,
        settings=settings,
    )  # fmt: skip
    (made,) = datasets(tmp_path / "out")
    assert made.SOPClassUID.name == "Multi-frame True Color Secondary Capture Image Storage"
    assert made.NumberOfFrames == 3 and made.SeriesNumber == 11005 and made.PatientID == "P7"
    assert made.SeriesDescription == "Not for diagnostic use: fused MR+CT in color"
    assert made.DerivationDescription.endswith(settings) and len(made.SourceImageSequence) == 5


def test_grey_beside_color_is_a_series_of_its_own(make_series, tmp_path):
    source = make_series(2)
    array, _ = read_image(source)
    write_dicom(tmp_path / "grey", array, source)
    write_dicom(tmp_path / "color", colors(array.shape), source)
    grey, color = datasets(tmp_path / "grey")[0], datasets(tmp_path / "color")[0]
    assert grey.StudyInstanceUID == color.StudyInstanceUID and grey.SeriesInstanceUID != color.SeriesInstanceUID
    assert (grey.SeriesNumber, color.SeriesNumber) == (10005, 11005)
    with pytest.raises(ValueError, match="multiframe: expected an image in color"):
        write_dicom(tmp_path / "grey", array, source, multiframe=True)


def test_colors_of_a_palette_are_stored_entry_by_entry(make_series, tmp_path):
    values = np.linspace(0, 1, 256).reshape(4, 64, 1)
    plane = np.zeros((64, 4), "<u2").tobytes()
    source = make_series(1, Rows=64, PixelData=plane)
    write_dicom(tmp_path / "out", apply_palette(values, "hot_iron"), source, multiframe=True)
    again, _ = read_image(tmp_path / "out")
    assert np.array_equal(again.reshape(256, 3), apply_palette(np.arange(256) / 255, "hot_iron"))


@pytest.mark.parametrize("lossy", [True, False])
def test_loss_of_the_second_source_is_told(make_series, tmp_path, lossy):
    source = make_series(1)
    told = {"LossyImageCompression": "01", "LossyImageCompressionRatio": 10} if lossy else {}
    other = make_series(1, "other", SeriesInstanceUID="1.2.9", **told)
    write_dicom(tmp_path / "out", read_image(source)[0], source, references=[other])
    assert datasets(tmp_path / "out")[0].get("LossyImageCompression") == ("01" if lossy else None)


SOURCES = ["ct_phantom_5mm", "mr_t1gd_vsseg001", "ct_gantry_tilt", "mr_enhanced_philips", "mr_rgb"]


@pytest.mark.slow
@pytest.mark.parametrize("multiframe", [True, False])
@pytest.mark.parametrize("name", SOURCES)
def test_an_independent_validator_finds_no_error_in_color(shared_data, tmp_path, name, multiframe):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (Debian: apt install dicom3tools)")
    source = shared_data / "dicom" / name
    array, meta = read_image(source)
    shape = array.shape[:3]
    write_dicom(tmp_path / "out", colors(shape), source, meta["affine"], references=[source], multiframe=multiframe)
    for file in sorted((tmp_path / "out").iterdir())[:2]:
        told = subprocess.run(["dciodvfy", file], capture_output=True, text=True, errors="replace", check=False).stderr
        assert "Image" in told and not [line for line in told.splitlines() if line.startswith("Error")], told


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["PT", "NM", "CT", "MR"])
def test_an_independent_validator_finds_no_error_in_made_series(make_series, tmp_path, modality):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (Debian: apt install dicom3tools)")
    kind = {"PT": "128", "NM": "20", "CT": "2", "MR": "4"}[modality]
    settings = {"ImageType": ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]} if modality == "NM" else {}
    source = make_series(3, Modality=modality, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}", **settings)
    array, _ = read_image(source)
    for place, (pixels, frames) in enumerate(
        [(array, False), (colors(array.shape), True), (colors(array.shape), False)]
    ):
        write_dicom(tmp_path / f"out{place}", pixels, source, references=[source], multiframe=frames)
        file = next((tmp_path / f"out{place}").iterdir())
        told = subprocess.run(["dciodvfy", file], capture_output=True, text=True, errors="replace", check=False).stderr
        assert "Image" in told and not [line for line in told.splitlines() if line.startswith("Error")], told
