"""The head phantom as a DICOM study: an MR series and a CT or PET series of one made patient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.data.phantom import head_phantom
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import PathLike, to_path

SPACING, DISTANCE = 230.0, 6.0  # mm: width of a slice, distance of two
CLASSES = {"MR": "1.2.840.10008.5.1.4.1.1.4", "CT": "1.2.840.10008.5.1.4.1.1.2", "PT": "1.2.840.10008.5.1.4.1.1.128"}
KINDS = {"ct": "CT", "pet": "PT"}
BQML_OF_SUV = 5000.0  # of 370 MBq in 61 kg after 30 of 110 minutes of half-life


def write_phantom_study(
    folder: PathLike, second: str = "ct", size: int = 128, slices: int = 12, seed: int = 0
) -> list[str]:
    """Write the phantom as a DICOM study for trials: a head that narrows towards both ends, T2 and CT, or T2 and PET.

    Args:
        folder: where to; made when missing. The series lie in `MR` and in `CT` or `PT`.
        second: "ct" (HU) or "pet" (Bq/ml, with what SUV is computed from).
        size: side of the square slices in pixels.
        slices: of each series, 6 mm apart.
        seed: as in `head_phantom`; also of the UIDs, so that the same call writes the same files.

    Returns:
        The UIDs of the study and of both series.

    Raises:
        FusionInputError: another second image.
    """
    if second not in KINDS:
        raise input_error(f"second {second!r}", f"one of {', '.join(KINDS)}", "another name", "correct it")
    images = head_phantom(size, seed)
    values: dict[str, NDArray] = {
        "MR": np.round(1200 * images["t2"]),
        "CT": np.interp(images["ct"], (0, 1e-6, 0.75, 1), (-1000, 0, 80, 1200)).round(),
        "PT": np.round(6 * BQML_OF_SUV * images["pet"]),
    }
    uids = [_uid(second, size, slices, seed)]
    for number, kind in enumerate(("MR", KINDS[second]), 1):
        uids.append(_uid(uids[0], kind))
        target = to_path(folder) / kind
        target.mkdir(parents=True, exist_ok=True)
        for place in range(slices):
            air = -1000 if kind == "CT" else 0
            made = _slice(kind, _narrowed(values[kind], 2 * place / max(slices - 1, 1) - 1, air))
            made.StudyInstanceUID, made.SeriesInstanceUID, made.SeriesNumber = uids[0], uids[-1], number
            made.SOPInstanceUID, made.FrameOfReferenceUID = _uid(uids[-1], place), _uid(uids[0], "frame")
            if kind == "PT":
                made.ImageIndex, made.NumberOfSlices = place + 1, slices
            made.InstanceNumber, made.ImagePositionPatient = place + 1, [-SPACING / 2, -SPACING / 2, DISTANCE * place]
            made.save_as(target / f"{place:03d}.dcm", enforce_file_format=True)
    return uids


def _uid(*words: Any) -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["phantom study", *map(str, words)]))


def _narrowed(image: NDArray, height: float, air: float) -> NDArray:
    """Shrink a slice towards its middle: whole at height 0, half as wide at 1 and -1."""
    from scipy.ndimage import affine_transform

    share, middle = np.sqrt(1 - 0.75 * height**2), (len(image) - 1) / 2
    return affine_transform(image, [1 / share] * 2, middle - middle / share, order=1, cval=air).round()


def _slice(kind: str, values: NDArray) -> Any:
    """A pydicom dataset with all that does not differ between the slices of a series."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.Modality, made.BodyPartExamined = CLASSES[kind], kind, "HEAD"
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Phantom^Head", "PHANTOM", "", "O"
    made.StudyDate = made.SeriesDate = made.AcquisitionDate = "20240102"
    made.StudyTime, made.SeriesTime, made.AcquisitionTime = "100000", "103000", "103000"
    made.StudyID, made.AccessionNumber, made.ReferringPhysicianName, made.Manufacturer = "1", "", "", ""
    made.StudyDescription, made.SeriesDescription = "Computed head", {"MR": "T2 head", "CT": "CT head"}.get(kind, "PET")
    made.ImageType, made.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS"
    made.PositionReferenceIndicator = made.PatientOrientation = ""
    made.ImageOrientationPatient, made.SliceThickness = [1, 0, 0, 0, 1, 0], DISTANCE
    made.PixelSpacing = [SPACING / len(values)] * 2
    made.Rows, made.Columns = values.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, int(kind == "CT")
    made.PixelData = values.astype("<i2" if kind == "CT" else "<u2").tobytes()
    if kind != "MR":
        made.RescaleIntercept, made.RescaleSlope = 0, 1
    if kind == "CT":
        made.RescaleType, made.KVP, made.AcquisitionNumber = "HU", 120, 1
    elif kind == "MR":
        made.ScanningSequence, made.SequenceVariant, made.ScanOptions, made.MRAcquisitionType = "SE", "SK", "", "2D"
        made.EchoTime, made.RepetitionTime, made.EchoTrainLength = 90, 4000, 12
    else:
        _add_dose(made)
    return made


def _add_dose(made: Any) -> None:
    """What the uptake of a PET is computed from: body weight, dose and times."""
    from pydicom.dataset import Dataset

    del made.PatientPosition  # the sequence of codes stands for it

    dose = Dataset()
    dose.Radiopharmaceutical, dose.RadionuclideTotalDose = "FDG", 370e6
    dose.RadionuclideCodeSequence = []
    dose.RadiopharmaceuticalStartTime, dose.RadionuclideHalfLife = "100000", 6586.2
    made.RadiopharmaceuticalInformationSequence = [dose]
    made.PatientWeight, made.Units, made.DecayCorrection = 61, "BQML", "START"
    made.CorrectedImage = ["ATTN", "DECY"]
    made.SeriesType, made.CountsSource = ["STATIC", "IMAGE"], "EMISSION"
    made.CollimatorType, made.DecayFactor = "NONE", 1
    made.PatientOrientationCodeSequence = made.PatientGantryRelationshipCodeSequence = []
    made.FrameReferenceTime, made.ActualFrameDuration = 0, 600000
