"""Which forms of pixels are decoded here, told from a header alone: color space, bits, transfer syntax, bytes.

Source: DICOM PS3.3, C.7.6.3 (image pixel module); PS3.5, 8 and annex A (encoding, transfer syntaxes).
"""

from __future__ import annotations

from clinicalfmamba_nets.io.dicom.header import Header, quiet_pydicom
from clinicalfmamba_nets.io.files import printable

_SYNTAX = "1.2.840.10008.1.2"
# Uncompressed syntaxes: implicit and explicit little endian, explicit big endian, deflated.
NATIVE = (_SYNTAX, f"{_SYNTAX}.1", f"{_SYNTAX}.2", f"{_SYNTAX}.1.99")
RLE = f"{_SYNTAX}.5"
JPEG_BASELINE = f"{_SYNTAX}.4.50"
_JPEG = ("50", "51", "57", "70", "80", "81", "90", "91", "201", "202", "203")
KNOWN_SYNTAXES = (*NATIVE, RLE, *(f"{_SYNTAX}.4.{number}" for number in _JPEG))
_NEWER = {"110": "JPEG XL Lossless", "111": "JPEG XL JPEG Recompression", "112": "JPEG XL"}

PALETTE = "PALETTE COLOR"
INVERTED = "MONOCHROME1"
_GREY = ("MONOCHROME2", INVERTED)
_RGB = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def is_color(header: Header) -> bool:
    """Tell whether pixels are read as red, green and blue, from three samples or by a palette."""
    return header.samples == 3 or header.photometric == PALETTE


def pixel_bytes(header: Header) -> int:
    """Return how many bytes the pixels of a file have before any compression."""
    bits = header.rows * header.columns * header.samples * header.frames * header.bits_allocated
    return bits // 8 if not is_subsampled(header) else bits // 12


def is_subsampled(header: Header) -> bool:
    """Tell whether two pixels share their color differences in uncompressed data."""
    return header.photometric == "YBR_FULL_422" and header.syntax in NATIVE


def pixel_problem(header: Header, color_allowed: bool) -> str:
    """Tell in one clause why the pixels of a file are not decoded, "" where they are.

    Args:
        header: of the file.
        color_allowed: whether objects of its kind may be in color.

    Returns:
        "expected ..., found ...; what to do".
    """
    return (
        _syntax_problem(header)
        or _color_problem(header, color_allowed)
        or _bits_problem(header)
        or _scale_problem(header)
    )


def _syntax_problem(header: Header) -> str:
    if header.syntax in KNOWN_SYNTAXES:
        return ""
    from pydicom.uid import UID

    with quiet_pydicom():
        known = UID(header.syntax).name
    name = _NEWER.get(header.syntax.removeprefix(f"{_SYNTAX}.4."), "" if known == header.syntax else known)
    found = f"{header.syntax or 'none'}{f' ({name})' if name else ''} in {printable(header.path.name)}"
    return f"expected a transfer syntax (0002,0010) that is decoded here, found {found}; export the series uncompressed"


def _color_problem(header: Header, color_allowed: bool) -> str:
    name, kind = printable(header.path.name), header.photometric
    allowed = (*_GREY, PALETTE, *_RGB) if color_allowed else _GREY
    if kind not in allowed or header.samples != (3 if kind in _RGB else 1):
        found = f"{kind or 'none'} with {header.samples} samples ({name})"
        wanted = "MONOCHROME2 or RGB" if color_allowed else "MONOCHROME2"
        return (
            f"expected PhotometricInterpretation (0028,0004) {wanted}, found {found}; export the original grey series"
        )
    if is_subsampled(header) and (header.columns % 2 or header.planar):
        found = f"{header.columns} columns, PlanarConfiguration {header.planar} ({name})"
        return f"expected YBR_FULL_422 in pairs of pixels, found {found}; export the series as RGB"
    return ""


def _bits_problem(header: Header) -> str:
    name, allocated, stored = printable(header.path.name), header.bits_allocated, header.bits_stored
    depth = (8,) if header.samples == 3 else (8, 16) if header.photometric == PALETTE else (8, 16, 32)
    if allocated not in depth or not 1 <= stored <= allocated:
        found = f"{stored} of {allocated} bits ({name})"
        return (
            f"expected {', '.join(map(str, depth))} BitsAllocated (0028,0100), found {found}; export the series again"
        )
    if allocated == 32 and header.syntax not in (*NATIVE, RLE):
        found = f"32 in compressed data ({name})"
        return f"expected 8 or 16 BitsAllocated (0028,0100), found {found}; export the series uncompressed"
    movable = header.syntax in (*NATIVE, RLE) and header.samples == 1
    if header.high_bit != stored - 1 and not (movable and stored - 1 < header.high_bit < allocated):
        found = f"{header.high_bit} ({name})"
        return f"expected HighBit (0028,0102) {stored - 1}, found {found}; export the series again"
    return ""


def _scale_problem(header: Header) -> str:
    name = printable(header.path.name)
    if header.has_lut:
        return f"expected RescaleSlope and RescaleIntercept, found a ModalityLUTSequence (0028,3000) ({name}); export \
the series without a table"
    for item in header.slices:
        if item.slope == 0 or not all(value is None or abs(value) < 1e12 for value in (item.slope, item.intercept)):
            found = f"{item.slope} and {item.intercept} ({name})"
            return f"expected a RescaleSlope (0028,1053) that is a number other than 0, found {found}; export the \
series again"
    return ""
