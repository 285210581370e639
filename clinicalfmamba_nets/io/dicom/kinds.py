"""What kinds of DICOM objects are read as images, and why others are not."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clinicalfmamba_nets.io.dicom.header import NUCLEAR, Header
from clinicalfmamba_nets.io.dicom.pixel_format import NATIVE, pixel_bytes, pixel_problem
from clinicalfmamba_nets.io.files import printable
from clinicalfmamba_nets.io.raw import MAX_COMPRESSION

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SLICED = {
    f"{_STORAGE}2": "CT Image",
    f"{_STORAGE}2.1": "Enhanced CT Image",
    f"{_STORAGE}2.2": "Legacy Converted Enhanced CT Image",
    f"{_STORAGE}4": "MR Image",
    f"{_STORAGE}4.1": "Enhanced MR Image",
    f"{_STORAGE}4.4": "Legacy Converted Enhanced MR Image",
    f"{_STORAGE}128": "PET Image",
    f"{_STORAGE}128.1": "Legacy Converted Enhanced PET Image",
    f"{_STORAGE}130": "Enhanced PET Image",
}
COLOR_CAPABLE = {
    f"{_STORAGE}7": "Secondary Capture Image",
    f"{_STORAGE}7.4": "Multi-frame True Color Secondary Capture Image",
    f"{_STORAGE}4.3": "Enhanced MR Color Image",
}
MODEL = "clinicalfmamba-nets"  # what the objects that this software writes name as their maker
SECONDARY = f"{_STORAGE}7"
# Spectra, segmentations and doses, whose Modality may be that of the images they were made from.
_NO_IMAGES = {f"{_STORAGE}{end}" for end in ("4.2", "66.4", "66.7", "481.2")}
# What BodyPartExamined says where a head is in the image, or may be.
HEAD_WORDS = (
    r"head|brain|skull|fac[ei]|cereb|crani|neuro|orbit|eye|\bears?\b|\biac|sinus|pituit|sella|temporal|neck|jaw|maxilla|"
    r"mandib|tmj|nose|kopf|tete|testa|cabeza|craneo|sch(ae|ä)del|hirn|cephal|whole|phantom|unknown|other"
)
_PLANAR = tuple((kind,) for kind in ("STATIC", "DYNAMIC", "GATED", "WHOLE BODY", "TOMO", "GATED TOMO"))
_RECONSTRUCTED = ("RECON TOMO", "RECON GATED TOMO", "GATED RECON TOMO")
# Words of a description, or of ImageType, of a series that plans or documents others.
_SCOUT = (
    r"\b(lo[ck]ali[sz]ers?|localisateurs?|localizzator[ei]|localizadores|rep[eé]rages?|planungs\w*|"
    r"(ü|ue)bersicht\w*|smart ?brain|scouts?|topograms?|topogramm?e?|surviews?|scanograms?|scano|survey|loc|locs|"
    r"3[- ]?plane|pilot|three[- ]?plane|tri[- ]?plan(e|ar)?)\b"
)
_REPORT = (
    r"\b(dose (report|info|summary|record|sheet)|patient protocol|exam(ination)? protocol|protocol (page|sheet)|"
    r"radiation dose|screen ?save|csa report)\b"
)
_PHOTONS = (
    r"\b(tc[- ]?99m?|99m?[- ]?tc|technetium|i[- ]?123|123[- ]?i|iodine[- ]?123|in[- ]?111|111[- ]?in|tl[- ]?201|"
    r"201[- ]?tl|xe[- ]?133|hmpao|ecd|spect|datscan|ioflupane)\b"
)
_POSITRONS = r"\b(f[- ]?18|18[- ]?f|fluorine|fdg|pet|c[- ]?11|ga[- ]?68|o[- ]?15)\b"
# Words of an MR's ImageType, or its ComplexImageComponent, whose brightness is not that of anatomy.
_NO_ANATOMY = (
    (("P", "PHASE", "PHASE MAP", "PHASEMAP"), "the phase of the signal, no anatomy; choose the magnitude"),
    (("PROJECTION IMAGE", "MIP", "MINIP", "MNIP", "MPR MIP"), "a projection through many slices; choose the slices"),
    (
        ("ADC", "ADC_UNSPECIFIED", "FA", "CBF", "CBV", "MTT", "TTP", "TMAX", "RELCBF", "RELCBV", "RCBF", "RCBV"),
        "a map of measured values, which the weights were not trained on",
    ),
)
MAX_SIDE = 16384


def is_image(header: Header) -> bool:
    """Tell whether a file holds an image at all; plans, structures, reports and the like do not."""
    not_images = header.modality in ("RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "SR", "PR", "KO", "REG", "RTRECORD")
    known = not_images or header.sop_class in _NO_IMAGES
    return bool((header.rows and header.columns) or header.problem) and not known


def is_mosaic(header: Header) -> bool:
    """Tell whether many slices are tiled in one picture, as Siemens does."""
    return header.tiles > 1 or any("MOSAIC" in word.upper() for word in header.image_type)


def _said(words: str, *texts: str) -> bool:
    text = " ".join(texts).lower().replace("_", " ").replace("\\", " ").replace("^", " ")
    return re.search(words, text) is not None


def is_scout_type(image_type: str) -> bool:
    """Tell by ImageType whether an image is a localizer.

    Example:
        >>> is_scout_type("ORIGINAL\\\\PRIMARY\\\\LOCALIZER"), is_scout_type("ORIGINAL\\\\PRIMARY\\\\AXIAL")
        (True, False)
    """
    return _said(_SCOUT, *image_type.split("\\")[2:])


def role_of(header: Header) -> str:
    """Tell what a series is where nobody fuses it unless asked to: in words, "" for an image of the patient.

    Example:
        >>> from pathlib import Path
        >>> role_of(Header(Path("a.dcm"), modality="CT", description="Topogram 0.6 T20s"))
        'a scout (localizer)'
    """
    if header.model == MODEL:
        return "an earlier result of this software"
    if is_scout_type("\\".join(header.image_type)) or _said(_SCOUT, header.description):
        return "a scout (localizer)"
    if header.modality == "NM" and "TRANSMISSION" in header.image_type:
        return "a transmission scan, which shows the attenuation and no tracer"
    if _said(_REPORT, header.description, *header.image_type[2:]):
        return "a dose report or screen"
    if header.sop_class == SECONDARY and header.slices and header.slices[0].position is None:
        return "a screen without a place in the patient"
    return ""


def not_anatomy(words: Iterable[str]) -> str:
    """Tell what an MR shows where it is no image of anatomy, by words of ImageType and ComplexImageComponent; else "".

    Example:
        >>> not_anatomy(["P", "ND"])
        'says P: the phase of the signal, no anatomy; choose the magnitude'
        >>> not_anatomy(["M", "ND", "NORM"])
        ''
    """
    found = {word.strip().upper() for word in words}
    hits = [(word, what) for known, what in _NO_ANATOMY for word in known if word in found]
    return f"says {hits[0][0]}: {hits[0][1]}" if hits else ""


def tracer_modality(header: Header) -> str:
    """Return "NM" for SPECT that is stored as PET, by its tracer or description, else what the file states.

    Example:
        >>> from pathlib import Path
        >>> tracer_modality(Header(Path("a.dcm"), modality="PT", tracer="^99m^Technetium"))
        'NM'
    """
    if header.modality != "PT":
        return header.modality
    told = (header.tracer, header.description) if header.tracer else (header.description, *header.image_type)
    if _said(_PHOTONS, *told) and not _said(_POSITRONS, *told):
        return "NM"
    return "PT"


def image_problem(header: Header) -> str:
    """Tell in one clause why a file cannot be a part of a volume, "" where it can."""
    return (
        header.problem
        or _kind_problem(header)
        or pixel_problem(header, header.sop_class in COLOR_CAPABLE)
        or _size_problem(header)
    )


def _kind_problem(header: Header) -> str:
    name, kind = printable(header.path.name), header.sop_class or "none"
    if not is_image(header):
        what = f"{header.modality or 'an object'} without pixels" if not header.rows else header.modality
        return f"expected an image, found {what} ({name}, SOPClassUID (0008,0016) {kind}); choose an image series"
    if is_mosaic(header):
        return (
            f"expected one slice in each image, found a mosaic of many ({name}, ImageType (0008,0008)); convert it to \
NIfTI by dcm2niix"
        )
    if header.sop_class == NUCLEAR or (header.modality == "NM" and header.image_type[2:3] in _PLANAR):
        return _nuclear_problem(header)
    known = header.sop_class in SLICED or header.sop_class in COLOR_CAPABLE
    if not known and not (not header.sop_class and header.modality in ("CT", "MR", "PT")):
        found = f"{header.modality or 'unknown'} ({name}, SOPClassUID (0008,0016) {kind})"
        return f"expected a CT, MR or PET image, found {found}; choose another series or convert it to NIfTI"
    return ""


def _nuclear_problem(header: Header) -> str:
    """Tell why a nuclear medicine image is no volume: planar, or without a place."""
    name = printable(header.path.name)
    kind = header.image_type[2] if len(header.image_type) > 2 else ""
    if kind not in _RECONSTRUCTED:
        found = f"a planar nuclear medicine image, {kind or 'of no stated kind'}"
        return (
            f"expected a reconstructed SPECT (RECON TOMO), found {found} ({name}, ImageType (0008,0008)); choose the \
reconstructed series"
        )
    first = header.slices[0]
    if header.frames > 1 and not first.gap and not first.thickness:
        return f"expected the distance of slices in SpacingBetweenSlices (0018,0088), found none ({name}); export the \
reconstructed series again"
    return ""


def _size_problem(header: Header) -> str:
    """Find sizes that cannot be true, before anything is allocated."""
    name, size = printable(header.path.name), f"{header.rows} x {header.columns}"
    if header.frames < 1 or header.frames != len(header.slices):
        places = len(header.slices)
        return f"expected a place for each of {header.frames} frames, found {places} ({name}, PerFrameFunctionalGroups\
Sequence (5200,9230)); convert it to NIfTI by dcm2niix"
    needed = pixel_bytes(header)
    if header.stored <= 0:
        return f"expected PixelData (7FE0,0010), found none ({name}); copy or export the file again"
    packed = header.syntax not in NATIVE[:3]
    if needed > header.stored * (MAX_COMPRESSION if packed else 1):
        found = f"{header.stored} bytes ({name})"
        return f"expected {needed} bytes for Rows x Columns (0028,0010 and 0011) {size}, found {found}; the file is \
truncated or its header is wrong: copy or export it again"
    more = header.stored // max(1, needed // header.frames)
    if not packed and more > header.frames:
        found = f"as many bytes as {more} have ({name})"
        return f"expected {header.frames} frames by NumberOfFrames (0028,0008) and BitsAllocated (0028,0100), found \
{found}; its header is wrong: export it again"
    if max(header.rows, header.columns) > MAX_SIDE:
        return f"expected at most {MAX_SIDE} Rows and Columns, found {size} ({name}); export smaller images"
    return ""
