"""SPECT and PET as cameras store them: multi-frame NM placed by its detector, SPECT stored as PET, planar images."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.header import Header
from clinicalfmamba_nets.io.dicom.kinds import role_of
from clinicalfmamba_nets.io.dicom.study import open_study

NM, PET = "1.2.840.10008.5.1.4.1.1.20", "1.2.840.10008.5.1.4.1.1.128"
AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
TILTED = (1, 0, 0, 0, float(np.cos(0.3)), float(np.sin(0.3)))
SHAPE, LESION = (4, 6, 5), (1, 4, 3)


def counts():
    """A volume (columns, rows, slices) of different values with an off-centre lesion."""
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    values[LESION] = 900
    return values


def spect(make_series, turn=AXIAL, between=4.0, thickness=4.0, order=None, edit=None, kind="RECON TOMO"):
    """One multi-frame NM file; `order` are the slice numbers of the frames."""
    order = list(order or range(1, SHAPE[2] + 1))

    def change(number, made):
        made.SOPClassUID, made.ImageType = NM, ["ORIGINAL", "PRIMARY", kind, "EMISSION"]
        made.NumberOfFrames = made.NumberOfSlices = SHAPE[2]
        made.SliceVector, made.SpacingBetweenSlices, made.SliceThickness = order, between, thickness
        detector = Dataset()
        detector.ImageOrientationPatient, detector.ImagePositionPatient = list(turn), [-8.0, 12.5, 40.25]
        made.DetectorInformationSequence = [detector]
        made.PixelData = b"".join(counts()[:, :, place - 1].T.astype("<u2").tobytes() for place in order)
        del made.ImagePositionPatient, made.ImageOrientationPatient
        if edit:
            edit(number, made)

    return make_series(1, "spect", edit=change, Modality="NM", PixelSpacing=[2.5, 2.0], BitsStored=16, HighBit=15)


def place_of(turn, between, index):
    """Where a voxel (column, row, slice) lies, in RAS mm."""
    turn = np.array(turn, dtype=float)
    place = np.array([-8.0, 12.5, 40.25]) + turn[:3] * 2.0 * index[0] + turn[3:] * 2.5 * index[1]
    return (place + np.cross(turn[:3], turn[3:]) * between * index[2]) * [-1, -1, 1]


@pytest.mark.parametrize("turn", [AXIAL, SAGITTAL, CORONAL, TILTED])
@pytest.mark.parametrize("between", [4.0, -4.0, 6.4])
@pytest.mark.parametrize("order", [None, (5, 4, 3, 2, 1), (2, 1, 4, 3, 5)])
def test_a_reconstructed_spect_lies_where_its_detector_says(make_series, turn, between, order):
    array, info = read_image(spect(make_series, turn, between, order=order))
    assert info["modality"] == "NM" and array.shape == SHAPE
    index = np.argwhere(array == 900)[0]
    assert np.allclose(info["affine"] @ [*index, 1], [*place_of(turn, between, LESION), 1], atol=1e-6)
    for value in (0, 17, 119):
        index, true = np.argwhere(array == value)[0], np.argwhere(counts() == value)[0]
        assert np.allclose((info["affine"] @ [*index, 1])[:3], place_of(turn, between, true), atol=1e-6)


def test_a_spect_without_distance_takes_the_thickness_and_says_so(make_series):
    folder = spect(make_series, between=None, thickness=3.5)
    array, info = read_image(folder)
    assert np.linalg.norm(info["affine"][:3, 2]) == 3.5 and array.shape == SHAPE
    assert info["warnings"] == [
        "no SpacingBetweenSlices (0018,0088): SliceThickness 3.5 mm is taken for the distance of slices"
    ]
    with pytest.raises(FusionInputError, match=r"distance of slices in SpacingBetweenSlices \(0018,0088\), found none"):
        read_image(spect(make_series, between=None, thickness=None))


@pytest.mark.parametrize(
    "keyword, tag", [("ImagePositionPatient", "0020,0032"), ("ImageOrientationPatient", "0020,0037")]
)
def test_a_spect_without_place_is_refused_by_name(make_series, keyword, tag):
    folder = spect(make_series, edit=lambda n, made: delattr(made.DetectorInformationSequence[0], keyword))
    with pytest.raises(FusionInputError, match=rf"expected {keyword} \({tag}\), found none"):
        read_image(folder)


@pytest.mark.parametrize("kind", ["STATIC", "DYNAMIC", "WHOLE BODY", "TOMO", "GATED", "GATED TOMO"])
def test_planar_images_are_refused_by_name(make_series, kind):
    with pytest.raises(FusionInputError, match=f"found a planar nuclear medicine image, {kind} "):
        read_image(spect(make_series, kind=kind))


def test_energy_windows_and_time_slots_are_told_apart(make_series):
    def two(number, made):
        made.NumberOfFrames, made.SliceVector = 10, [*range(1, 6), *range(1, 6)]
        made.EnergyWindowVector, made.PixelData = [1] * 5 + [2] * 5, made.PixelData + bytes(len(made.PixelData))

    folder = spect(make_series, edit=two)
    assert [row.split for row in open_study(folder).series] == ["EnergyWindow=1", "EnergyWindow=2"]
    assert read_image(f"{folder}::EnergyWindow=1")[0].max() == 900
    assert read_image(f"{folder}::EnergyWindow=2")[0].max() == 0


def test_windows_without_slice_numbers_are_counted_apart(make_series):
    def two(number, made):
        made.NumberOfFrames, made.EnergyWindowVector = 10, [1] * 5 + [2] * 5
        made.PixelData = made.PixelData + bytes(len(made.PixelData))
        del made.SliceVector

    folder = spect(make_series, edit=two)
    assert [row.shape for row in open_study(folder).series] == [SHAPE, SHAPE]
    assert (read_image(f"{folder}::EnergyWindow=1")[0] == counts()).all()


def detectors(made, *offsets):
    """Give a file several detectors, so far from the first one (mm along the body)."""
    items = [copy.deepcopy(made.DetectorInformationSequence[0]) for _ in offsets]
    for item, offset in zip(items, offsets, strict=True):
        item.ImagePositionPatient = [-8.0, 12.5, 40.25 + offset]
    made.DetectorInformationSequence = items


def windows(made, count):
    made.EnergyWindowInformationSequence = [Dataset() for _ in range(count)]


@pytest.mark.parametrize(
    "edit, told",
    [
        (lambda n, made: detectors(made, 0, 0), ""),
        (
            lambda n, made: detectors(made, 0, 30),
            "2 detectors 30 mm apart, and no DetectorVector (0054,0020): the place",
        ),
        (lambda n, made: windows(made, 2), "2 energy windows, but no EnergyWindowVector (0054,0010) tells which"),
        (
            lambda n, made: (windows(made, 2), setattr(made, "EnergyWindowVector", [2] * 5)),
            "of 2 energy windows, number 2 is shown",
        ),
        (lambda n, made: windows(made, 1), ""),
    ],
)
def test_what_is_taken_of_several_detectors_and_windows_is_told(make_series, edit, told):
    array, info = read_image(spect(make_series, edit=edit))
    assert np.allclose(info["affine"] @ [*LESION, 1], [*place_of(AXIAL, 4.0, LESION), 1])
    assert [text[: len(told)] for text in info["warnings"]] == [told] * bool(told)


def test_two_detectors_are_told_apart_by_their_vector(make_series):
    def two(number, made):
        detectors(made, 0, 0)
        made.NumberOfFrames, made.SliceVector = 10, [*range(1, 6), *range(1, 6)]
        made.DetectorVector, made.PixelData = [1] * 5 + [2] * 5, made.PixelData + bytes(len(made.PixelData))

    folder = spect(make_series, edit=two)
    assert [row.split for row in open_study(folder).series] == ["Detector=1", "Detector=2"]
    assert read_image(f"{folder}::Detector=2")[0].max() == 0


def test_the_second_detector_lies_where_it_says(make_series):
    def second(number, made):
        detectors(made, 0, 30)
        made.DetectorVector = [2] * 5

    affine = read_image(spect(make_series, edit=second))[1]["affine"]
    assert np.allclose(affine @ [0, 0, 0, 1], [8.0, -12.5, 70.25, 1])


@pytest.mark.parametrize(
    "edit, problem",
    [
        (lambda n, made: delattr(made, "SliceVector"), r"expected 5 frames by NumberOfSlices \(0054,0081\), found 10"),
        (
            lambda n, made: setattr(made, "EnergyWindowVector", [1, 2]),
            "for each of 10 frames in EnergyWindowVector, found",
        ),
        (lambda n, made: setattr(made, "DetectorVector", [3] * 10), "expected a detector of 1 in DetectorVector"),
    ],
)
def test_frames_that_cannot_be_put_in_order_are_refused(make_series, edit, problem):
    def double(number, made):
        made.NumberOfFrames, made.PixelData = 10, made.PixelData * 2
        made.SliceVector = [*range(1, 6), *range(1, 6)]
        edit(number, made)

    with pytest.raises(FusionInputError, match=problem):
        read_image(spect(make_series, edit=double))


def test_spect_beside_an_mr_is_its_partner(make_series, tmp_path):
    folder = spect(make_series)
    for file in folder.iterdir():
        file.rename(tmp_path / "spect.dcm")
    folder = make_series(3, "spect", SeriesInstanceUID="1.2.9")
    (tmp_path / "spect.dcm").rename(folder / "spect.dcm")
    assert [row.modality for row in open_study(folder).pair().series] == ["MR", "NM"]


@pytest.mark.parametrize(
    "settings, modality",
    [
        ({"SeriesDescription": "SPECT HMPAO brain"}, "NM"),
        ({"tracer": "^99m^Technetium"}, "NM"),
        ({"tracer": "Tc-99m ECD"}, "NM"),
        ({"tracer": "^18^Fluorine"}, "PT"),
        ({"SeriesDescription": "PET AC"}, "PT"),
        ({"SeriesDescription": "SPECT/CT room, FDG"}, "PT"),
        ({}, "PT"),
    ],
)
def test_spect_that_is_stored_as_pet_is_known_by_its_tracer_or_name(make_series, settings, modality):
    settings = dict(settings)
    tracer = settings.pop("tracer", None)

    def edit(number, made):
        if tracer:
            given, code = Dataset(), Dataset()
            code.CodeMeaning = tracer
            given.RadionuclideCodeSequence = [code]
            made.RadiopharmaceuticalInformationSequence = [given]

    folder = make_series(4, edit=edit, Modality="PT", SOPClassUID=PET, **settings)
    (row,) = open_study(folder).series
    assert row.modality == modality and row.header.modality == "PT" and row.problem == ""
    assert open_study(folder).choose("PT") is not None and bool(row.notes) == (modality == "NM")


def converted(folder, out):
    """The volume that dcm2niix makes of a folder."""
    import nibabel

    program = os.environ.get("CLINICALFMAMBA_DCM2NIIX") or shutil.which("dcm2niix")
    if not program:
        pytest.skip("no dcm2niix: pip install dcm2niix, or set CLINICALFMAMBA_DCM2NIIX to the program")
    subprocess.run(
        [program, "-z", "n", "-b", "n", "-f", "made", "-o", str(out), str(folder)], check=True, capture_output=True
    )
    (file,) = out.glob("*.nii")
    image = nibabel.load(file)
    return np.asarray(image.dataobj), image.affine


def agree(folder, out):
    """Compare every voxel's value and place with those of dcm2niix."""
    array, info = read_image(folder)
    other, affine = converted(folder, out)
    index = np.indices(array.shape).reshape(3, -1)
    places = np.linalg.inv(affine) @ info["affine"] @ np.vstack([index, np.ones(index.shape[1])])
    near = np.rint(places[:3]).astype(int)
    assert np.abs(affine[:3, :3] @ (places[:3] - near)).max() < 1e-3, "mm"
    assert (other[tuple(near)] == array[tuple(index)]).all()


# Stacks that run to the left, back or head: dcm2niix puts frames there whatever their normal is (see findings/).
@pytest.mark.parametrize("turn", [AXIAL, (0, 1, 0, 0, 0, 1), CORONAL])
def test_geometry_is_that_of_dcm2niix_where_it_stacks_along_the_normal(make_series, tmp_path, turn):
    (tmp_path / "out").mkdir()
    agree(spect(make_series, turn), tmp_path / "out")


@pytest.mark.parametrize("turn", [AXIAL, SAGITTAL, TILTED])
@pytest.mark.parametrize("modality, sop_class", [("PT", PET), ("MR", "1.2.840.10008.5.1.4.1.1.4")])
def test_slices_lie_where_dcm2niix_puts_them(make_series, tmp_path, turn, modality, sop_class):
    normal = np.cross(turn[:3], turn[3:])

    def edit(number, made):
        made.ImageOrientationPatient = list(turn)
        made.ImagePositionPatient = [
            float(round(value, 9)) for value in np.array([-8, 12.5, 40.25]) + 2 * number * normal
        ]
        made.StudyDate, made.StudyTime, made.Manufacturer = "20240101", "120000", "SIEMENS"

    (tmp_path / "out").mkdir()
    agree(make_series(5, edit=edit, Modality=modality, SOPClassUID=sop_class), tmp_path / "out")


def test_a_transmission_scan_is_no_partner():
    header = Header(Path("a.dcm"), modality="NM", image_type=("ORIGINAL", "PRIMARY", "RECON TOMO", "TRANSMISSION"))
    assert "transmission scan" in role_of(header)
    header.image_type = ("ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION")
    assert role_of(header) == ""
