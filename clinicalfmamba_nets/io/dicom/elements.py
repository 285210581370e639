"""The elements of one DICOM header as plain texts and numbers, taken from their bytes only where they are asked for.

A study has thousands of headers. pydicom makes an object of each element that is looked at; here the bytes that it
found are decoded at once, and pydicom does what is rare: text beyond ASCII, sequences, unusual types.
"""

from __future__ import annotations

import math
import struct
from collections.abc import MutableSequence, Sequence
from typing import Any

from clinicalfmamba_nets.io.files import printable

_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_NUMBERS = ("DS", "IS", *_BINARY)


class Elements:
    """The elements of a pydicom dataset by keyword.

    Args:
        raw: elements by tag, as they were read, before any conversion.
        dataset: the dataset that they come from; made where it is needed.

    Example:
        >>> from pydicom.dataset import Dataset
        >>> made = Dataset()
        >>> made.ImageType, made.EchoTime = ["ORIGINAL", "PRIMARY"], "11.0"
        >>> elements = Elements.of(made)
        >>> elements.texts("ImageType"), elements.number("EchoTime"), elements.text("Modality")
        (('ORIGINAL', 'PRIMARY'), 11.0, '')
    """

    def __init__(self, raw: dict[int, Any], dataset: Any = None) -> None:
        self._raw = raw if dataset is None else {int(tag): found for tag, found in raw.items()}
        self._dataset = dataset

    @classmethod
    def of(cls, dataset: Any) -> Elements:
        """Return the elements of a dataset, or of an item of a sequence."""
        return cls(dict(dataset.items()), dataset)

    @property
    def dataset(self) -> Any:
        """The pydicom dataset."""
        if self._dataset is None:
            from pydicom.dataset import Dataset

            self._dataset = Dataset({found.tag: found for found in self._raw.values()})
        return self._dataset

    def _found(self, keyword: str | int) -> Any:
        return self._raw.get(_tag(keyword))

    def value(self, keyword: str | int) -> Any:
        """Return a value as pydicom gives it, None where the element is absent or empty."""
        if self._found(keyword) is None:
            return None
        found = self.dataset[_tag(keyword)].value
        return None if found is None or (isinstance(found, str | bytes | Sequence) and not len(found)) else found

    def items(self, keyword: str) -> Sequence[Any]:
        """Return the items of a sequence; none where it is absent or no sequence."""
        from pydicom.sequence import Sequence as Items

        found = self.value(keyword)
        return found if isinstance(found, Items) else []

    def texts(self, keyword: str | int) -> tuple[str, ...]:
        """Return the parts of a text between backslashes, each printable and without blanks around it."""
        found = self._found(keyword)
        raw = getattr(found, "value", None)
        if getattr(found, "is_raw", False) and isinstance(raw, bytes) and raw.isascii() and _vr(found) not in _BINARY:
            parts = raw.decode("ascii").split("\\")
        else:
            value = self.value(keyword)
            if value is None:
                return ()
            # Several values are a sequence; a name that is no ASCII is one value that can be iterated letter by letter.
            parts = [str(part) for part in (value if isinstance(value, MutableSequence) else [value])]
        parts = [part.strip("\0 ") for part in parts]
        # What a decoder could not read is a question mark in lists and records, never its replacement character.
        return tuple(
            part if part.isascii() and part.isprintable() else printable(part).replace("\ufffd", "?") for part in parts
        )

    def text(self, keyword: str | int) -> str:
        r"""Return a text in one piece, "" where it is absent; several values with a backslash between."""
        return "\\".join(self.texts(keyword))

    def numbers(self, keyword: str | int) -> tuple[float, ...] | None:
        """Return all numbers of an element, None where it is absent or empty.

        Raises:
            ValueError: something that is no number; the message names the element.
        """
        found = self._found(keyword)
        if found is None:
            return None
        try:
            if getattr(found, "is_raw", False) and isinstance(found.value, bytes) and _vr(found) in _NUMBERS:
                return _decoded(found)
            value = self.value(keyword)
            if value is None:
                return None
            items = [value] if isinstance(value, str | int | float) else list(value)
            return tuple(float(item) for item in items) or None
        except (ValueError, TypeError, OverflowError, struct.error) as error:
            raise ValueError(f"{_name(keyword)} {_shown(found)}") from error

    def number(self, keyword: str | int) -> float | None:
        """Return the first number of an element, None where it is absent or empty."""
        found = self.numbers(keyword)
        return found[0] if found else None

    def only(self, keyword: str) -> float | None:
        """Return the number of an element that holds one, None where it is absent or empty.

        Raises:
            ValueError: several numbers, or something that is none; the message names the element.
        """
        found = self.numbers(keyword)
        if found and len(found) > 1:
            raise ValueError(f"{len(found)} values of {keyword}")
        return found[0] if found else None

    def finite(self, keyword: str | int, count: int) -> tuple[float, ...] | None:
        """Return `count` finite numbers; None where the element is absent, of another length or not finite."""
        found = self.numbers(keyword)
        return found if found and len(found) == count and all(map(math.isfinite, found)) else None

    def private(self, group: int, creator: str, element: int) -> int:
        """Return the tag of a private element, whose block depends on the order in which makers claimed theirs.

        Args:
            group: odd.
            creator: how the text of the block's private creator begins, in any case.
            element: the last two hexadecimal digits of its tag.

        Returns:
            The tag; 0 where no block of the group is this maker's.
        """
        for tag in self._raw:
            block = tag & 0xFFFF
            if tag >> 16 == group and 0x10 <= block <= 0xFF and self.text(tag).upper().startswith(creator.upper()):
                return group << 16 | block << 8 | element
        return 0

    def count(self, keyword: str, absent: int) -> int:
        """Return a whole number, `absent` where there is none.

        Raises:
            ValueError: a number that is not whole, or none; the message names the element.
        """
        found = self.number(keyword)
        if found is None:
            return absent
        if not math.isfinite(found) or found != int(found):
            raise ValueError(f"{keyword} {found!r}")
        return int(found)


_TAGS: dict[str, int] = {}
_VRS: dict[int, str] = {}


def _tag(keyword: str | int) -> int:
    if isinstance(keyword, int):
        return keyword
    if keyword not in _TAGS:
        from pydicom.datadict import tag_for_keyword

        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(keyword)
        _TAGS[keyword] = int(tag)
    return _TAGS[keyword]


def _vr(found: Any) -> str:
    """Return the value representation that a file states, else that of the dictionary; "" for a private element."""
    if found.VR:
        return str(found.VR)
    tag = int(found.tag)
    if tag not in _VRS:
        from pydicom.datadict import dictionary_VR

        try:
            _VRS[tag] = dictionary_VR(tag)
        except KeyError:
            _VRS[tag] = ""
    return _VRS[tag]


def _decoded(found: Any) -> tuple[float, ...] | None:
    raw, kind = found.value, _vr(found)
    if kind in ("DS", "IS"):
        text = raw.strip(b"\0 ")
        return tuple(float(part) for part in text.split(b"\\")) if text else None
    letter = _BINARY[kind]
    order = "<" if found.is_little_endian else ">"
    return tuple(map(float, struct.unpack(f"{order}{len(raw) // struct.calcsize(letter)}{letter}", raw))) or None


def _name(keyword: str | int) -> str:
    return keyword if isinstance(keyword, str) else f"({keyword >> 16:04x},{keyword & 0xFFFF:04x})"


def _shown(found: Any) -> str:
    value = found.value
    text = value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else str(value)
    return printable(repr(text[:40]))
