"""The header of a DICOM object without pixels that this software adds to a study: who, which study, made by what.

Source: DICOM PS3.3, C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1 and C.12.1 (patient, study, series, equipment, SOP common).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from clinicalfmamba_nets.io.dicom.copying import keep_element
from clinicalfmamba_nets.io.dicom.header import Slice, read_dataset
from clinicalfmamba_nets.io.dicom.modules import IDENTITY, NOTICE, PATIENT, STUDY, UNPAIRED, name_equipment
from clinicalfmamba_nets.io.dicom.series import Series


def new_object(series: Series, sop_class: str, modality: str, number: int, description: str) -> Any:
    """Build the part of the header that is alike in reports, presentation states and registrations.

    Patient and study are those of a series; series and object get new UIDs.

    Args:
        series: the series that the object is about.
        sop_class: what the object is.
        modality: its Modality, such as "SR", "PR" or "REG".
        number: added to the number of the series for that of the new one.
        description: of the new series; the notice that it is not for diagnosis goes before it.

    Returns:
        A pydicom dataset with its file meta information.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    from clinicalfmamba_nets import __version__

    made, source = Dataset(), read_dataset(series.slices[0].path)
    for keyword in ("SpecificCharacterSet", *PATIENT, *STUDY):
        keep_element(made, source, keyword, told=True)
    for keyword in IDENTITY:
        if keyword not in made:
            setattr(made, keyword, None)
    made.SOPClassUID, made.SOPInstanceUID = sop_class, generate_uid(prefix=None)
    made.StudyInstanceUID = series.header.study or generate_uid(prefix=None)
    made.SeriesInstanceUID, made.Modality = generate_uid(prefix=None), modality
    own = int(series.header.number) if series.header.number.isdigit() else 0
    made.SeriesNumber, made.InstanceNumber = min(own + number, 2**31 - 1), 1
    made.SeriesDescription = f"{NOTICE}: {description}"[:64]
    now = datetime.now()
    made.SeriesDate = made.ContentDate = made.InstanceCreationDate = now.strftime("%Y%m%d")
    made.SeriesTime = made.ContentTime = made.InstanceCreationTime = now.strftime("%H%M%S")
    name_equipment(made, source, __version__)
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def name_body_part(made: Any, series: Series) -> None:
    """Say which part of the body an object in space is about, or that its side is not known."""
    source = read_dataset(series.slices[0].path)
    keep_element(made, source, "BodyPartExamined", told=False)
    if made.get("BodyPartExamined") not in UNPAIRED:
        made.Laterality = source.get("Laterality") if source.get("Laterality") in ("L", "R") else None


def image_references(series: Series, slices: Sequence[Slice] | None = None) -> list[Any]:
    """Return one reference for each file of a series, with its frames where not all of them belong to it.

    Args:
        series: the series.
        slices: some of its slices; None for all.
    """
    from pydicom.dataset import Dataset

    frames: dict[Any, list[int]] = {}
    for item in series.slices if slices is None else slices:
        frames.setdefault(item.path, []).append(item.frame + 1)
    uids = {item.path: item.uid for item in series.slices}
    found = []
    for path, numbers in frames.items():
        reference, header = Dataset(), series.headers[path]
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = header.sop_class, uids[path]
        if len(numbers) < header.frames:
            reference.ReferencedFrameNumber = sorted(numbers)
        found.append(reference)
    return found


def series_references(parts: Sequence[Series]) -> list[Any]:
    """Return the images of several series by series, as ReferencedSeriesSequence lists them."""
    from pydicom.dataset import Dataset

    images: dict[str, dict[str, Any]] = {}
    for part in parts:
        listed = images.setdefault(part.header.series, {})
        for reference in image_references(part):
            reference.pop("ReferencedFrameNumber", None)
            listed[reference.ReferencedSOPInstanceUID] = reference
    found = []
    for uid, references in images.items():
        entry = Dataset()
        entry.SeriesInstanceUID, entry.ReferencedInstanceSequence = uid, list(references.values())
        found.append(entry)
    return found
