"""What SECURITY.md says of patients in results, format by format: every text of a source is marked and looked for."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from clinicalfmamba_nets.io import read_image, write_image
from clinicalfmamba_nets.io.dicom.copying import keep_element
from clinicalfmamba_nets.io.dicom.read import write_dicom

MARK = "Secret^Name"
# What a fused series holds by SECURITY.md, of all elements of text.
PATIENT = {
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDs", "DeidentificationMethod", "StudyID",
    "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
}  # fmt: skip
SCANNER = {"Manufacturer", "InstitutionName", "ManufacturerModelName", "StationName", "SoftwareVersions"}
SETTINGS = {"MR": {"SequenceName", "ImagedNucleus"}, "CT": set(), "OT": set()}


def plane(seed=0):
    return np.random.default_rng(seed).integers(0, 200, (8, 8, 4))


def nifti(path, size):
    """A NIfTI-1 or 2 file whose every text and extension holds the mark."""
    import nibabel

    kind = nibabel.Nifti1Image if size == 348 else nibabel.Nifti2Image
    image = kind(plane().astype(np.int16), np.diag([-1.0, -1, 2, 1]))
    for name in ("db_name", "descrip", "aux_file", "intent_name", "data_type"):
        if name in image.header:
            image.header[name] = MARK.encode()[: image.header[name].dtype.itemsize]
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", MARK.encode()))
    nibabel.save(image, path)


def nrrd(path, _):
    lines = [
        "NRRD0005", f"# {MARK}", "type: short", "dimension: 3", "sizes: 8 8 4", "endian: little", "encoding: raw",
        f"content: {MARK}", "space: left-posterior-superior", "space directions: (1,0,0) (0,1,0) (0,0,2)",
        "space origin: (0,0,0)", f"patient:={MARK}",
    ]  # fmt: skip
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + plane().astype("<i2").tobytes(order="F"))


def png(path, _):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Author", MARK)
    info.add_itxt("Comment", MARK)
    exif = Image.Exif()
    exif[0x010E] = MARK
    Image.fromarray(plane()[..., 0].astype(np.uint8)).save(path, pnginfo=info, exif=exif)


FILES = {
    "a.nii": (nifti, 348), "b.nii.gz": (nifti, 348), "c.nii": (nifti, 540), "d.nrrd": (nrrd, 0), "e.png": (png, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_no_words_of_a_file_reach_a_result(tmp_path, name):
    make, size = FILES[name]
    source, result = tmp_path / name, tmp_path / f"fused_{name}"
    make(source, size)
    packed = name.endswith(".gz")
    assert b"Secret" in (gzip.decompress(source.read_bytes()) if packed else source.read_bytes())
    array, _ = read_image(source)
    write_image(result, array, source)
    data = result.read_bytes()
    data += gzip.decompress(data) if packed else b""
    assert b"Secret" not in data and np.array_equal(read_image(result)[0], array)


def marked(made):
    """Fill every element of text that DICOM knows with the mark, at the top of a dataset."""
    from pydicom.datadict import DicomDictionary

    kinds = ("LO", "SH", "PN", "ST", "LT", "UT", "UC")
    known = {row[4] for tag, row in DicomDictionary.items() if row[0] in kinds and tag >= 0x00080000}
    for keyword in sorted(filter(None, known)):
        if keyword not in made or keyword in ("PatientName", "PatientID", "SeriesDescription"):
            setattr(made, keyword, MARK)
    block = made.private_block(0x0029, MARK, create=True)
    block.add_new(0x01, "LO", MARK)


def holders(dataset):
    """Keywords of all elements, at any depth, that hold the mark."""
    found = set()
    for element in dataset.iterall():
        if element.VR != "SQ" and MARK in str(element.value):
            found.add(element.keyword or str(element.tag))
    return found


@pytest.mark.parametrize("modality", ["MR", "CT", "OT"])
@pytest.mark.parametrize("color", [False, True])
def test_a_series_holds_what_is_said_and_nothing_else(make_series, tmp_path, modality, color):
    import pydicom

    kind = {"MR": "4", "CT": "2", "OT": "7"}[modality]
    settings = {"Modality": modality, "SOPClassUID": f"1.2.840.10008.5.1.4.1.1.{kind}"}
    source = make_series(1, edit=lambda number, made: marked(made), **settings)
    array, _ = read_image(source)
    pixels = np.repeat(array[..., None], 3, axis=-1) % 256 if color else array
    write_dicom(tmp_path / "out", pixels, source, references=[source])
    found = holders(pydicom.dcmread(next((tmp_path / "out").iterdir())))
    assert found == PATIENT | SCANNER | (set() if color else SETTINGS[modality])


@pytest.mark.parametrize("extension", [".nii.gz", ".nrrd"])
def test_a_dicom_series_saved_as_a_file_holds_no_words(make_series, tmp_path, extension):
    source = make_series(2, edit=lambda number, made: marked(made))
    array, meta = read_image(source)
    write_image(tmp_path / f"fused{extension}", array.astype(np.float32), None, meta["affine"])
    data = (tmp_path / f"fused{extension}").read_bytes()
    assert b"Secret" not in (gzip.decompress(data) if extension == ".nii.gz" else data)


def test_marks_inside_of_sequences_are_found():
    from pydicom.dataset import Dataset

    made, item = Dataset(), Dataset()
    item.CodeMeaning = MARK
    made.DeidentificationMethodCodeSequence = [item]
    copy = Dataset()
    keep_element(copy, made, "DeidentificationMethodCodeSequence", told=False)
    assert holders(copy) == {"CodeMeaning"}
