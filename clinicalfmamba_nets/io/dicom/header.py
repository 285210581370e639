"""The header of one DICOM file as plain values: what kind of image it holds and where each slice or frame lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.io.dicom.contrast_elements import frame_contrast
from clinicalfmamba_nets.io.dicom.elements import Elements
from clinicalfmamba_nets.io.dicom.nuclear import nuclear_frames
from clinicalfmamba_nets.io.dicom.parsing import parse_header, quiet_pydicom, read_dataset
from clinicalfmamba_nets.io.files import PathLike, printable, to_path
from clinicalfmamba_nets.io.raw import refuse_damaged

__all__ = ["Header", "Slice", "quiet_pydicom", "read_dataset", "read_header"]

_TEXTS = {
    "sop_class": "SOPClassUID",
    "modality": "Modality",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "frame_of_reference": "FrameOfReferenceUID",
    "number": "SeriesNumber",
    "description": "SeriesDescription",
    "patient": "PatientID",
    "birth_date": "PatientBirthDate",
    "patient_name": "PatientName",
    "sex": "PatientSex",
    "issuer": "IssuerOfPatientID",
    "instance": "InstanceNumber",
    "whole": "ConcatenationUID",
    "burned": "BurnedInAnnotation",
    "body_part": "BodyPartExamined",
    "model": "ManufacturerModelName",
    "protocol": "ProtocolName",
}
NUCLEAR, PET = "1.2.840.10008.5.1.4.1.1.20", "1.2.840.10008.5.1.4.1.1.128"
# The end of the SOP class of images of one modality.
_CLASSES = {
    **dict.fromkeys(("2", "2.1", "2.2"), "CT"),
    **dict.fromkeys(("4", "4.1", "4.4"), "MR"),
    **dict.fromkeys(("128", "128.1", "130"), "PT"),
    "20": "NM",
}
# Group, private creator, element: the number of slices, and how many of them are tiled in one picture.
_PHILIPS = (0x2001, "Philips Imaging DD 001", 0x18)
_SIEMENS = (0x0019, "SIEMENS MR HEADER", 0x0A)


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice: a file, or one frame of it, and its place in the patient (LPS, mm)."""

    path: Path
    frame: int = 0
    uid: str = ""
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    thickness: float | None = None
    gap: float | None = None
    slope: float | None = None
    intercept: float | None = None
    contrast: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Header:
    """What is said about all slices of a file."""

    path: Path
    sop_class: str = ""
    modality: str = ""
    study: str = ""
    series: str = ""
    frame_of_reference: str = ""
    number: str = ""
    description: str = ""
    patient: str = ""
    birth_date: str = ""
    patient_name: str = ""
    sex: str = ""
    issuer: str = ""
    instance: str = ""
    burned: str = ""
    body_part: str = ""
    taken: str = ""
    model: str = ""
    protocol: str = ""
    rows: int = 0
    columns: int = 0
    samples: int = 1
    photometric: str = ""
    planar: int = 0
    bits_allocated: int = 0
    bits_stored: int = 0
    high_bit: int = 0
    signed: bool = False
    frames: int = 1
    syntax: str = ""
    stored: int = 0
    tiles: int = 1
    expected_slices: int = 0
    expected_by: str = ""
    expected_images: int = 0
    whole: str = ""
    part: int = 0
    parts: int = 0
    image_type: tuple[str, ...] = ()
    has_lut: bool = False
    problem: str = ""
    tracer: str = ""
    warnings: list[str] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)


def read_header(path: PathLike) -> Header:
    """Read what the header of a file says, without its pixels.

    Args:
        path: a DICOM file.

    Returns:
        The header; absent numbers are None, absent text is "". Nothing is judged yet, but `problem` names a value that
        is no number.

    Raises:
        FusionInputError: the file is truncated or damaged.
    """
    file = to_path(path)
    elements, syntax, left = parse_header(file)
    with refuse_damaged(path, "DICOM file"), quiet_pydicom():
        known: dict[str, Any] = {key: elements.text(keyword) for key, keyword in _TEXTS.items()}
        try:
            header = _header(file, elements, known)
        except (ValueError, TypeError, OverflowError) as error:
            found = f"{' '.join(str(error).split())[:80]} ({printable(file.name)})"
            problem = f"expected numbers in its header, found {found}; export it again"
            return Header(file, **known, problem=problem, slices=[Slice(file)])
    header.syntax, header.stored = syntax, left
    return header


def _header(path: Path, elements: Elements, known: dict[str, Any]) -> Header:
    bits = elements.count("BitsAllocated", 0)
    header = Header(
        path,
        **known,
        rows=elements.count("Rows", 0),
        columns=elements.count("Columns", 0),
        samples=elements.count("SamplesPerPixel", 1),
        photometric=elements.text("PhotometricInterpretation"),
        planar=elements.count("PlanarConfiguration", 0),
        bits_allocated=bits,
        bits_stored=elements.count("BitsStored", bits),
        signed=bool(elements.count("PixelRepresentation", 0)),
        frames=elements.count("NumberOfFrames", 1),
        image_type=elements.texts("ImageType"),
        has_lut=bool(elements.items("ModalityLUTSequence")),
    )
    header.high_bit = elements.count("HighBit", header.bits_stored - 1)
    header.modality = header.modality.upper()
    if header.modality in ("", "OT"):  # OT, other, tells nothing
        stated = _CLASSES.get(header.sop_class.removeprefix("1.2.840.10008.5.1.4.1.1."), "")
        if stated:
            what = "Modality (0008,0060) says OT" if header.modality else "no Modality (0008,0060)"
            header.warnings.append(f"{what}: taken as {stated} by its SOPClassUID (0008,0016)")
        header.modality = stated or header.modality
    header.tiles = _whole(elements, elements.private(*_SIEMENS)) or 1
    _set_expected(header, elements)
    header.tracer, header.taken = _tracer(elements), _taken(elements)
    per_frame = elements.items("PerFrameFunctionalGroupsSequence")
    if per_frame:
        shared = [*elements.items("SharedFunctionalGroupsSequence")[:1]]
        header.slices = [
            _slice(path, elements, number, [Elements.of(item) for item in (group, *shared)])
            for number, group in enumerate(per_frame)
        ]
    elif header.sop_class == NUCLEAR:
        header.slices = _nuclear(path, elements, header)
    else:
        header.slices = [_slice(path, elements, 0, [])]
    return header


def _slice(path: Path, elements: Elements, number: int, groups: Sequence[Elements]) -> Slice:
    """Take the place and the contrast of one frame from its functional groups, else from the file's own elements."""

    def look(keyword: str, sequence: str) -> Elements:
        for group in groups:
            for item in group.items(sequence)[:1]:
                found = Elements.of(item)
                if found.value(keyword) is not None:
                    return found
        return elements

    place = look("ImagePositionPatient", "PlanePositionSequence")
    turn = look("ImageOrientationPatient", "PlaneOrientationSequence")
    if not groups and elements.value("DetectorInformationSequence") is not None:
        detector = _detector(elements)
        place = place if place.value("ImagePositionPatient") is not None else detector
        turn = turn if turn.value("ImageOrientationPatient") is not None else detector
    return Slice(
        path,
        number,
        elements.text("SOPInstanceUID"),
        place.finite("ImagePositionPatient", 3),
        turn.finite("ImageOrientationPatient", 6),
        look("PixelSpacing", "PixelMeasuresSequence").finite("PixelSpacing", 2),
        look("SliceThickness", "PixelMeasuresSequence").number("SliceThickness"),
        look("SpacingBetweenSlices", "PixelMeasuresSequence").number("SpacingBetweenSlices"),
        look("RescaleSlope", "PixelValueTransformationSequence").only("RescaleSlope"),
        look("RescaleIntercept", "PixelValueTransformationSequence").only("RescaleIntercept"),
        frame_contrast(elements, look),
    )


def _detector(elements: Elements) -> Elements:
    """Return the first detector, which holds the place of a nuclear medicine image; without any, the file itself."""
    items = elements.items("DetectorInformationSequence")
    return Elements.of(items[0]) if items else elements


def _nuclear(path: Path, elements: Elements, header: Header) -> list[Slice]:
    """Place the frames of a reconstructed nuclear medicine image: one position, SliceVector and a signed distance.

    Source: DICOM PS3.3, C.8.4.15 (NM reconstruction). A negative SpacingBetweenSlices runs against the normal of the
    slices.
    """
    import numpy as np

    told = nuclear_frames(elements, header.frames)
    header.problem, header.warnings = told.problem, [*header.warnings, *told.warnings]
    first = _slice(path, elements, 0, [])
    step = next((value for value in (first.gap, first.thickness) if value), None)
    slices = []
    for number, (detector, place) in enumerate(zip(told.detectors, told.slices, strict=True)):
        position, turn = (
            elements.finite(keyword, count) or detector.finite(keyword, count) or known
            for keyword, count, known in (
                ("ImagePositionPatient", 3, first.position),
                ("ImageOrientationPatient", 6, first.orientation),
            )
        )
        if position is not None and turn is not None and step is not None and header.frames > 1:
            normal = np.cross(turn[:3], turn[3:])
            position = tuple(float(value) for value in np.array(position) + normal * step * (place - 1))
        contrast = {**first.contrast, **told.contrasts[number]}
        slices.append(replace(first, frame=number, position=position, orientation=turn, contrast=contrast))
    return slices


def _set_expected(header: Header, elements: Elements) -> None:
    """Note how many places, images and files there are by the header; a derived image may have its source's counts."""
    derived = header.image_type[:1] == ("DERIVED",)
    if header.sop_class in (PET, NUCLEAR) or not derived:
        header.expected_slices, header.expected_by = _whole(elements, "NumberOfSlices"), "NumberOfSlices (0054,0081)"
    if derived:
        return
    if not header.expected_slices:
        header.expected_slices = _whole(elements, elements.private(*_PHILIPS))
        header.expected_by = "Number of Slices MR (2001,1018)"
    header.expected_images = _whole(elements, "ImagesInAcquisition")
    header.part, header.parts = (_whole(elements, f"InConcatenation{end}") for end in ("Number", "TotalNumber"))


def _whole(elements: Elements, keyword: str | int) -> int:
    """Return a whole number that nothing depends on but a warning; 0 where it is absent or none."""
    try:
        found = elements.number(keyword)
    except ValueError:
        return 0
    return int(found) if found is not None and 0 < found < 1e6 else 0


def _tracer(elements: Elements) -> str:
    """Return the radionuclide that was given, as the code's meaning or the radiopharmaceutical's name."""
    for item in elements.items("RadiopharmaceuticalInformationSequence")[:1]:
        found = Elements.of(item)
        codes = [Elements.of(code).text("CodeMeaning") for code in found.items("RadionuclideCodeSequence")[:1]]
        return " ".join(filter(None, [*codes, found.text("Radiopharmaceutical")]))
    return ""


def _taken(elements: Elements) -> str:
    """Return when an image was acquired, else when its series or study began, as digits of date and time."""
    whole = elements.text("AcquisitionDateTime")
    pairs = [
        (elements.text(f"{what}Date"), elements.text(f"{what}Time")) for what in ("Acquisition", "Series", "Study")
    ]
    stated = [whole, *(day + time for day, time in pairs if day)]
    return next((text for text in stated if text[:8].isdigit() and len(text) >= 8), "")
