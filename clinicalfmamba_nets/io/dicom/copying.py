"""Elements copied from one DICOM object to another: only what is valid DICOM, and text only where it can be read.

Source: DICOM PS3.5, 6.1 (character sets) and 6.2 (value representations).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

_logger = logging.getLogger(__name__)
_CHARSET = "SpecificCharacterSet"
_BROKEN = "\ufffd"  # what a decoder puts where bytes are no text of their character set


def keep_element(made: Any, source: Any, keyword: str, told: bool) -> None:
    """Copy an element; a value that is no valid DICOM is not taken over, one name in several parts is joined.

    Args:
        made: the dataset that is made.
        source: the one that is copied from.
        keyword: of the element; nothing is done where the source has none.
        told: whether to log what is left out.
    """
    if keyword not in source:
        return
    try:  # pydicom reads an element when it is asked for, and raises a RuntimeError for a VR that DICOM has not
        value = _joined(source[keyword])
        _check(source, keyword, value)
        setattr(made, keyword, value)
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        if told:
            _logger.warning("%s of the source is not valid DICOM and was left out: %s", keyword, error)


def _joined(element: Any) -> Any:
    from pydicom.datadict import dictionary_VM
    from pydicom.multival import MultiValue

    value = element.value
    if isinstance(value, MultiValue) and dictionary_VM(element.tag) == "1":
        return " ".join(str(part) for part in value)
    return value


def _check(source: Any, keyword: str, value: Any) -> None:
    """Refuse values that break their representation, and text that is none of the source's character set."""
    from pydicom.config import RAISE
    from pydicom.multival import MultiValue
    from pydicom.valuerep import validate_value

    kind = source[keyword].VR
    for part in value if isinstance(value, MultiValue) else [value]:
        if part is not None and kind != "SQ":
            validate_value(kind, str(part) if kind not in ("FL", "FD", "US", "SS") else part, RAISE)
    unknown = unknown_charset(source)
    if unknown and keyword == _CHARSET:
        raise ValueError(f"{unknown} is no character set")
    for text in _texts(value):
        if _BROKEN in text:
            raise ValueError(f"its bytes are no text of {source.get(_CHARSET) or 'the default character set'}")
        if unknown and not text.isascii():
            raise ValueError(f"{unknown} is no character set")


def unknown_charset(source: Any) -> str:
    """Return what stands in SpecificCharacterSet and is no character set, "" where all is known."""
    from pydicom.charset import python_encoding

    stated = source.get(_CHARSET)
    names = [stated] if isinstance(stated, str) else [str(name) for name in stated or []]
    return next((name for name in names if name not in python_encoding), "")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value, through sequences too."""
    from pydicom.sequence import Sequence

    if isinstance(value, Sequence):
        for item in value:
            for element in item:
                yield from _texts(element.value)
    elif value is not None:
        yield str(value)


def told_text(text: str, made: Any) -> str:
    """Return text that a dataset can hold in its own character set, else in ASCII with escapes.

    Args:
        text: from anywhere; what a decoder put in the place of broken bytes is taken out.
        made: the dataset that the text goes to.

    Example:
        >>> from pydicom.dataset import Dataset
        >>> told_text("Sch\u00e4del", Dataset())
        'Sch\\\\xe4del'
    """
    from pydicom.charset import python_encoding

    text = text.replace(_BROKEN, "")
    stated = made.get(_CHARSET)
    codec = python_encoding.get(stated, "ascii") if isinstance(stated, str) else "ascii"
    try:
        text.encode("ascii" if codec == python_encoding[""] and not stated else codec)
    except UnicodeEncodeError:
        return text.encode("ascii", "backslashreplace").decode()
    return text
