"""Files of a derived series that were put together from encoded elements: what pydicom makes of them, byte for byte."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest

from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.encoding import SeriesEncoder
from clinicalfmamba_nets.io.dicom.read import write_dicom


def by_pydicom(file):
    """Bytes of a file after pydicom has read and encoded each of its elements anew."""
    made, buffer = pydicom.dcmread(file), BytesIO()
    assert len(list(made.iterall())) > 40, "each element is decoded"
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("color", [False, True])
def test_each_file_is_what_pydicom_writes(make_series, tmp_path, color):
    source = make_series(3, SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg")
    array, _ = read_image(source)
    array = np.stack([array % 256] * 3, axis=-1)[:, :, :, :] if color else array
    write_dicom(tmp_path / "out", array, source, references=[source])
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 3 and [file.read_bytes() for file in files] == [by_pydicom(file) for file in files]
    assert str(pydicom.dcmread(files[2]).PatientName) == "Müller^Jörg"


def test_what_differs_between_source_slices_differs_in_the_result(make_series, tmp_path):
    source = make_series(3, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    array, _ = read_image(source)
    changed = pydicom.dcmread(sorted(source.iterdir())[1])
    place = changed.ImagePositionPatient
    changed.PatientAge, changed.StationName = "041Y", "B"
    changed.save_as(sorted(source.iterdir())[1])
    write_dicom(tmp_path / "out", array, source)
    made = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    (other,) = [item for item in made if item.get("PatientAge") == "041Y"]
    assert other.ImagePositionPatient == place and other.ContributingEquipmentSequence[0].StationName == "B"
    assert len({item.SOPInstanceUID for item in made}) == 3 and [item.InstanceNumber for item in made] == [1, 2, 3]


def test_equal_headers_are_built_once(make_series, tmp_path, monkeypatch):
    source, built = make_series(4), []
    array, _ = read_image(source)
    share = SeriesEncoder._share

    def counted(self, made, pixels):
        built.append(made)
        share(self, made, pixels)

    monkeypatch.setattr(SeriesEncoder, "_share", counted)
    write_dicom(tmp_path / "out", array, source)
    assert len(built) == 1
