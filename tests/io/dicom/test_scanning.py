"""Headers found by their lengths alone are those that pydicom reads."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io.dicom import parsing
from clinicalfmamba_nets.io.dicom.header import read_header
from clinicalfmamba_nets.io.dicom.scanning import scan


def both_ways(path, monkeypatch):
    """The header as it is read, and by pydicom alone; or the refusals."""
    found = []
    for way in (scan, lambda data, size: None):
        monkeypatch.setattr(parsing, "scan", way)
        try:
            found.append(read_header(path))
        except FusionInputError as error:
            found.append(str(error))
    return found


def nested(number, made):
    """Sequences of undefined length in each other, private elements and text in UTF-8."""
    inner, outer = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "MR"
    outer.PurposeOfReferenceCodeSequence = Sequence([inner, Dataset()])
    outer.PurposeOfReferenceCodeSequence.is_undefined_length = True
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    outer.is_undefined_length_sequence_item = number % 2 == 0
    made.ReferencedImageSequence = [outer, outer]
    made["ReferencedImageSequence"].is_undefined_length = number != 1
    made.SpecificCharacterSet, made.SeriesDescription = "ISO_IR 192", "Schädel T2 軸位"
    made.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 1000)
    made.DiffusionBValue = None
    del made.DiffusionBValue
    made.PixelPaddingValue = 0


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_made_headers_are_those_of_pydicom(make_series, monkeypatch, syntax):
    import pydicom

    folder = make_series(3, edit=nested)
    for file in sorted(folder.iterdir()):
        if syntax:
            made = pydicom.dcmread(file)
            made.file_meta.TransferSyntaxUID = syntax
            made.save_as(file, implicit_vr=syntax.is_implicit_VR, little_endian=True)
        found, expected = both_ways(file, monkeypatch)
        assert found == expected and found.description == "Schädel T2 軸位"
        assert found.slices[0].contrast["DiffusionBValue"] == 1000.0
        if syntax in (None, ImplicitVRLittleEndian):
            data = file.read_bytes()
            assert scan(data, len(data)) is not None, "this is what the fast way is for"


def test_real_and_malformed_headers_are_those_of_pydicom(shared_data, monkeypatch):
    files = [item for place in ("dicom", "bad/dicom") for item in (shared_data / place).rglob("*") if item.is_file()]
    compared = 0
    for file in files:
        if file.read_bytes()[128:132] == b"DICM":
            found, expected = both_ways(file, monkeypatch)
            assert found == expected, file
            compared += 1
    assert compared > 50


def test_headers_that_end_anywhere_are_those_of_pydicom(make_series, monkeypatch):
    file = next(make_series(1, edit=nested).iterdir())
    whole = file.read_bytes()
    for size in range(140, len(whole), 7):
        file.write_bytes(whole[:size])
        found, expected = both_ways(file, monkeypatch)
        assert found == expected, size


def test_a_header_of_a_million_bytes_is_found(make_series, monkeypatch):
    def large(number, made):
        made.private_block(0x0029, "CSA", create=True).add_new(0x10, "OB", b"x" * 300_000)

    file = next(make_series(1, edit=large).iterdir())
    found, expected = both_ways(file, monkeypatch)
    assert found == expected
