"""Slices that are missing where their places do not show it, and right studies of which nothing is said."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from clinicalfmamba_nets.io.dicom.study import list_series, open_study


def one(path):
    """The only series of a folder."""
    (row,) = list_series(path)
    return row


def test_each_second_slice_that_is_missing_is_told(make_series):
    def every_second(number, made):
        made.InstanceNumber, made.ImagePositionPatient = 2 * number + 1, [-10, -20, 30 + 4 * number]

    (told,) = one(make_series(4, edit=every_second)).warnings
    assert told.startswith("slices every 4 mm by their places and 2 mm by their headers, InstanceNumber 2 (0020,0013)")
    gaps = one(make_series(4, "gaps", edit=lambda n, made: setattr(made, "InstanceNumber", 2 * n + 1)))
    sparse = one(make_series(4, "sparse", edit=lambda n, m: setattr(m, "ImagePositionPatient", [0, 0, 4 * n])))
    assert gaps.warnings == sparse.warnings == []  # echoes in two series; slices with a gap


@pytest.mark.parametrize(("stated", "told"), [(6, True), (4, False), (0, False), (None, False)])
def test_a_pet_that_lacks_slices_at_an_end_is_told(make_series, stated, told):
    pet = {"Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "RescaleSlope": 1, "RescaleIntercept": 0}
    edit = (lambda n, made: None) if stated is None else lambda n, made: setattr(made, "NumberOfSlices", stated)
    warnings = one(make_series(4, edit=edit, **pet)).warnings
    assert [text[:36] for text in warnings] == ["4 slices of 6 by NumberOfSlices (005"] * told


def stating(**elements):
    """An edit of slices that sets elements of each."""

    def edit(number, made):
        for keyword, value in elements.items():
            setattr(made, keyword, value)

    return edit


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"ImagesInAcquisition": 6}, "4 slices of 6 by ImagesInAcquisition (0020,1002): the others are missing"),
        ({"NumberOfSlices": 6}, "4 slices of 6 by NumberOfSlices (0054,0081): the others are missing"),
        ({"ImagesInAcquisition": 4, "NumberOfSlices": 4}, ""),
        ({"ImagesInAcquisition": 3}, ""),  # of one of several acquisitions
        ({"ImagesInAcquisition": 0}, ""),
        ({"ImagesInAcquisition": 6, "NumberOfSlices": 6, "ImageType": ["DERIVED", "PRIMARY", "MPR"]}, ""),
    ],
)
def test_a_ct_or_mr_that_lacks_slices_at_an_end_is_told(make_series, modality, stated, told):
    warnings = one(make_series(4, edit=stating(**stated), Modality=modality)).warnings
    assert [text.partition(", copy")[0] for text in warnings] == [told] * bool(told)


def test_a_count_of_slices_by_philips_is_compared(make_series):
    def counted(number, made):
        made.add_new(0x20010010, "LO", "Philips Imaging DD 001")
        made.add_new(0x20011018, "SL", 9)

    (told,) = one(make_series(4, edit=counted)).warnings
    assert told.startswith("4 slices of 9 by Number of Slices MR (2001,1018)")


def test_images_of_one_acquisition_in_two_series_are_no_loss(make_series):
    edit = stating(ImagesInAcquisition=7)
    folder = make_series(4, edit=edit, Modality="CT")
    assert "4 slices of 7" in one(folder).warnings[0]
    make_series(3, edit=edit, Modality="CT", SeriesInstanceUID="1.2.9", SeriesNumber=9)
    assert [row.warnings for row in list_series(folder)] == [[], []]


def test_scouts_and_copies_in_the_series_count_among_its_images(make_series):
    def scout(number, made):
        made.ImagesInAcquisition = 13
        if number == 12:
            made.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    (told,) = one(make_series(13, edit=scout)).warnings
    assert told.startswith("1 scout image (localizer) in the series, left out")


def test_single_slices_that_are_opened_alone_are_no_loss(make_series):
    folder = make_series(4, edit=stating(ImagesInAcquisition=4))
    assert one(next(folder.iterdir())).warnings == []


def numbered(start, step=1):
    def edit(number, made):
        made.InstanceNumber = start + step * number

    return edit


@pytest.mark.parametrize(
    ("start", "count", "told"),
    [(1, 5, False), (0, 5, False), (4, 5, True), (6, 5, False), (101, 5, False), (55, 12, True), (9, 2, False)],
)
def test_numbers_that_do_not_begin_at_1_are_told_unless_another_contrast_explains_them(make_series, start, count, told):
    warnings = one(make_series(count, edit=numbered(start))).warnings
    text = f"InstanceNumber (0020,0013) goes from {start} to {start + count - 1}: slices before them may be missing"
    assert [warning.partition(", compare")[0] for warning in warnings] == [text] * told


def test_numbers_that_are_no_count_of_slices_are_not_told(make_series):
    backwards = numbered(8, -1)
    shuffled = lambda n, made: setattr(made, "InstanceNumber", [5, 3, 4, 7, 6][n])  # noqa: E731
    assert "from 4 to 8" in one(make_series(5, "backwards", edit=backwards)).warnings[0]
    assert one(make_series(5, "shuffled", edit=shuffled)).warnings == []
    assert one(make_series(5, "wide", edit=numbered(4, 2))).warnings == []
    assert one(make_series(5, "derived", edit=numbered(4), ImageType=["DERIVED", "SECONDARY"])).warnings == []


def test_numbers_that_run_on_through_a_study_are_not_told(make_series):
    folder = make_series(4)
    make_series(7, edit=numbered(5), SeriesInstanceUID="1.2.9", SeriesNumber=9)
    make_series(6, edit=numbered(12), SeriesInstanceUID="1.2.10", SeriesNumber=10)
    assert [row.warnings for row in list_series(folder)] == [[], [], []]


def test_a_contrast_that_lacks_slices_another_has_is_told(make_series):
    folder = make_series(5, EchoTime=11)
    make_series(3, EchoTime=90, edit=lambda n, made: setattr(made, "SOPInstanceUID", f"1.2.8.{n}"))
    first, second = list_series(folder)
    assert first.warnings == []
    assert second.warnings == ["3 slices, EchoTime=11 has 5: the others are missing, copy the whole series"]


def test_a_file_of_a_concatenation_that_is_missing_is_told(dicom_file, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()

    def part(number):
        def edit(made):
            made.SOPInstanceUID, made.ConcatenationUID = f"1.2.7.{number}", "1.2.6"
            made.InConcatenationNumber, made.InConcatenationTotalNumber = number, 3
            made.PixelData = made.PixelData * 2
            for frame, group in enumerate(made.PerFrameFunctionalGroupsSequence):
                position = Dataset()
                position.ImagePositionPatient = [-10, -20, 30 + 2 * (2 * number + frame)]
                group.PlanePositionSequence = [position]

        return edit

    for number in (1, 2):
        dicom_file(folder / f"{number}.dcm", 2, part(number))
    (row,) = open_study(folder).series
    assert row.shape[2] == 4
    assert row.warnings[0].startswith("2 files of 3 by InConcatenationTotalNumber (0020,9163): the others are missing")
    dicom_file(folder / "3.dcm", 2, part(3))
    assert one(folder).warnings == []
