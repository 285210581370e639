"""A volume in color as one DICOM object: Multi-frame True Color Secondary Capture, each frame with its place.

Source: DICOM PS3.3, A.8.5 (the object), C.8.6.3 and C.8.6.4 (secondary capture of many frames), C.7.6.16 (functional
groups).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.modules import NewSeries, decimal, derived_header

TRUE_COLOR = "1.2.840.10008.5.1.4.1.1.7.4"
_SLICE_LOCATIONS = 0x00182005


def frames_in_one(source: Any, new: NewSeries, affine: np.ndarray, pixels: np.ndarray) -> Any:
    """Build a derived object of many frames, without references to its sources.

    Args:
        source: pydicom dataset of the first source slice.
        new: what the series is.
        affine: of the volume, 4 x 4, index to LPS mm.
        pixels: red, green and blue, shape (slices, rows, columns, 3), uint8.

    Returns:
        A pydicom dataset.
    """
    made = derived_header(source, new, 0, affine)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = TRUE_COLOR
    made.SharedFunctionalGroupsSequence = [_shared(made)]
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    places = [affine[:3, 3] + number * affine[:3, 2] for number in range(len(pixels))]
    made.PerFrameFunctionalGroupsSequence = [_frame(place) for place in places]
    for keyword in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"):
        if keyword in made:
            del made[keyword]
    made.NumberOfFrames, made.FrameIncrementPointer = len(pixels), _SLICE_LOCATIONS
    made.SliceLocationVector = [decimal(float(place @ normal)) for place in places]
    made.Rows, made.Columns = pixels.shape[1:3]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    data = np.ascontiguousarray(pixels).tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB"
    return made


def _shared(made: Any) -> Any:
    """Return the functional groups that all frames share, from the elements of a single slice."""
    from pydicom.dataset import Dataset

    group, measures, turn = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = made.PixelSpacing, made.SliceThickness
    turn.ImageOrientationPatient = made.ImageOrientationPatient
    group.PixelMeasuresSequence, group.PlaneOrientationSequence = [measures], [turn]
    return group


def _frame(place: np.ndarray) -> Any:
    from pydicom.dataset import Dataset

    group, position = Dataset(), Dataset()
    position.ImagePositionPatient = [decimal(value) for value in place]
    group.PlanePositionSequence = [position]
    return group
