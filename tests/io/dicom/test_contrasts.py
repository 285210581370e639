"""Contrasts, time points, copies and scouts that share one series."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.study import open_study

# What tells two or three parts of a series apart: element, values, and the selector of the second part.
TELLING = {
    "EchoTime": ((10.0, 90.0), "EchoTime=90"),
    "InversionTime": ((100.0, 2500.0), "InversionTime=2500"),
    "FlipAngle": ((3.0, 15.0), "FlipAngle=15"),
    "DiffusionBValue": ((0.0, 1000.0), "DiffusionBValue=1000"),
    "ImageType": ((["ORIGINAL", "PRIMARY", "M", "ND"], ["ORIGINAL", "PRIMARY", "P", "ND"]), "ImageType=*/P/*"),
    "EchoNumbers": ((1, 2), "EchoNumbers=2"),
    "SequenceName": (("*se2d1", "*tir2d1"), "SequenceName=?tir2d1"),
    "ConvolutionKernel": (("H30s", "H60s"), "ConvolutionKernel=H60s"),
    "SeriesDescription": (("T2 [ax], fat", "T2 [ax], water"), "SeriesDescription=T2 ?ax?? water"),
    "FrameReferenceTime": ((30000.0, 30300.0, 30600.0), "FrameReferenceTime=30300"),
    "AcquisitionTime": (("120000", "120010", "120020"), "AcquisitionTime=120010"),
    "TemporalPositionIdentifier": ((1, 2, 3), "TemporalPositionIdentifier=2"),
    "SliceThickness": ((3.0, 6.0), "SliceThickness=6"),
    "StackID": (("1", "2"), "StackID=2"),
}


def add(make_series, count, part, edit=None, **settings):
    """Add a part to the series of the folder: own files and SOP instances."""

    def change(number, made):
        made.SOPInstanceUID = f"1.2.3.2.{part}.{number}"
        made.PixelData = np.full(24, 100 * part + number, "<u2").tobytes()
        if edit:
            edit(number, made)

    folder = make_series(count, f"part{part}", edit=change, **settings)
    target = folder.parent / "study"
    target.mkdir(exist_ok=True)
    for file in folder.iterdir():
        shutil.copy(file, target / f"{part}_{file.name[-7:]}")
    return target


@pytest.mark.parametrize("keyword", TELLING)
def test_slices_that_lie_on_each_other_are_told_apart_by(make_series, keyword):
    values, selector = TELLING[keyword]
    for part, value in enumerate(values):
        folder = add(make_series, 4, part, **{keyword: value})
    rows = open_study(folder).series
    assert [(len(row.slices), row.problem) for row in rows] == [(4, "")] * len(values)
    assert read_image(f"{folder}::{selector}")[0][0, 0].tolist() == [100, 101, 102, 103]
    for row in rows:  # what is printed chooses
        assert open_study(folder).choose(row.short).split == row.split
        assert row.text().endswith(("  --series " + row.short, f"  --series '{row.short}'"))


def test_parts_are_split_again_where_that_is_needed(make_series):
    for part, (kind, echo) in enumerate((("W", 0.0), ("F", 0.0), ("IP", 2.3), ("OP", 1.15))):
        folder = add(make_series, 3, part, ImageType=["DERIVED", "PRIMARY", kind, kind], EchoTime=echo)
    study = open_study(folder)
    assert [row.problem for row in study.series] == [""] * 4
    assert read_image(f"{folder}::ImageType=*F*F")[0].flat[0] == 100
    assert study.choose("EchoTime=2.3").value("ImageType") == "DERIVED\\PRIMARY\\IP\\IP"


def test_directions_without_a_mark_leave_the_rest_to_be_chosen(make_series):
    for part, value in enumerate((0.0, 800.0, 800.0, 800.0)):
        folder = add(make_series, 3, part, DiffusionBValue=value)
    assert read_image(f"{folder}::DiffusionBValue=0")[0].shape == (4, 6, 3)
    with pytest.raises(FusionInputError, match="found 3 at each of 3 places, and no element that tells them apart"):
        read_image(f"{folder}::DiffusionBValue=800")


@pytest.mark.parametrize("directions", [1, 3])
def test_a_trace_without_a_b_value_is_told_from_the_images_it_was_made_of(make_series, directions):
    for part, value in enumerate((0.0, *(1000.0,) * directions)):
        add(make_series, 3, part, DiffusionBValue=value)
    folder = add(make_series, 3, 4)
    short = [row.split for row in open_study(folder).series if not row.problem]
    assert short == [
        f"DiffusionBValue={value}" for value in (["0", "1000", "none"] if directions == 1 else ["0", "none"])
    ]
    assert read_image(f"{folder}::DiffusionBValue=none")[0][0, 0].tolist() == [400, 401, 402]


def test_time_points_whose_slices_have_times_of_their_own(make_series):
    for part in range(3):
        folder = add(
            make_series,
            3,
            part,
            edit=lambda n, made, part=part: setattr(made, "AcquisitionTime", f"12{part:02d}{n:02d}"),
        )
    assert [row.split for row in open_study(folder).series] == ["TimePoint=1", "TimePoint=2", "TimePoint=3"]
    assert read_image(f"{folder}::TimePoint=3")[0][0, 0].tolist() == [200, 201, 202]


@pytest.mark.parametrize("low, high", [(11.0, 11.02), (90.0, 90.85), (3.1, 3.13)])
def test_jitter_of_one_contrast_is_no_contrast(make_series, low, high):
    folder = make_series(6, EchoTime=low, edit=lambda n, made: n % 2 and setattr(made, "EchoTime", high))
    (row,) = open_study(folder).series
    assert len(row.slices) == 6 and not row.warnings and not row.split
    assert open_study(folder).choose(f"EchoTime={low}") is not None


def test_two_reconstructions_of_other_thickness_are_two_whole_stacks(make_series):
    def thin(number, made):
        made.ImagePositionPatient = [*made.ImagePositionPatient[:2], 30 + number]

    add(make_series, 4, 0, SliceThickness=2)
    folder = add(make_series, 7, 1, edit=thin, SliceThickness=1)
    rows = open_study(folder).series
    assert [(row.split, len(row.slices), row.problem, row.warnings) for row in rows] == [
        ("SliceThickness=1", 7, "", []),
        ("SliceThickness=2", 4, "", []),
    ]


def test_slabs_of_one_stack_stay_together_with_a_warning(make_series):
    folder = make_series(6, EchoTime=80.0, edit=lambda n, made: n > 2 and setattr(made, "EchoTime", 95.0))
    (row,) = open_study(folder).series
    assert row.warnings == ["EchoTime differs from slice to slice (80 to 95): taken as one volume"]
    with pytest.raises(FusionInputError, match="expected two series to fuse, found 1 of 1"):
        open_study(folder).pair()


@pytest.mark.parametrize("lacking", [0, 2, 5])
def test_one_slice_without_a_mark_is_a_slice_like_the_others(make_series, lacking):
    folder = make_series(6, EchoTime=90, edit=lambda n, made: n == lacking and delattr(made, "EchoTime"))
    (row,) = open_study(folder).series
    assert len(row.slices) == 6 and "no EchoTime in" in row.warnings[0]


def test_a_slice_without_a_mark_goes_where_one_lacks(make_series):
    add(make_series, 5, 0, EchoTime=11)
    folder = add(make_series, 5, 1, edit=lambda n, made: n == 3 and delattr(made, "EchoTime"), EchoTime=92)
    first, second = open_study(folder).series
    assert (len(first.slices), len(second.slices)) == (5, 5) and "put where a slice was lacking" in second.warnings[0]
    assert read_image(f"{folder}::EchoTime=92")[0][0, 0].tolist() == [100, 101, 102, 103, 104]


def test_contrasts_between_each_other_are_told_apart(make_series):
    folder = make_series(8, edit=lambda n, made: setattr(made, "EchoTime", 90 if n % 2 else 12))
    assert [(row.split, row.spacing[2]) for row in open_study(folder).series] == [
        ("EchoTime=12", 4),
        ("EchoTime=90", 4),
    ]


def test_equal_copies_are_dropped_and_others_refused(make_series):
    folder = make_series(4)
    files = sorted(folder.iterdir())
    (folder / "copies").mkdir()
    for file in files[1:3]:
        shutil.copy(file, folder / "copies" / file.name)
    (row,) = open_study(folder).series
    assert row.shape == (4, 6, 4) and "equal copies, left out: " in row.notes[0]
    data = bytearray((folder / "copies" / files[1].name).read_bytes())
    data[-2] ^= 1
    (folder / "copies" / files[1].name).write_bytes(data)
    with pytest.raises(FusionInputError, match=r"SOPInstanceUID \(0008,0018\).*which differ"):
        read_image(folder)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("size", [6, 10])
def test_scouts_in_a_series_are_left_out(make_series, labelled, size):
    def scout(number, made):
        made.ImageOrientationPatient, made.Rows = [0, 1, 0, 0, 0, -1], size
        made.PixelData = bytes(8 * size)
        if labelled:
            made.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    add(make_series, 8, 0)
    folder = add(make_series, 1, 1, edit=scout)
    (row,) = open_study(folder).series
    assert row.shape == (4, 6, 8) and row.warnings[0].startswith(
        "1 scout image (localizer) in the series, left out: 1_"
    )
    assert read_image(folder)[1]["warnings"] == row.warnings


def frame(position, turn, **settings):
    """Functional groups of one Enhanced frame."""
    group = Dataset()

    def item(sequence, **values):
        one = Dataset()
        for key, value in values.items():
            setattr(one, key, value)
        setattr(group, sequence, [one])

    item("PlanePositionSequence", ImagePositionPatient=[float(value) for value in position])
    item("PlaneOrientationSequence", ImageOrientationPatient=[float(value) for value in turn])
    item("PixelMeasuresSequence", PixelSpacing=[1.0, 1.0], SliceThickness=2.0)
    item("FrameContentSequence", StackID=settings.get("stack", "1"))
    item("MRModifierSequence", InversionTimes=[float(settings.get("ti", 100))])
    item("MRTimingAndRelatedParametersSequence", FlipAngle=float(settings.get("flip", 90)))
    item("MRImageFrameTypeSequence", FrameType=["ORIGINAL", "PRIMARY", settings.get("kind", "M"), "NONE"])
    return group


def enhanced(make_series, frames):
    """One Enhanced MR file; the pixels of each frame hold its number in the file."""

    def edit(number, made):
        made.SOPClassUID, made.NumberOfFrames = "1.2.840.10008.5.1.4.1.1.4.1", len(frames)
        made.PerFrameFunctionalGroupsSequence, made.SharedFunctionalGroupsSequence = frames, [Dataset()]
        made.PixelData = b"".join(np.full(24, place, "<u2").tobytes() for place in range(len(frames)))
        del made.ImagePositionPatient, made.ImageOrientationPatient, made.PixelSpacing, made.SliceThickness

    return make_series(1, edit=edit)


AXIAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)


def test_enhanced_frames_are_placed_by_position_not_by_index(make_series):
    order = [3, 0, 2, 1, 4]
    folder = enhanced(make_series, [frame((0, 0, 2 * place), AXIAL) for place in order])
    assert read_image(folder)[0][0, 0].tolist() == [order.index(place) for place in range(5)]


@pytest.mark.parametrize("name, values", [("ti", (100, 2200)), ("flip", (5, 20)), ("kind", ("M", "P"))])
def test_enhanced_contrasts_are_split_by_their_functional_groups(make_series, name, values):
    frames = [frame((0, 0, 2 * place), AXIAL, **{name: value}) for value in values for place in range(3)]
    rows = open_study(enhanced(make_series, frames)).series
    assert [[item.frame for item in row.slices] for row in rows] == [[0, 1, 2], [3, 4, 5]]


def test_enhanced_stacks_of_two_planes_are_split_by_stack(make_series):
    frames = [frame((0, 0, 2 * place), AXIAL, stack="A") for place in range(3)]
    frames += [frame((2 * place, 0, 0), SAGITTAL, stack="B") for place in range(4)]
    rows = open_study(enhanced(make_series, frames)).series
    assert [(row.split, row.shape[2], row.problem) for row in rows] == [("StackID=A", 3, ""), ("StackID=B", 4, "")]


def _twice(folder, change):
    """Write each file again beside itself, changed."""
    for path in sorted(folder.iterdir()):
        made = pydicom.dcmread(path)
        change(made)
        made.save_as(folder / f"0_{path.name}", enforce_file_format=True)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_an_image_exported_twice_under_two_headers_is_one(make_series, packed):
    def anonymised(made):
        made.PatientID, made.PatientName, made.SeriesDescription = "", "Anonymous", "no name"
        if packed:
            made.compress(pydicom.uid.RLELossless, generate_instance_uid=False)

    (row,) = open_study(_twice(make_series(4), anonymised)).series
    assert row.problem == "" and row.shape == (4, 6, 4)
    assert row.notes[0].startswith("the same images under another header, left out: ")


def test_of_an_image_exported_twice_the_patient_of_the_others_is_kept(make_series):
    folder = make_series(4)
    made = pydicom.dcmread(sorted(folder.iterdir())[2])
    made.PatientID = "ANON"
    made.save_as(folder / "0.dcm", enforce_file_format=True)
    (row,) = open_study(folder).series
    assert row.problem == "" and {header.patient for header in row.headers.values()} == {"P7"}


@pytest.mark.parametrize("keyword", ["PixelData", "ImagePositionPatient", "RescaleSlope"])
def test_two_images_that_say_to_be_one_are_refused(make_series, keyword):
    def change(made):
        value = {"ImagePositionPatient": [-10, -20, 99], "RescaleSlope": 2}
        setattr(made, keyword, value.get(keyword) or bytes(len(made.PixelData)))

    (row,) = open_study(_twice(make_series(4, RescaleSlope=1, RescaleIntercept=0), change)).series
    assert "SOPInstanceUID (0008,0018) of its own" in row.problem and "which differ" in row.problem


def enhanced_parts(dicom_file, path, mark):
    """An enhanced MR of two contrasts at the same three places, 100 apart; `mark(contrast, group)` tells them apart."""

    def edit(made):
        from pydicom.dataset import Dataset

        made.PixelData = b"".join((np.arange(24, dtype="<u2") + 100 * part).tobytes() for part in (0, 0, 0, 1, 1, 1))
        for number, group in enumerate(made.PerFrameFunctionalGroupsSequence):
            place = Dataset()
            place.ImagePositionPatient = [-10, -20, 30 + 2 * (number % 3)]
            group.PlanePositionSequence = [place]
            mark(number // 3, group)

    return dicom_file(path, 6, edit)


def of_component(part, group):
    from pydicom.dataset import Dataset

    kind = Dataset()
    kind.FrameType, kind.ComplexImageComponent = ["ORIGINAL", "PRIMARY", "M", "NONE"], ["MAGNITUDE", "PHASE"][part]
    group.MRImageFrameTypeSequence = [kind]


def of_direction(part, group):
    from pydicom.dataset import Dataset

    diffusion, direction = Dataset(), Dataset()
    direction.DiffusionGradientOrientation = [[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]][part]
    diffusion.DiffusionBValue, diffusion.DiffusionGradientDirectionSequence = 1000.0, [direction]
    group.MRDiffusionSequence = [diffusion]


@pytest.mark.parametrize(
    ("mark", "chosen"),
    [
        (of_component, ["ComplexImageComponent=MAGNITUDE", "ComplexImageComponent=PHASE"]),
        (of_direction, ["DiffusionGradientOrientation=1.0/0.0/0.0", "DiffusionGradientOrientation=0.0/0.6/0.8"]),
    ],
)
def test_components_and_directions_of_an_enhanced_mr_are_chosen(dicom_file, tmp_path, mark, chosen):
    path = enhanced_parts(dicom_file, tmp_path / "a.dcm", mark)
    assert sorted(row.split for row in open_study(path).series) == sorted(chosen)
    for part, selector in enumerate(chosen):
        assert read_image(f"{path}::{selector}")[0].flat[0] == 100 * part
