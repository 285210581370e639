"""What tells apart the contrasts, time points and energy windows that share one DICOM series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clinicalfmamba_nets.io.dicom.elements import Elements

# Values of one contrast may differ by this part from slice to slice.
TOLERANCE = 0.01
Look = Callable[[str, str], Elements]


@dataclass(frozen=True)
class ContrastElement:
    """One element that tells contrasts apart: where it stands in a frame, and how its values compare.

    Args:
        keyword: of the file's own element, and the name in selectors.
        frame: the element in a functional group, and the group's sequence; "" where there is none.
        measured: a number that scanners write with jitter.
        weak: differs between slices of one contrast too, so that it never makes single slices of a series.
    """

    keyword: str
    frame: tuple[str, str] = ("", "")
    measured: bool = False
    weak: bool = False


# In the order in which they are tried.
CONTRAST_ELEMENTS = (
    ContrastElement("EchoTime", ("EffectiveEchoTime", "MREchoSequence"), measured=True),
    ContrastElement("InversionTime", ("InversionTimes", "MRModifierSequence"), measured=True),
    ContrastElement("DiffusionBValue", ("DiffusionBValue", "MRDiffusionSequence"), measured=True),
    ContrastElement("FlipAngle", ("FlipAngle", "MRTimingAndRelatedParametersSequence"), measured=True),
    ContrastElement("ImageType", ("FrameType", "")),
    ContrastElement("ComplexImageComponent", ("ComplexImageComponent", "")),
    ContrastElement("EchoNumbers"),
    ContrastElement("SequenceName"),
    ContrastElement("ConvolutionKernel", ("ConvolutionKernel", "CTReconstructionSequence")),
    ContrastElement("SeriesDescription"),
    ContrastElement("ProtocolName"),
    ContrastElement("RepetitionTime", ("RepetitionTime", "MRTimingAndRelatedParametersSequence"), measured=True),
    ContrastElement("KVP", ("KVP", "CTXRayDetailsSequence"), measured=True),
    ContrastElement("SliceThickness", ("SliceThickness", "PixelMeasuresSequence"), measured=True),
    ContrastElement("EnergyWindow"),
    ContrastElement("Detector"),
    ContrastElement("RRInterval", weak=True),
    ContrastElement("TimeSlot", weak=True),
    ContrastElement("TimeSlice", weak=True),
    ContrastElement("Phase", weak=True),
    ContrastElement("StackID", ("StackID", "FrameContentSequence"), weak=True),
    ContrastElement("TemporalPositionIdentifier", ("TemporalPositionIndex", "FrameContentSequence"), weak=True),
    ContrastElement("FrameReferenceTime", weak=True),
    ContrastElement("AcquisitionTime", ("FrameAcquisitionDateTime", "FrameContentSequence"), weak=True),
    ContrastElement("TriggerTime", ("NominalCardiacTriggerDelayTime", "CardiacSynchronizationSequence"), weak=True),
    ContrastElement("AcquisitionNumber", ("FrameAcquisitionNumber", "FrameContentSequence"), weak=True),
    ContrastElement("DiffusionGradientOrientation"),
)
TIME_POINT = ContrastElement("TimePoint", weak=True)  # counted here, where acquisition times differ from slice to slice
BY_NAME = {element.keyword.lower(): element for element in (*CONTRAST_ELEMENTS, TIME_POINT)}
_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_DIRECTION = "DiffusionGradientDirectionSequence"
VECTORS = ("EnergyWindow", "Detector", "RRInterval", "TimeSlot", "TimeSlice", "Phase")
_NUMBERS = {"EchoNumbers", "TemporalPositionIdentifier", "FrameReferenceTime", "TriggerTime", "AcquisitionNumber"}
# Where makers put the b-value before there was an element for it: group, private creator, element.
_PRIVATE_B = ((0x0019, "SIEMENS MR HEADER", 0x0C), (0x0043, "GEMS", 0x39), (0x2001, "Philips", 0x03))


def frame_contrast(elements: Elements, look: Look) -> dict[str, float | str]:
    """Return the contrast of one frame, numbers rounded to 4 digits behind the point.

    Args:
        elements: of the file.
        look: returns the group of a frame that holds an element, else `elements`: `look(keyword, sequence)`.
    """
    found: dict[str, float | str] = {}
    for element in CONTRAST_ELEMENTS:
        keyword, sequence = element.frame
        place = _of_frame_type(keyword, elements, look) if keyword and not sequence else elements
        place = look(keyword, sequence) if sequence else place
        name = keyword if place is not elements and keyword else element.keyword
        if element.keyword not in VECTORS:
            value = _value(place, name, element.measured or element.keyword in _NUMBERS)
            value = (
                _value(elements, element.keyword, element.measured)
                if value is None and place is not elements
                else value
            )
            if value is not None:
                found[element.keyword] = value
    if "DiffusionGradientOrientation" not in found:  # it lies a sequence deeper than the others
        inner = look(_DIRECTION, "MRDiffusionSequence").items(_DIRECTION)[:1]
        direction = Elements.of(inner[0]).text("DiffusionGradientOrientation") if inner else ""
        found |= {"DiffusionGradientOrientation": direction} if direction else {}
    if "DiffusionBValue" not in found:
        private = _private_b(elements)
        found |= {} if private is None else {"DiffusionBValue": private}
    return found


def _value(place: Elements, keyword: str, number: bool) -> float | str | None:
    if number:
        try:
            value = place.number(keyword)
        except ValueError:  # a contrast that is no number: as text
            return place.text(keyword) or None
        return None if value is None else round(value, 4)
    return place.text(keyword) or None


def _of_frame_type(keyword: str, elements: Elements, look: Look) -> Elements:
    for sequence in _TYPES:
        found = look(keyword, sequence)
        if found is not elements:
            return found
    return elements


def _private_b(elements: Elements) -> float | None:
    for group, creator, element in _PRIVATE_B:
        tag = elements.private(group, creator, element)
        if tag:
            try:
                value = elements.number(tag)
            except ValueError:
                return None
            return None if value is None or value < 0 else round(value % 1e6, 4)  # GE adds a billion
    return None


def shown(value: Any) -> str:
    r"""Return the value of an element as it stands in selectors: without what a shell or a selector reads otherwise.

    Example:
        >>> shown(11.0), shown("ORIGINAL\\PRIMARY\\M"), shown("T2 [ax], fast")
        ('11', 'ORIGINAL/PRIMARY/M', 'T2 ?ax?? fast')
    """
    text = f"{value:.6g}" if isinstance(value, float) else str(value).replace("\\", "/")
    return "".join("?" if letter in ",[]*" else letter for letter in text)
