"""A rigid registration written as a DICOM Spatial Registration object.

Source: DICOM PS3.3, A.39.1 and C.20.2 (spatial registration), C.20.2.1.1 (the matrix leads from the referenced images
to the Frame of Reference of the object).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.modules import MODEL, coded, decimal
from clinicalfmamba_nets.io.dicom.objects import image_references, name_body_part, new_object, series_references
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.transform_file import LPS

SPATIAL_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.1"
_NUMBER = 13000  # of the series: that of the first source and this


def registration_object(first: Series, second: Series, matrix: np.ndarray) -> Any:
    """Build the registration of a second series to a first one.

    The images are named one by one, because both series may state one Frame of Reference.

    Args:
        first: the series that stays.
        second: the one that was moved.
        matrix: 4 x 4, a place of the first volume to the place of the same tissue in the second; RAS mm.

    Returns:
        A pydicom dataset.
    """
    made = new_object(first, SPATIAL_REGISTRATION, "REG", _NUMBER, f"registration by {MODEL}")
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = first.frame_of_reference, None
    name_body_part(made, first)
    made.DeviceSerialNumber = MODEL
    made.ContentLabel, made.ContentDescription = "REGISTRATION", f"{second.modality} to {first.modality}, rigid"
    made.ContentCreatorName = None
    back = LPS @ np.linalg.inv(matrix) @ LPS
    made.RegistrationSequence = [_item(first, np.eye(4)), _item(second, back)]
    made.ReferencedSeriesSequence = series_references([first, second])
    return made


def _item(series: Series, matrix: np.ndarray) -> Any:
    """Name the images of a series and the matrix that leads from them to the Frame of Reference of the object."""
    from pydicom.dataset import Dataset

    item, step, transform = Dataset(), Dataset(), Dataset()
    if series.frame_of_reference:
        item.FrameOfReferenceUID = series.frame_of_reference
    item.ReferencedImageSequence = image_references(series)
    transform.FrameOfReferenceTransformationMatrixType = "RIGID"
    transform.FrameOfReferenceTransformationMatrix = [decimal(value) for value in np.asarray(matrix).ravel()]
    step.MatrixSequence = [transform]
    step.RegistrationTypeCodeSequence = [coded("125024", "DCM", "Image Content-based Alignment")]
    item.MatrixRegistrationSequence = [step]
    return item
