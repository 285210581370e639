"""Of whom an image is: what programs write of DICOM into NRRD, MetaImage and NIfTI, and how a pair is judged by it."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io.persons import person_in_text, stated_person
from clinicalfmamba_nets.transforms.placing import put_on_grid
from clinicalfmamba_nets.transforms.sources import from_file


def nrrd(path, values, texts):
    lines = [
        "NRRD0005", "type: short", "dimension: 3", "sizes: 8 9 4", "endian: little", "encoding: raw",
        "space: left-posterior-superior", "space directions: (1,0,0) (0,1,0) (0,0,2)", "space origin: (0,0,0)",
        *(f"{key}:={text}" for key, text in texts.items()),
    ]  # fmt: skip
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + values.astype("<i2").tobytes(order="F"))


def mha(path, values, texts):
    lines = [
        "ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False",
        "TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 0 0 0", "ElementSpacing = 1 1 2", "DimSize = 8 9 4",
        *(f"{key} = {text}" for key, text in texts.items()), "ElementType = MET_SHORT", "ElementDataFile = LOCAL",
    ]  # fmt: skip
    path.write_bytes(("\n".join(lines) + "\n").encode() + values.astype("<i2").tobytes(order="F"))


def nifti(path, values, texts):
    image = nibabel.Nifti1Image(values.astype(np.int16), np.diag([-1.0, -1, 2, 1]))
    for key, text in texts.items():
        image.header[key] = text.encode()
    nibabel.save(image, path)


WRITERS = {".nrrd": nrrd, ".mha": mha, ".nii.gz": nifti}


def placed(folder, ending, first, second):
    for name, texts, seed in (("mr", first, 0), ("ct", second, 1)):
        WRITERS[ending](folder / f"{name}{ending}", np.random.default_rng(seed).integers(0, 99, (8, 9, 4)), texts)
    return put_on_grid(from_file(folder / f"mr{ending}"), from_file(folder / f"ct{ending}"))


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("key", ["0010|0020", "PatientID", "Patient ID", "DICOM_0010_0020_PatientID"])
def test_two_patients_by_keys_of_the_header_are_refused(tmp_path, ending, key):
    with pytest.raises(FusionInputError, match="found another one \\(PatientID\\); choose series of one patient"):
        placed(tmp_path, ending, {key: "P1"}, {key: "P2"})
    assert placed(tmp_path, ending, {key: "P1"}, {key: "P1 "}).warnings == []
    assert placed(tmp_path, ending, {key: "P1"}, {}).warnings == []


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_days_between_two_images_are_told_by_their_headers(tmp_path, ending):
    days = {"0008|0022": "20240101"}, {"0008|0022": "20240115", "0008|0032": "101500.25"}
    assert placed(tmp_path, ending, *days).warnings == [
        "acquired 14 days apart: what grew, bled or was operated in between is shown by one of both alone"
    ]


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({"descrip": "PatientID P1 of site X"}, {"descrip": "PatientID P2 of site X"}, "PatientID"),
        ({"descrip": "Smith^John"}, {"db_name": "MILLER^ANN"}, "PatientName"),
    ],
)
def test_two_patients_in_the_texts_of_a_nifti_header_are_refused(tmp_path, first, second, found):
    with pytest.raises(FusionInputError, match=f"found another one \\({found}\\)"):
        placed(tmp_path, ".nii.gz", first, second)


def test_numbers_of_two_patients_in_a_nifti_header_are_told(tmp_path):
    told = placed(tmp_path, ".nii.gz", {"db_name": "P001"}, {"db_name": "P002"}).warnings
    assert [text.partition(" (db_name)")[0] for text in told] == ["numbered otherwise in its header"]


def test_what_programs_write_of_themselves_names_nobody(tmp_path):
    usual = {"descrip": "TE=2.9;Time=124507.065"}, {"descrip": "FSL5.0", "aux_file": "spm - algebra", "db_name": "T1"}
    assert placed(tmp_path, ".nii.gz", *usual).warnings == []
    assert person_in_text("x^2 + y^2", "Patient position HFS", "a^") == {}


def test_a_time_is_that_of_the_acquisition_before_that_of_the_study():
    fields = {"0008|0020": "20230101", "0008|0030": "080000", "0008|0022": "2024.01.15", "0008|0032": "101500.25"}
    assert stated_person(fields) == {"taken": "20240115101500"}
    del fields["0008|0032"], fields["0008|0022"]
    assert stated_person(fields) == {"taken": "20230101080000"}
