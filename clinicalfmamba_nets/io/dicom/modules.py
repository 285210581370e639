"""The header of a derived DICOM image: what is kept of the source, what is new, and what tells that it is derived.

Source: DICOM PS3.3, A.3 (CT), A.4 (MR), A.8.1 (Secondary Capture), C.7.6.1 and C.12.1 (derivation and references).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.copying import keep_element
from clinicalfmamba_nets.io.dicom.header import Slice
from clinicalfmamba_nets.io.dicom.kinds import MODEL
from clinicalfmamba_nets.io.dicom.series import Series

NOTICE = "Not for diagnostic use"
FUSED = f"{NOTICE}: fused "  # what the SeriesDescription of a fused series begins with
CT, MR, SECONDARY = (f"1.2.840.10008.5.1.4.1.1.{number}" for number in (2, 4, 7))
_NUMBER, _COLOR_NUMBER = 10000, 11000  # of a derived series: that of its source and this


def _words(text: str) -> list[str]:
    return text.split()


PATIENT = _words(
    "PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex OtherPatientIDs PatientAge PatientSize "
    "PatientWeight PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence"
)
STUDY = _words(
    "StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber StudyDescription "
    "LongitudinalTemporalInformationModified"
)
PLACE = _words("PositionReferenceIndicator PatientPosition BodyPartExamined")
ACQUISITION = {
    MR: _words(
        "ScanningSequence SequenceVariant ScanOptions MRAcquisitionType SequenceName RepetitionTime EchoTime "
        "EchoTrainLength InversionTime MagneticFieldStrength ImagedNucleus FlipAngle"
    ),
    CT: _words("KVP AcquisitionNumber"),
    SECONDARY: [],
}
# Elements that must be there, though empty where the source does not tell (type 2): of any object, of any image.
IDENTITY = _words(
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber"
)
REQUIRED = {
    "": [*IDENTITY, *_words("PositionReferenceIndicator PatientPosition SliceThickness AcquisitionNumber")],
    MR: _words("ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength"),
    CT: ["KVP"],
    SECONDARY: [],
}
# Parts of the body without a left and a right one.
UNPAIRED = ("HEAD", "BRAIN", "SKULL", "NECK", "CSPINE", "CHEST", "ABDOMEN", "PELVIS", "HEADNECK", "WHOLEBODY")
EQUIPMENT = _words("Manufacturer InstitutionName ManufacturerModelName StationName SoftwareVersions")
LOSSY = _words("LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod")
# All that a derived image can take over from its source.
KEPT = (
    *("SpecificCharacterSet", "Laterality", *PATIENT, *STUDY, *PLACE, *LOSSY, *EQUIPMENT),
    *(keyword for keywords in ACQUISITION.values() for keyword in keywords),
)


@dataclass(frozen=True)
class NewSeries:
    """What all images of the written series have in common."""

    sop_class: str
    series: str
    study: str
    frame_of_reference: str
    number: int
    version: str
    time: datetime
    description: str
    derivation: str


def new_series(source: Series, others: Sequence[Series], color: bool, version: str, settings: str = "") -> NewSeries:
    """Choose kind, identifiers and descriptions of a derived series.

    Args:
        source: the series whose grid and patient are kept.
        others: the other series that went into the image.
        color: whether it is written in color.
        version: version of the software.
        settings: what the values depend on, such as windows and palette.
    """
    from pydicom.uid import generate_uid

    head = source.header
    kind = {"MR": MR, "CT": CT}.get(head.modality, SECONDARY)
    modalities = "+".join([item.modality or "OT" for item in (source, *others)])
    names = [item.header.series or "a series without UID" for item in (source, *others)]
    derivation = f"Fused by {MODEL} {version} from series {' and '.join(names)}. {NOTICE}."
    if settings:
        derivation += f" {settings.encode('ascii', 'backslashreplace').decode()}"
    number = int(head.number) if head.number.isdigit() else 0
    return NewSeries(
        SECONDARY if color else kind,
        generate_uid(prefix=None),
        head.study or generate_uid(prefix=None),
        source.frame_of_reference or generate_uid(prefix=None),
        min(number + (_COLOR_NUMBER if color else _NUMBER), 2**31 - 1),
        version,
        datetime.now(),
        f"{FUSED}{modalities}{' in color' if color else ''}"[:64],
        derivation[:1024],
    )


def decimal(value: float) -> str:
    """Return a number as DICOM text of at most 16 characters, as exact as that allows.

    Example:
        >>> decimal(-161.07467269897461)
        '-161.07467269897'
    """
    for digits in range(16, 0, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return "0" if float(text) == 0 else text
    raise AssertionError("one digit always fits")


def derived_header(source: Any, new: NewSeries, number: int, affine: np.ndarray) -> Any:
    """Build the header of one derived image, without pixels and references.

    Args:
        source: pydicom dataset of the source slice.
        new: what all images of the series have in common.
        number: index of the slice, from 0.
        affine: of the volume, 4 x 4, index to LPS mm.

    Returns:
        A pydicom dataset.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made = Dataset()
    kept = ["SpecificCharacterSet", *PATIENT, *STUDY, *PLACE, *ACQUISITION[new.sop_class], *LOSSY]
    for keyword in kept:
        keep_element(made, source, keyword, told=number == 0)
    for keyword in (*REQUIRED[""], *REQUIRED[new.sop_class]):
        if keyword not in made:
            setattr(made, keyword, None)
    made.SOPClassUID, made.StudyInstanceUID, made.SeriesInstanceUID = new.sop_class, new.study, new.series
    made.FrameOfReferenceUID = new.frame_of_reference
    name_image(made, number, affine)
    _describe(made, new)
    _place(made, affine)
    name_equipment(made, source, new.version)
    if made.get("BodyPartExamined") not in UNPAIRED:
        made.Laterality = source.get("Laterality") if source.get("Laterality") in ("L", "R") else None
    if new.sop_class == MR:
        made.ScanningSequence = made.get("ScanningSequence") or "RM"
        made.SequenceVariant = made.get("SequenceVariant") or "NONE"
        if "InversionTime" in made and "IR" not in str(made.ScanningSequence):
            del made.InversionTime
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def name_image(made: Any, number: int, affine: np.ndarray) -> None:
    """Give an image a UID, its number and its place: what no other image of its series has.

    Args:
        made: the dataset that is made.
        number: index of the slice, from 0.
        affine: of the volume, 4 x 4, index to LPS mm.
    """
    from pydicom.uid import generate_uid

    made.SOPInstanceUID, made.InstanceNumber = generate_uid(prefix=None), number + 1
    made.ImagePositionPatient = [decimal(value) for value in affine[:3, 3] + number * affine[:3, 2]]


def _describe(made: Any, new: NewSeries) -> None:
    date, time = new.time.strftime("%Y%m%d"), new.time.strftime("%H%M%S")
    made.Modality = {CT: "CT", MR: "MR"}.get(new.sop_class, "OT")
    made.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if new.sop_class == CT else "OTHER"]
    made.SeriesNumber = new.number
    made.SeriesDescription, made.DerivationDescription = new.description, new.derivation
    made.SeriesDate = made.ContentDate = made.InstanceCreationDate = date
    made.SeriesTime = made.ContentTime = made.InstanceCreationTime = time
    if new.sop_class == SECONDARY:
        made.ConversionType, made.PatientOrientation = "WSD", None
        made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = date, time


def _place(made: Any, affine: np.ndarray) -> None:
    across, down = (float(np.linalg.norm(affine[:3, axis])) for axis in (0, 1))
    rows = np.concatenate([affine[:3, 0] / across, affine[:3, 1] / down])
    normal = np.cross(rows[:3], rows[3:])
    made.PixelSpacing = [decimal(down), decimal(across)]
    made.ImageOrientationPatient = [decimal(value) for value in rows]
    made.SliceThickness = made.SpacingBetweenSlices = decimal(abs(float(affine[:3, 2] @ normal)))
    if made.SOPClassUID != MR:  # an element of the MR image, not of CT and Secondary Capture
        del made.SpacingBetweenSlices


def name_equipment(made: Any, source: Any, version: str) -> None:
    """Name this software as what made an object, and what took the source as having contributed.

    Args:
        made: the dataset that is made.
        source: the one that it is made from.
        version: of this software.
    """
    from pydicom.dataset import Dataset

    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = "ClinicalFMamba", MODEL, version
    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [coded("109101", "DCM", "Acquisition Equipment")]
    for keyword in EQUIPMENT:
        if source.get(keyword):
            keep_element(scanner, source, keyword, told=False)
    if not scanner.get("Manufacturer"):
        scanner.Manufacturer = "unknown"
    made.ContributingEquipmentSequence = [scanner]


def coded(value: str, scheme: str, meaning: str) -> Any:
    """Return a coded concept as the item of a code sequence."""
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def instance_reference(series: Series, item: Slice) -> Any:
    """Return a reference to the image that holds a slice of a series."""
    from pydicom.dataset import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = series.headers[item.path].sop_class
    reference.ReferencedSOPInstanceUID = item.uid
    return reference


def add_references(made: Any, used: Sequence[tuple[Series, Sequence[Slice]]]) -> None:
    """Name the source images of one derived image, and their series.

    Args:
        made: the derived image.
        used: each source series with those of its slices that went into the image.
    """
    from pydicom.dataset import Dataset

    sources: list[Any] = []
    studies: dict[str, list[Any]] = {}
    purpose = coded("121322", "DCM", "Source image for image processing operation")
    for series, slices in used:
        named = [item for item in slices if item.uid and series.headers[item.path].sop_class]
        for item in named:
            reference = instance_reference(series, item)
            if series.headers[item.path].frames > 1:
                reference.ReferencedFrameNumber = item.frame + 1
            reference.PurposeOfReferenceCodeSequence = [purpose]
            sources.append(reference)
        if named and series.header.series:
            entry = Dataset()
            entry.SeriesInstanceUID = series.header.series
            images = {item.uid: instance_reference(series, item) for item in named}
            entry.ReferencedInstanceSequence = list(images.values())
            studies.setdefault(series.header.study or made.StudyInstanceUID, []).append(entry)
    if sources:
        made.SourceImageSequence = sources
    own = studies.pop(made.StudyInstanceUID, None)
    if own:
        made.ReferencedSeriesSequence = own
    if studies:
        made.StudiesContainingOtherReferencedInstancesSequence = [_study(uid, items) for uid, items in studies.items()]


def _study(uid: str, entries: list[Any]) -> Any:
    from pydicom.dataset import Dataset

    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = uid, entries
    return study
