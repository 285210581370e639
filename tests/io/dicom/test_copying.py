"""Text and identifiers of a source in results: bytes kept as they are, or left out and told, never replaced."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.read import write_dicom
from clinicalfmamba_nets.io.dicom.report import COMMENT, own_concept, write_report

NAMES = {
    "ISO_IR 100": "T\u00e9st^H\u00ebad",
    "ISO_IR 101": "Wa\u0142\u0119sa^Lech",
    "ISO_IR 144": "\u0418\u0432\u0430\u043d\u043e\u0432^\u0418\u0432\u0430\u043d",
    "ISO_IR 192": "\u738b^\u5c0f\u6771",
    "GB18030": "\u738b^\u5c0f\u4e1c",
    "\\ISO 2022 IR 149": "Hong^Gildong=\u6d2a^\u5409\u6d1e=\ud64d^\uae38\ub3d9",
}


def results(source, folder):
    """Bytes of a derived image and of a report of a series."""
    write_dicom(folder / "out", read_image(source)[0], source)
    write_report(folder / "report.dcm", own_concept("R", "Report"), [(COMMENT, "none")], [source], "a1b2")
    return [next((folder / "out").iterdir()).read_bytes(), (folder / "report.dcm").read_bytes()]


def exchange(folder, old, new):
    """Replace bytes of equal length in all files of a folder."""
    for file in folder.iterdir():
        assert old in file.read_bytes() and len(old) == len(new)
        file.write_bytes(file.read_bytes().replace(old, new))


@pytest.mark.parametrize("charset", NAMES)
def test_names_in_any_character_set_are_kept(make_series, tmp_path, charset):
    import pydicom

    source = make_series(1, SpecificCharacterSet=charset.split("\\"), PatientName=NAMES[charset])
    stored = pydicom.dcmread(next(source.iterdir())).get_item(0x00100010).value.rstrip()
    for data in results(source, tmp_path):
        assert stored in data
    assert str(pydicom.dcmread(tmp_path / "report.dcm").PatientName) == NAMES[charset]


@pytest.mark.parametrize(
    "case",
    [
        ("ISO_IR 100", "latin-1", b"ISO_IR 192", "PatientName", "T\u00e9st^H\u00ebad"),
        ("ISO_IR 144", "iso8859-5", b"ISO_IR 192", "PatientName", "\u0418\u0432\u0430\u043d"),
        ("ISO_IR 100", "latin-1", b"ISO_IR 192", "StudyDescription", "Sch\u00e4del"),
        ("ISO_IR 100", "latin-1", b"ISO_IR 192", "InstitutionName", "Universit\u00e4t"),
        ("ISO_IR 100", "latin-1", b"ISO_IR 999", "PatientName", "T\u00e9st^H\u00ebad"),
    ],
)
def test_text_that_cannot_be_read_is_left_out_and_told(make_series, tmp_path, caplog, case):
    charset, codec, wrong, element, text = case
    source = make_series(1, SpecificCharacterSet=charset, **{element: text})
    exchange(source, charset.encode(), wrong)
    for data in results(source, tmp_path):
        assert b"\xef\xbf\xbd" not in data and text.encode(codec) not in data
    assert element == "InstitutionName" or f"{element} of the source is not valid DICOM and was left out" in caplog.text


def test_a_name_without_a_character_set_keeps_its_bytes(make_series, tmp_path):
    source = make_series(1, SpecificCharacterSet="ISO_IR 100", PatientName="T\u00e9st^H\u00ebad")
    exchange(source, b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", b"\x08\x00\x05\x00CS\x0a\x00" + b" " * 10)
    for data in results(source, tmp_path):
        assert "T\u00e9st^H\u00ebad".encode("latin-1") in data


def test_uids_with_leading_zeros_are_kept_without_a_word(make_series, tmp_path, caplog):
    import warnings

    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = make_series(2, StudyInstanceUID="1.2.03.1", FrameOfReferenceUID="1.2.3.03")
        caplog.clear()
        results(source, tmp_path)
        made = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert (made.StudyInstanceUID, made.FrameOfReferenceUID) == ("1.2.03.1", "1.2.3.03")
    assert "left out" not in caplog.text
