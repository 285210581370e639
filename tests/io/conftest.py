"""DICOM series made for the tests: small, valid, and altered slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def dicom_slice(number: int, **settings):
    """A pydicom dataset of one axial MR or CT slice, 6 rows x 4 columns, 2 mm apart; settings replace its elements."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    modality = settings.get("Modality", "MR")
    made = Dataset()
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2" if modality == "CT" else "1.2.840.10008.5.1.4.1.1.4"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
    made.SOPInstanceUID = f"1.2.3.2.{number + 1}"
    made.FrameOfReferenceUID, made.PatientID, made.PatientName = "1.2.3.3", "P7", "Test^Head"
    made.Modality, made.SeriesNumber, made.SeriesDescription = modality, 5, "test series"
    made.InstanceNumber, made.BodyPartExamined = number + 1, "HEAD"
    made.ImageOrientationPatient, made.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.5, 0.75]
    made.ImagePositionPatient, made.SliceThickness = [-10, -20, 30 + 2 * number], 2
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 6, 4, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    if modality == "CT":
        made.RescaleSlope, made.RescaleIntercept = 1, -1024
    made.PixelData = (np.arange(24, dtype="<u2").reshape(6, 4) + 100 * number).tobytes()
    for keyword, value in settings.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


@pytest.fixture
def make_series(tmp_path: Path) -> Callable[..., Path]:
    """`make_series(4, edit=..., **elements)` writes a series; `edit(number, dataset)` alters single slices."""

    def make(count: int = 4, folder: str = "series", edit: Callable | None = None, **settings) -> Path:
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        for number in range(count):
            made = dicom_slice(number, **settings)
            if edit:
                edit(number, made)
            # Names run against the order in space.
            name = f"{made.SeriesInstanceUID}_{made.get('EchoTime', '')}_{99 - number}.dcm"
            made.save_as(target / name, enforce_file_format=True)
        return target

    return make


@pytest.fixture
def dicom_file() -> Callable[..., Path]:
    """`dicom_file(path, 3, edit)` writes one MR file, of several frames as enhanced MR; `edit(dataset)` alters it."""

    def make(path: Path, frames: int = 1, edit: Callable | None = None) -> Path:
        from pydicom.dataset import Dataset

        made = dicom_slice(0)
        if frames > 1:
            made.SOPClassUID, made.NumberOfFrames = "1.2.840.10008.5.1.4.1.1.4.1", frames
            made.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(frames)]
            for number, group in enumerate(made.PerFrameFunctionalGroupsSequence):
                group.PlanePositionSequence = [Dataset()]
                group.PlanePositionSequence[0].ImagePositionPatient = [-10, -20, 30 + 2 * number]
        if edit:
            edit(made)
        made.save_as(path, enforce_file_format=True)
        return path

    return make
