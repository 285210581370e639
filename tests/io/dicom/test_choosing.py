"""Which two series of a study are fused, what is left out, and what that is told as."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.choosing import contrast_of
from clinicalfmamba_nets.io.dicom.files import holds_dicom
from clinicalfmamba_nets.io.dicom.kinds import MODEL
from clinicalfmamba_nets.io.dicom.study import choose_pair, open_study

SAGITTAL = [0, 1, 0, 0, 0, -1]


@pytest.fixture
def study(make_series):
    """`study("CT", 4, SeriesDescription=...)` adds a series of its own UID and number to one folder."""
    numbers = iter(range(1, 100))

    def add(modality, count=4, **settings):
        number = next(numbers)
        settings = {"SeriesNumber": number, "SeriesDescription": f"{modality} {number}", **settings}
        uid = f"1.2.7.{number}"
        edit = settings.pop("edit", None)

        def change(place, made):
            made.SOPInstanceUID = f"{uid}.{place}"
            if edit:
                edit(place, made)

        return make_series(count, "study", edit=change, SeriesInstanceUID=uid, Modality=modality, **settings)

    return add


def test_the_problem_of_a_series_that_may_be_meant_is_told_with_the_choice(study):
    study("MR", 6, edit=lambda place, made: setattr(made, "ImagePositionPatient", [0, 0, 3 * place + 9 * (place > 3)]))
    study("CT", 6), study("MR", 4)
    with pytest.raises(FusionInputError, match=r"found 2 of 3 .*, #1: expected slices every 3 mm, .*; name both"):
        open_study(study("SR", 1, Rows=None, Columns=None, PixelData=None)).pair()


def test_several_studies_are_told_with_the_choice(study):
    for number in ("1.2.1", "1.2.2"):
        study("MR", StudyInstanceUID=number), study("CT", StudyInstanceUID=number)
    with pytest.raises(FusionInputError, match=r"found 4 of 4 .* of 2 studies \(StudyInstanceUID\); name both"):
        open_study(study("SR", 1, Rows=None, Columns=None, PixelData=None)).pair()


LEFT_OUT = {
    "by ImageType": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesDescription": "head"},
    "by name": {"SeriesDescription": "AAHead_Scout_64ch"},
    "topogram": {"SeriesDescription": "Topogram 0.6 T20s"},
    "survey": {"SeriesDescription": "Survey_32ch_Head"},
    "three planes": {"SeriesDescription": "3-Plane Loc"},
    "in French": {"SeriesDescription": "Rep\xe9rage axial", "SpecificCharacterSet": "ISO_IR 192"},
    "in German": {"SeriesDescription": "Uebersicht_3E"},
    "by a product's name": {"SeriesDescription": "SmartBrain"},
    "dose report": {"SeriesDescription": "Dose Report"},
    "protocol": {"SeriesDescription": "Patient Protocol"},
    "own result": {"ManufacturerModelName": MODEL, "SeriesDescription": "Not for diagnostic use: fused MR+CT"},
    "one sagittal image": {"ImageOrientationPatient": SAGITTAL, "SeriesDescription": "head"},
}


@pytest.mark.parametrize("what", LEFT_OUT)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_what_is_no_image_of_its_own_is_left_out_and_named(study, what, modality):
    study(modality, 1, **LEFT_OUT[what])
    study("MR"), study("CT")
    opened = open_study(
        study("SR", 1, Rows=None, Columns=None, PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67")
    )
    pair = opened.pair()
    assert [row.description for row in pair.series] == ["MR 2", "CT 3"]
    assert len(pair.warnings) == 1 and pair.warnings[0].startswith(f"left out: #1 {modality} 1 ")
    assert opened.choose("MR") is pair.series[0] and opened.choose("#1").role


@pytest.mark.parametrize("kind", ["4.2", "66.4", "481.2"])
def test_what_is_computed_from_an_mr_and_says_mr_is_no_image_of_it(study, kind):
    study("MR"), study("CT")
    folder = study("MR", 1, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}")
    pair = open_study(folder).pair()
    assert [row.description for row in pair.series] == ["MR 1", "CT 2"] and not pair.warnings


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize(
    "scout", [{"SeriesDescription": "localizer"}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}]
)
def test_a_partner_with_a_problem_is_the_error(study, modality, scout):
    study(modality, 2, **scout)
    for kind in ("MR", "CT"):
        folder = study(kind, 6)
    number = 2 if modality == "MR" else 3
    next(folder.glob(f"1.2.7.{number}_*_97.dcm")).unlink()
    with pytest.raises(FusionInputError, match=rf"\({modality} {number}\): .*a slice is missing"):
        choose_pair(folder)


def test_other_images_are_named(study):
    study("MR"), study("CT")
    folder = study("OT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SeriesDescription="screen")
    assert "#3 OT 3 screen 4 x 6 x 4 (another image)" in open_study(folder).pair().warnings[0]


@pytest.mark.parametrize("first, second", [("AX T2 FLAIR", "AX T2 TSE"), ("t2_tirm_tra_dark-fluid", "t2_tse_tra")])
def test_flair_is_known_from_t2_whatever_their_numbers(study, first, second):
    study("MR", SeriesDescription=first)
    pair = open_study(study("MR", SeriesDescription=second)).pair()
    assert [row.description for row in pair.series] == [second, first]
    assert pair.notes[0].startswith("first image: T2 (#2 ")


@pytest.mark.parametrize(
    "description, settings, contrast",
    [
        ("AX T2", {}, "t2"),
        ("T2W FLAIR SENSE", {}, "flair"),
        ("head", {"InversionTime": 2500, "EchoTime": 120}, "flair"),
        ("head", {"InversionTime": 2500, "EchoTime": 10}, ""),
        ("t1_mprage_sag", {}, "t1"),
        ("t1_mprage_sag KM", {}, "t1ce"),
        ("AX T1 FLAIR", {}, "t1"),
        ("Sag T1 +C", {}, "t1ce"),
        ("AX T1 PRE CONTRAST", {}, "t1"),
        ("AX T1 W/O CONTRAST", {}, "t1"),
        ("t1_tse_tra ohne KM", {}, "t1"),
        ("T1 non-Gd", {}, "t1"),
        ("T1 POST GD no 4", {}, "t1ce"),
        ("pd+t2_tse", {"EchoTime": 11}, "pd"),
        ("pd+t2_tse", {"EchoTime": 92}, "t2"),
        ("DTI", {}, ""),
    ],
)
def test_the_contrast_of_a_series(study, description, settings, contrast):
    (row,) = open_study(study("MR", SeriesDescription=description, **settings)).series
    assert contrast_of(row) == contrast


def test_a_task_chooses_among_more(study):
    for name in ("AX FLAIR", "AX T1", "AX T2", "AX T1 GD"):
        study("MR", SeriesDescription=name)
    opened = open_study(study("CT"))
    names = {task: [row.description for row in opened.pair(task=task).series] for task in ("t2_flair", "t1_t1ce")}
    assert names == {"t2_flair": ["AX T2", "AX FLAIR"], "t1_t1ce": ["AX T1", "AX T1 GD"]}
    assert "AX T1 4 x 6 x 4 (another image)" in opened.pair(task="t2_flair").warnings[0]
    with pytest.raises(FusionInputError, match="expected two series to fuse, found 5 of 5"):
        opened.pair()
    assert opened.choose("T2").description == "AX T2" and opened.choose("flair").description == "AX FLAIR"


def test_time_frames_are_named_by_what_tells_them_apart(study):
    study("MR")
    for time in (0.0, 30.0, 3600.0, 3605.0):
        folder = study(
            "PT",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.128",
            FrameReferenceTime=time,
            SeriesNumber=9,
            SeriesDescription="PET",
        )
    for file in folder.glob("1.2.7.[345]*"):
        data = file.read_bytes()
        file.write_bytes(data.replace(f"{file.name[:7]}\0".encode(), b"1.2.7.2\0"))
    with pytest.raises(FusionInputError, match='expected a series "PT", found 4: .*FrameReferenceTime=3605'):
        choose_pair(folder, ["MR", "PT"])
    assert choose_pair(folder, ["MR", "PT,FrameReferenceTime=3605"])[1].endswith("FrameReferenceTime=3605")


def test_an_archive_is_read_like_its_folder(study, tmp_path):
    study("MR"), study("CT")
    folder = study("CT", 1, SeriesDescription="topogram")
    archive = tmp_path / "patient.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for number, file in enumerate(sorted(folder.iterdir())):
            made.write(file, f"../../{'evil' if number == 0 else 'DICOM'}/{file.name}")
        made.writestr("__MACOSX/._x.dcm", b"\0\5\x16\7")
    assert [row.text() for row in open_study(archive).series] == [row.text() for row in open_study(folder).series]
    assert holds_dicom(archive) and np.array_equal(read_image(f"{archive}::MR")[0], read_image(f"{folder}::MR")[0])
    assert not list(tmp_path.parent.glob("evil")) and not (tmp_path / "evil").exists()


def test_an_archive_that_is_none_of_a_study_is_named(tmp_path):
    archive = tmp_path / "other.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("a.txt", "hello")
    with pytest.raises(FusionInputError, match=r"other\.zip: expected a folder with DICOM images, found 1 other files"):
        open_study(archive)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(FusionInputError, match=r"other\.zip: expected a whole ZIP archive"):
        open_study(archive)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("bomb", bytes(2**22))
    data = archive.read_bytes()
    archive.write_bytes(data.replace((2**22).to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    with pytest.raises(FusionInputError, match=r"other\.zip: expected (an archive of one study|a whole ZIP)"):
        open_study(archive)


def test_pipes_and_devices_in_a_folder_are_never_opened(study):
    study("MR")
    folder = study("CT")
    os.mkfifo(folder / "aaa.dcm")
    os.symlink("/dev/zero", folder / "zero.dcm")
    os.symlink(folder / "nowhere", folder / "broken.dcm")
    opened = open_study(folder)
    assert holds_dicom(folder) and len(opened.pair().series) == 2
    assert opened.notes == [
        "not DICOM, left out: aaa.dcm, broken.dcm",
        "links out of the folder, left out: zero.dcm",
    ]


def test_a_patients_disc_with_a_viewer(study):
    study("MR")
    folder = study("CT")
    for number in range(2000):
        (folder / f"AUTORUN_{number:05d}.HTM").write_text("<html>viewer</html>")
    assert holds_dicom(folder) and len(choose_pair(folder)) == 2
    assert open_study(folder).notes[0].endswith("and 1995 more")


def test_linked_folders_are_followed_once_and_named(study, tmp_path):
    study("MR")
    target = study("CT")
    linked = tmp_path / "linked"
    (linked / "inner").mkdir(parents=True)
    (linked / "a").symlink_to(target)
    (linked / "b").symlink_to(target)
    (linked / "inner" / "up").symlink_to(linked)
    opened = open_study(linked)
    assert [len(row.slices) for row in opened.series] == [4, 4]
    assert opened.notes == ["linked folders, followed: a"] and len(opened.pair().series) == 2


def test_a_screen_without_a_place_is_no_partner(study):
    study("MR"), study("CT")
    folder = study("CT", 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", ImagePositionPatient=None, SeriesDescription="x")
    pair = open_study(folder).pair()
    assert [row.modality for row in pair.series] == ["MR", "CT"] and "a screen without a place" in pair.warnings[0]


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "PatientID"])
def test_an_identifier_that_some_slices_lack_is_that_of_the_others(study, keyword):
    folder = study("MR", edit=lambda place, made: place in (0, 2) and delattr(made, keyword))
    array, info = read_image(folder)
    assert (info["frame_of_reference"], info["patient"]) == ("1.2.3.3", "P7") and array.shape == (4, 6, 4)
    assert f"no {keyword} " in info["warnings"][0] and info["warnings"][0].endswith("taken as that of the other slices")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every folder")
def test_a_folder_without_permission_is_named(study):
    study("MR")
    folder = study("CT")
    (folder / "closed").mkdir(mode=0)
    assert open_study(folder).notes == ["folders that cannot be read, left out: closed"]
