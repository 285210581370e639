"""What kinds of DICOM objects are read as images, and why others are not."""

from __future__ import annotations

from clinicalfmamba_nets.io.dicom.header import Header
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
_NUCLEAR = f"{_STORAGE}20"
_GREY = ("MONOCHROME2",)
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# Uncompressed syntaxes: implicit and explicit little endian, explicit big endian.
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
MAX_SIDE = 16384


def is_image(header: Header) -> bool:
    """Tell whether a file holds an image at all; plans, structures, reports and the like do not."""
    not_images = header.modality in ("RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "SR", "PR", "KO", "REG", "RTRECORD")
    return bool((header.rows and header.columns) or header.problem) and not not_images


def is_mosaic(header: Header) -> bool:
    """Tell whether many slices are tiled in one picture, as Siemens does."""
    return any("MOSAIC" in word.upper() for word in header.image_type)


def is_color(header: Header) -> bool:
    """Tell whether pixels have red, green and blue."""
    return header.samples == 3


def image_problem(header: Header) -> str:
    """Tell in one clause why a file cannot be a part of a volume, "" where it can."""
    return header.problem or _kind_problem(header) or _pixel_problem(header) or _size_problem(header)


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
    if header.sop_class == _NUCLEAR or header.detector:
        return f"expected slices with places of their own, found nuclear medicine frames ({name}, SOPClassUID \
(0008,0016) {kind}); export the reconstructed series as PET or as NIfTI"
    known = header.sop_class in SLICED or header.sop_class in COLOR_CAPABLE
    if not known and not (not header.sop_class and header.modality in ("CT", "MR", "PT")):
        found = f"{header.modality or 'unknown'} ({name}, SOPClassUID (0008,0016) {kind})"
        return f"expected a CT, MR or PET image, found {found}; choose another series or convert it to NIfTI"
    return ""


def _pixel_problem(header: Header) -> str:
    name = printable(header.path.name)
    allowed = _COLOR + _GREY if header.sop_class in COLOR_CAPABLE else _GREY
    if header.photometric not in allowed or header.samples != (1 if header.photometric in _GREY else 3):
        found = f"{header.photometric or 'none'} with {header.samples} samples ({name})"
        return f"expected PhotometricInterpretation (0028,0004) {' or '.join(allowed[-1:])}, found {found}; export \
the original grey series"
    depth = (8,) if header.samples == 3 else (8, 16, 32)
    if header.bits_allocated not in depth or not 1 <= header.bits_stored <= header.bits_allocated:
        found = f"{header.bits_stored} of {header.bits_allocated} bits ({name})"
        return (
            f"expected {', '.join(map(str, depth))} BitsAllocated (0028,0100), found {found}; export the series again"
        )
    if header.high_bit != header.bits_stored - 1:
        found = f"{header.high_bit} ({name})"
        return f"expected HighBit (0028,0102) {header.bits_stored - 1}, found {found}; export the series again"
    if header.has_lut:
        return f"expected RescaleSlope and RescaleIntercept, found a ModalityLUTSequence (0028,3000) ({name}); export \
the series without a table"
    for item in header.slices:
        if item.slope == 0 or not all(value is None or abs(value) < 1e12 for value in (item.slope, item.intercept)):
            found = f"{item.slope} and {item.intercept} ({name})"
            return (
                f"expected a RescaleSlope (0028,1053) that is a number other than 0, found {found}; export the series \
again"
            )
    return ""


def _size_problem(header: Header) -> str:
    """Find sizes that cannot be true, before anything is allocated."""
    name, size = printable(header.path.name), f"{header.rows} x {header.columns}"
    if header.frames < 1 or header.frames != len(header.slices):
        places = len(header.slices)
        return f"expected a place for each of {header.frames} frames, found {places} ({name}, PerFrameFunctionalGroups\
Sequence (5200,9230)); convert it to NIfTI by dcm2niix"
    needed = header.rows * header.columns * header.samples * header.frames * header.bits_allocated // 8
    if header.stored <= 0:
        return f"expected PixelData (7FE0,0010), found none ({name}); copy or export the file again"
    packed = header.syntax not in NATIVE[:3]
    if needed > header.stored * (MAX_COMPRESSION if packed else 1):
        found = f"{header.stored} bytes ({name})"
        return f"expected {needed} bytes for Rows x Columns (0028,0010 and 0011) {size}, found {found}; the file is \
truncated or its header is wrong: copy or export it again"
    if max(header.rows, header.columns) > MAX_SIDE:
        return f"expected at most {MAX_SIDE} Rows and Columns, found {size} ({name}); export smaller images"
    return ""
