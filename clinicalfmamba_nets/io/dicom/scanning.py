"""The top-level elements of a plain DICOM header, found by their lengths alone: many times faster than by pydicom.

What is not plain (no preamble, deflated, big endian, a header that ends early, sequences that are looked into) is left
to pydicom, so that nothing is decided here but where an element starts and ends.

Source: DICOM PS3.5, 7.1 (data elements) and 7.5 (sequences); PS3.10, 7.1 (file meta information).
"""

from __future__ import annotations

import struct
from typing import Any

# Elements with a length of four bytes in explicit syntaxes.
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
}  # fmt: skip
_IMPLICIT, _BIG, _DEFLATED = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
# Sequences that are looked into: functional groups, detectors, tracers, tables, which pydicom reads.
_LOOKED_INTO = {0x52009230, 0x52009229, 0x00540022, 0x00540016, 0x00283000}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 20
_HEAD = struct.Struct("<HH")
_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")


class _NotPlainError(Exception):
    """The header is one that pydicom is to read."""


def scan(data: bytes, size: int) -> tuple[dict[int, Any], str, int] | None:
    """Find the elements of a header.

    Args:
        data: the start of the file.
        size: bytes of the file.

    Returns:
        pydicom's raw elements by tag, the transfer syntax, and how many bytes of the file follow from the element that
        holds the pixels on; None where the header is not plain or does not end within `data`.
    """
    try:
        syntax, start = _meta(data)
        implicit = syntax == _IMPLICIT
        found, end = _elements(data, start, size, implicit)
    except (struct.error, IndexError, _NotPlainError):
        return None
    return found, syntax.decode("ascii"), size - end


def _meta(data: bytes) -> tuple[bytes, int]:
    """Return the transfer syntax and where the file meta information ends."""
    if data[128:132] != b"DICM":
        raise _NotPlainError
    syntax, offset = b"", 132
    while data[offset : offset + 2] == b"\x02\x00":
        tag, _, length, value = _explicit(data, offset)
        if tag == 0x00020010:
            syntax = data[value : value + length].rstrip(b"\0 ")
        offset = value + length
    if not syntax or not syntax.isascii() or syntax in (_BIG, _DEFLATED) or syntax == b"1.2.840.113619.5.2":
        raise _NotPlainError
    return syntax, offset


def _explicit(data: bytes, offset: int) -> tuple[int, bytes, int, int]:
    """Return tag, value representation, length and start of the value of an element in an explicit syntax."""
    group, element = _HEAD.unpack_from(data, offset)
    kind = data[offset + 4 : offset + 6]
    if kind in _SHORT:
        return group << 16 | element, kind, _U16.unpack_from(data, offset + 6)[0], offset + 8
    if kind in _LONG:
        return group << 16 | element, kind, _U32.unpack_from(data, offset + 8)[0], offset + 12
    raise _NotPlainError


def _head(data: bytes, offset: int, implicit: bool) -> tuple[int, bytes, int, int]:
    if not implicit:
        return _explicit(data, offset)
    group, element = _HEAD.unpack_from(data, offset)
    return group << 16 | element, b"", _U32.unpack_from(data, offset + 4)[0], offset + 8


def _elements(data: bytes, offset: int, size: int, implicit: bool) -> tuple[dict[int, Any], int]:
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import BaseTag

    found: dict[int, Any] = {}
    while offset < size:
        tag, kind, length, value = _head(data, offset, implicit)
        if tag in _PIXELS:
            break
        if tag in _LOOKED_INTO or tag < 0x00080000:
            raise _NotPlainError
        if length == _UNDEFINED:
            offset = _skipped(data, value, implicit, 0)
            continue
        offset = value + length
        if offset > len(data):
            raise _NotPlainError
        if kind != b"SQ":
            name = kind.decode("ascii") if kind else None
            raw = data[value:offset]
            found[tag] = RawDataElement(BaseTag(tag), name, length, raw, value, implicit, True)
    return found, offset


def _skipped(data: bytes, offset: int, implicit: bool, depth: int) -> int:
    """Return where a sequence of undefined length, whose first item starts at `offset`, ends."""
    if depth > _DEEPEST:
        raise _NotPlainError
    while True:
        tag, length = _item(data, offset)
        offset += 8
        if tag == _SEQUENCE_END:
            return offset
        if tag != _ITEM:
            raise _NotPlainError
        if length != _UNDEFINED:
            offset += length
            continue
        while _item(data, offset)[0] != _ITEM_END:
            _, _, inner, value = _head(data, offset, implicit)
            offset = _skipped(data, value, implicit, depth + 1) if inner == _UNDEFINED else value + inner
        offset += 8


def _item(data: bytes, offset: int) -> tuple[int, int]:
    group, element = _HEAD.unpack_from(data, offset)
    return group << 16 | element, _U32.unpack_from(data, offset + 4)[0]
