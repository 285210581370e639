"""Series found, sorted, judged, listed and chosen."""

from __future__ import annotations

import os
import zlib

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import image_format, read_image
from clinicalfmamba_nets.io.dicom.files import split_selector
from clinicalfmamba_nets.io.dicom.study import choose_pair, choose_series, list_series


def one(path):
    """The only series of a folder."""
    (row,) = list_series(path)
    return row


def test_slices_are_sorted_by_position_not_by_name(make_series):
    array, meta = read_image(make_series(4))
    assert array.shape == (4, 6, 4)
    assert array[0, 0].tolist() == [0, 100, 200, 300]
    assert array[:, 0, 0].tolist() == [0, 1, 2, 3], "the first axis runs along a row of pixels"
    expected = [[-0.75, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1]]
    assert np.allclose(meta["affine"], expected)


def test_the_listing_names_each_series(make_series):
    folder = make_series(3)
    make_series(2, SeriesInstanceUID="1.2.9", SeriesNumber=2, Modality="CT", SeriesDescription="a\x1b[31mb")
    texts = [row.text() for row in list_series(folder)]
    assert texts[0].startswith("#1 CT 2 a\\x1b[31mb 4 x 6 x 2  0.75 x 0.5 x 2 mm")
    assert texts[1].startswith("#2 MR 5 test series 4 x 6 x 3  0.75 x 0.5 x 2 mm  ok")


@pytest.mark.parametrize(
    "selector", ["CT", "ct", "#1", "2", "1.2.9", "Modality=CT", "SeriesDescription=other*", "CT,2"]
)
def test_a_series_is_chosen_by(make_series, selector):
    folder = make_series(3)
    make_series(2, SeriesInstanceUID="1.2.9", SeriesNumber=2, Modality="CT", SeriesDescription="Other one")
    assert choose_series(list_series(folder), selector, "x").header.series == "1.2.9"
    assert read_image(f"{folder}::{selector}")[0].shape == (4, 6, 2)


def test_an_unclear_choice_is_refused(make_series):
    folder = make_series(3)
    make_series(2, SeriesInstanceUID="1.2.9", SeriesNumber=2)
    with pytest.raises(FusionInputError, match="expected one series of images, found 2: #1 MR 2 .*; choose one by"):
        read_image(folder)
    with pytest.raises(FusionInputError, match='expected a series "PT", found only #1 MR 2'):
        read_image(f"{folder}::PT")


def test_two_contrasts_of_one_series_are_split_by_echo_time(make_series):
    folder = make_series(3, EchoTime=11)
    make_series(3, EchoTime=92, edit=lambda number, made: setattr(made, "SOPInstanceUID", f"1.2.4.{number}"))
    rows = list_series(folder)
    assert [(row.split, len(row.slices), row.problem) for row in rows] == [
        ("EchoTime=11", 3, ""),
        ("EchoTime=92", 3, ""),
    ]
    first, second = choose_pair(folder)
    assert (first, second) == (f"{folder}::1.2.3.2,EchoTime=11", f"{folder}::1.2.3.2,EchoTime=92")
    assert read_image(second)[0].shape == (4, 6, 3)


def test_time_points_at_equal_places_are_split_but_never_into_single_slices(make_series):
    folder = make_series(4, edit=lambda number, made: in_turn(number, made, 2))
    assert [row.split for row in list_series(folder)] == ["AcquisitionNumber=0", "AcquisitionNumber=1"]
    folder = make_series(2, "same", edit=lambda number, made: in_turn(number, made, 1))
    assert "found all 2 at one" in one(folder).problem


def in_turn(number, made, places):
    """Put slices at `places` positions again and again."""
    made.ImagePositionPatient = [-10, -20, 30 + 2 * (number % places)]
    made.AcquisitionNumber = number // places


def test_the_only_mr_and_the_only_ct_are_a_pair(make_series):
    folder = make_series(3, SeriesInstanceUID="1.2.7", Modality="CT")
    make_series(3, SeriesInstanceUID="1.2.8", Modality="MR")
    assert choose_pair(folder)[0].endswith("::1.2.8")
    assert choose_pair(folder, ["CT", "MR"])[0].endswith("::1.2.7")
    with pytest.raises(FusionInputError, match="expected two series, found the same one twice"):
        choose_pair(folder, ["CT", "#1"])
    make_series(3, SeriesInstanceUID="1.2.9", Modality="MR")
    with pytest.raises(FusionInputError, match="expected two series to fuse, found 3 of 3 .*; name both"):
        choose_pair(folder)


def test_a_study_without_a_pair_tells_why_a_series_is_none(make_series):
    folder = make_series(3, edit=lambda number, made: number == 2 and delattr(made, "ImagePositionPatient"))
    with pytest.raises(
        FusionInputError, match=r"found 0 of 1 \(#1 MR .*\), #1: expected .*\(0020,0032\).*; add the other series"
    ):
        choose_pair(folder)


def shifted(number, made):
    """Move the slices sideways, evenly: what a tilted gantry gives."""
    made.ImagePositionPatient = [-10, -20 + 0.5 * number, 30 + 2 * number]


def test_a_tilted_gantry_keeps_every_slice_in_its_place(make_series):
    row = one(make_series(4, edit=shifted))
    assert not row.problem and "14.0 degrees off their normal" in row.notes[0]
    assert np.allclose(row.affine @ [0, 0, 3, 1], [10, 18.5, 36, 1])


BAD = {
    "position": (lambda number, made: number == 2 and delattr(made, "ImagePositionPatient"), r"\(0020,0032\)"),
    "position of two numbers": (lambda n, made: setattr(made, "ImagePositionPatient", [1, n]), r"\(0020,0032\)"),
    "orientation": (lambda number, made: delattr(made, "ImageOrientationPatient"), r"\(0020,0037\)"),
    "spacing": (lambda number, made: delattr(made, "PixelSpacing"), r"\(0028,0030\)"),
    "spacing of 0": (lambda number, made: setattr(made, "PixelSpacing", [0, 1]), "positive PixelSpacing"),
    "two spacings": (lambda number, made: setattr(made, "PixelSpacing", [1, 1 + number]), "one PixelSpacing"),
    "no right angle": (
        lambda number, made: setattr(made, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        "unit vectors at right angles",
    ),
    "two orientations": (
        lambda n, made: setattr(made, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0] if n else [0, 1, 0, 0, 0, -1]),
        "expected one orientation",
    ),
    "a gap": (lambda n, made: setattr(made, "ImagePositionPatient", [0, 0, n * 2 + 2 * (n > 1)]), "a slice is missing"),
    "uneven": (lambda n, made: setattr(made, "ImagePositionPatient", [0, 0, n * 2 + 0.3 * (n == 1)]), "even distances"),
    "sideways": (lambda n, made: setattr(made, "ImagePositionPatient", [n == 2, 0, n * 2]), "even distances"),
    "a repeated place": (
        lambda n, made: setattr(made, "ImagePositionPatient", [0, 0, max(n, 1)]),
        "places of their own",
    ),
    "a copy": (lambda number, made: setattr(made, "SOPInstanceUID", "1.2.5"), r"SOPInstanceUID \(0008,0018\)"),
    "two spaces": (lambda n, made: setattr(made, "FrameOfReferenceUID", f"1.2.{n}"), r"one FrameOfReferenceUID"),
    "mosaic": (lambda n, made: setattr(made, "ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "a mosaic of many"),
    "RGB": (lambda n, made: setattr(made, "PhotometricInterpretation", "RGB"), "MONOCHROME2, found RGB"),
    "hue": (lambda n, made: setattr(made, "PhotometricInterpretation", "HSV"), "found HSV"),
    "slope of 0": (lambda n, made: setattr(made, "RescaleSlope", 0), r"RescaleSlope \(0028,1053\)"),
    "frames": (lambda n, made: setattr(made, "NumberOfFrames", 3), "a place for each of 3 frames"),
    "bits": (lambda n, made: setattr(made, "BitsAllocated", 64), r"BitsAllocated \(0028,0100\)"),
    "high bit": (lambda n, made: setattr(made, "HighBit", 16), r"HighBit \(0028,0102\)"),
    "rows": (lambda n, made: setattr(made, "Rows", 60000), r"bytes for Rows x Columns"),
    "no rows": (lambda n, made: setattr(made, "Rows", 0), "expected an image"),
    "ultrasound": (
        lambda n, made: setattr(made, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.6.1"),
        "a CT, MR or PET image",
    ),
    "nuclear": (lambda n, made: setattr(made, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.20"), "nuclear medicine"),
}


PLACES = {
    "a change of distance above": ([0, 2, 4, 6, 8, 12, 16, 20], "even distances"),
    "a change of distance below": ([0, 4, 8, 10, 12, 14, 16, 18], "even distances"),
    "jitter by a fifth": ([0.4, 1.6, 4.4, 5.6, 8.4, 9.6, 12.4, 13.6], "even distances"),
    "one slice lost": ([0, 2, 4, 8, 10, 12, 14, 16], "a slice is missing"),
    "the last slice but one lost": ([0, 2, 4, 6, 8, 10, 12, 16], "a slice is missing"),
    "two slices lost": ([0, 2, 6, 8, 10, 12, 16, 18], "a slice is missing"),
}


@pytest.mark.parametrize("what", PLACES)
def test_lost_slices_are_told_from_uneven_ones(make_series, what):
    places, words = PLACES[what]
    folder = make_series(8, edit=lambda n, made: setattr(made, "ImagePositionPatient", [0, 0, places[n]]))
    assert words in one(folder).problem


def test_orientations_that_jitter_tell_by_how_much(make_series):
    folder = make_series(4, edit=lambda n, made: setattr(made, "ImageOrientationPatient", [1, n % 2 / 500, 0, 0, 1, 0]))
    assert "expected one orientation of all slices, found numbers 0.002 apart (such as in" in one(folder).problem


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_volume_is_listed_and_refused(make_series, what):
    edit, words = BAD[what]
    folder = make_series(4, edit=edit)
    with pytest.raises(FusionInputError, match=words) as refusal:
        read_image(f"{folder}::#1")
    assert one(folder).problem and "\n" not in str(refusal.value)
    assert "PROBLEM: expected" in one(folder).text()


def test_a_number_that_is_none_names_its_element(make_series):
    folder = make_series(1)
    file = next(folder.iterdir())
    file.write_bytes(file.read_bytes().replace(b"DS\x04\x002.0 ", b"DS\x04\x00zz  "))
    assert "expected numbers in its header, found" in one(folder).problem


def test_a_file_that_a_copy_left_empty_is_a_lost_slice(make_series):
    folder = make_series(4)
    (folder / ".nomedia").touch()
    (folder / "VERSION").touch()
    assert one(folder).notes == ["not DICOM, left out: .nomedia, VERSION"] and not one(folder).problem
    file = sorted(folder.glob("1.2*"))[0]
    file.write_bytes(b"")
    assert one(folder).problem.startswith("expected a DICOM file, found 0 bytes; copy or export the file again")
    assert one(folder).problem.endswith(f"({file})")


def test_damaged_and_foreign_files(make_series):
    folder = make_series(3)
    (folder / "notes.txt").write_text("hello")
    (folder / "fake.dcm").write_text("x" * 400)
    assert one(folder).notes == ["not DICOM, left out: fake.dcm, notes.txt"]
    file = sorted(folder.glob("1.2*"))[0]
    whole = file.read_bytes()
    for size in (140, 300, 600, len(whole) - 10):
        file.write_bytes(whole[:size])
        assert one(folder).problem, f"cut at {size} bytes"


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_links_and_names_that_leave_the_folder_are_not_followed(make_series, tmp_path):
    outside = make_series(1, "outside", SeriesInstanceUID="1.2.8")
    folder = make_series(2)
    os.symlink(next(outside.iterdir()), folder / "link.dcm")
    assert one(folder).notes == ["links out of the folder, left out: link.dcm"]
    write_directory(folder / "DICOMDIR", [["..", "outside", next(outside.iterdir()).name]])
    with pytest.raises(FusionInputError, match="expected names inside its folder"):
        list_series(folder / "DICOMDIR")


def write_directory(path, names):
    """Write a DICOMDIR with image records alone."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made, records = Dataset(), []
    for name in names:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", name
        records.append(record)
    made.DirectoryRecordSequence = records
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_directory_names_the_files(make_series):
    folder = make_series(3)
    names = sorted(item.name for item in folder.iterdir())
    write_directory(folder / "DICOMDIR", [[name] for name in names])
    assert one(folder / "DICOMDIR").shape == (4, 6, 3)
    assert one(folder).notes == [], "the directory itself is no image"
    (folder / names[0]).unlink()
    assert "which the DICOMDIR names; copy the whole medium" in one(folder / "DICOMDIR").problem


def test_a_deflated_bomb_is_refused(make_series, monkeypatch):
    folder = make_series(1)
    file = next(folder.iterdir())
    import pydicom

    made = pydicom.dcmread(file)
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    made.save_as(file)
    assert one(folder).problem == ""
    start = file.read_bytes()[: 144 + pydicom.dcmread(file).file_meta.FileMetaInformationGroupLength]
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    file.write_bytes(start + packer.compress(bytes(2**22)) + packer.flush())
    monkeypatch.setattr("clinicalfmamba_nets.io.dicom.parsing._MAX_DEFLATED", 2**21)
    with pytest.raises(FusionInputError, match="deflated data of more than"):
        list_series(folder)


def test_paths_and_selectors(make_series, tmp_path):
    folder = make_series(1)
    assert image_format(folder) == image_format(next(folder.iterdir())) == image_format(f"{folder}::MR") == "dicom"
    assert split_selector(f"{folder}::MR") == (folder, "MR") and split_selector(folder) == (folder, "")
    with pytest.raises(FusionInputError, match="no such file"):
        read_image(tmp_path / "nowhere::MR")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FusionInputError, match="expected a folder with DICOM images, found an empty folder"):
        read_image(tmp_path / "empty")


def test_no_series_at_all():
    with pytest.raises(FusionInputError, match='expected a series "CT", found no image series'):
        choose_series([], "CT", "study")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_slices_without_the_rescaling_of_the_others_are_refused(make_series, keyword):
    def edit(number, made):
        if number == 2:
            delattr(made, keyword)

    row = one(make_series(4, Modality="CT", RescaleSlope=2, edit=edit))
    assert row.problem.startswith(f"expected {keyword} (0028,105") and "none in 1.2.3.2__97.dcm" in row.problem
    assert one(make_series(4, "mr", RescaleSlope=1, RescaleIntercept=0, edit=edit)).problem == ""


@pytest.mark.parametrize(
    ("keyword", "value"), [("PatientName", "Other^Head"), ("PatientBirthDate", "19500101"), ("PatientSex", "M")]
)
def test_a_slice_of_another_name_or_birth_date_is_told(make_series, keyword, value):
    def edit(number, made):
        usual = {"PatientName": "TEST^head^^", "PatientSex": "O" if number == 2 else "F"}.get(keyword, "19400101")
        setattr(made, keyword, value if number == 1 else usual)

    (told,) = one(make_series(4, edit=edit)).warnings
    assert keyword in told and "1.2.3.2__98.dcm" in told and (keyword == "PatientSex" or value not in told)


def test_a_modality_that_is_not_that_of_the_class_is_told(make_series):
    folder = make_series(3, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    assert "Modality (0008,0060) says MR, SOPClassUID (0008,0016) CT" in one(folder).warnings[0]
    assert one(make_series(3, "right", Modality="CT")).warnings == []


def test_pixel_data_of_more_frames_than_the_header_names_is_refused(make_series):
    folder = make_series(4, edit=lambda n, made: setattr(made, "PixelData", made.PixelData * 2))
    assert "expected 1 frames by NumberOfFrames (0028,0008) and BitsAllocated" in one(folder).problem
    padded = make_series(4, "padded", edit=lambda n, made: setattr(made, "PixelData", made.PixelData + bytes(16)))
    assert one(padded).problem == ""


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_what_stands_behind_the_pixels_is_not_counted_as_pixels(make_series, syntax):
    def private(number, made):
        made.file_meta.TransferSyntaxUID = syntax
        made.add_new(0x7FE10010, "LO", "SIEMENS CSA NON-IMAGE")
        made.add_new(0x7FE11010, "OB", bytes(2000))
        made["PixelData"].VR = "OW"

    assert one(make_series(4, edit=private)).problem == ""


def test_a_mosaic_is_known_by_its_count_too(make_series):
    def tiled(number, made):
        made.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        made.add_new(0x0019100A, "US", 25)

    assert "found a mosaic of many" in one(make_series(1, edit=tiled)).problem


def test_private_elements_are_found_in_whichever_block_their_maker_claimed(make_series):
    def tiled(number, made):
        made.add_new(0x00190010, "LO", "ANOTHER MAKER")
        made.add_new(0x0019100A, "US", 1)
        made.add_new(0x00190012, "LO", "SIEMENS MR HEADER")
        made.add_new(0x0019120A, "US", 25)

    def weighted(number, made):
        made.add_new(0x00190010, "LO", "ANOTHER MAKER")
        made.add_new(0x0019100C, "IS", 7)
        made.add_new(0x00190011, "LO", "SIEMENS MR HEADER")
        made.add_new(0x0019110C, "IS", 1000)

    def foreign(number, made):
        made.add_new(0x00190010, "LO", "ANOTHER MAKER")
        made.add_new(0x0019100A, "US", 25)

    assert "found a mosaic of many" in one(make_series(1, "tiled", edit=tiled)).problem
    assert one(make_series(3, "weighted", edit=weighted)).value("DiffusionBValue") == 1000.0
    assert one(make_series(3, "foreign", edit=foreign)).problem == ""


def test_a_ct_without_intercept_is_told(make_series):
    (told,) = one(make_series(4, Modality="CT", RescaleIntercept=None)).warnings
    assert told == "no RescaleIntercept (0028,1052): stored values are taken as HU"


def test_a_name_that_is_no_ascii_is_one_text(make_series):
    made = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Jörg=山田^太郎"}
    assert one(make_series(2, **made)).stated("patient_name") == "Müller^Jörg=山田^太郎"


def test_burned_in_text_and_another_part_of_the_body_are_told(make_series):
    row = one(make_series(2, BurnedInAnnotation="YES", BodyPartExamined="CHEST"))
    assert "BurnedInAnnotation (0028,0301) YES" in row.notes[0]
    assert row.warnings == ["BodyPartExamined (0018,0015) says CHEST: the weights were trained on heads alone"]
    for part in ("HEADNECK", "Brain", "", "WHOLEBODY", "INNER EAR"):
        assert one(make_series(2, BurnedInAnnotation="NO", BodyPartExamined=part.upper())).warnings == []


@pytest.mark.parametrize(
    ("modality", "warned"),
    [("mr", None), (None, "no Modality (0008,0060)"), ("", "no Modality (0008,0060)"), ("OT", "says OT")],
)
def test_a_modality_that_tells_nothing_is_that_of_the_class(make_series, modality, warned):
    row = one(make_series(3, Modality=modality))
    assert row.modality == "MR" and row.problem == ""
    assert len(row.warnings) == bool(warned)
    assert not warned or row.warnings[0].endswith(f"{warned}: taken as MR by its SOPClassUID (0008,0016)")


@pytest.mark.parametrize(
    ("image_type", "told"),
    [
        (["ORIGINAL", "PRIMARY", "P", "ND"], "says P: the phase of the signal"),
        (["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "PCA"], "says P: the phase of the signal"),
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"], "says ADC: a map of measured values"),
        (["DERIVED", "SECONDARY", "PROJECTION IMAGE", "CSA MIP"], "says PROJECTION IMAGE: a projection"),
        (["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"], ""),
        (["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"], ""),
        (["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "ND"], ""),
    ],
)
def test_what_is_no_anatomy_is_told(make_series, image_type, told):
    row = one(make_series(2, ImageType=image_type))
    assert [told in text for text in row.warnings] == [True] * bool(told)
    assert one(make_series(2, Modality="CT", ImageType=image_type)).warnings == []


def test_slices_of_two_modalities_are_no_volume(make_series):
    ct = {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    row = one(
        make_series(4, edit=lambda n, made: [setattr(made, key, word) for key, word in ct.items()] if n > 1 else None)
    )
    assert row.problem.startswith("expected one Modality (0008,0060) of all slices, found ")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_two_values_where_one_is_meant_are_refused(make_series, keyword):
    folder = make_series(3, RescaleSlope=1, RescaleIntercept=0, edit=lambda n, made: setattr(made, keyword, [2, 3]))
    with pytest.raises(FusionInputError, match=f"expected numbers in its header, found 2 values of {keyword}"):
        read_image(folder)
