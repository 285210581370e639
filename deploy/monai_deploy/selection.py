"""Selection rules in the SDK's form, judged before anything runs: the SDK itself stops in the middle of a study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import check_file, printable

PAIR = ("image", "image2")
_EXPECTED, _REMEDY = "selection rules for image and image2", "see deploy/monai_deploy/rules"
_MOST_BYTES = 2**20
_COMPARISONS = (">", ">=", "<", "<=", "!=")
_NUMERIC = {"DS", "IS", "FL", "FD", "US", "SS", "UL", "SL"}


def read_rules(path: Path) -> str:
    """Return the text of a file of selection rules, in the SDK's form, that select `image` and `image2`.

    Args:
        path: the JSON file: `selections`, each with a `name` and `conditions` (DICOM keyword to text, number or list).

    Raises:
        FusionInputError: the file is missing, is no such JSON, has other selections or conditions that the SDK cannot
            compare.
    """
    if not path.exists():
        raise input_error(printable(path), _EXPECTED, "No such file or directory", _REMEDY)
    if check_file(path, "selection rules").stat().st_size > _MOST_BYTES:
        raise _refusal(path, f"{path.stat().st_size} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        raise _refusal(path, error.strerror or "an error") from error
    except RecursionError as error:
        raise _refusal(path, "JSON that is nested too deeply") from error
    except ValueError as error:
        raise _refusal(path, f"{type(error).__name__}: {error}") from error
    _check(path, content)
    return text


def _refusal(path: Path, found: str) -> FusionInputError:
    return input_error(printable(path), _EXPECTED, printable(found[:200]), _REMEDY)


def _check(path: Path, content: Any) -> None:
    """Refuse whatever is not a list of named conditions."""
    selections = content.get("selections") if isinstance(content, dict) else None
    if not isinstance(selections, list):
        raise _refusal(path, f"{_kind(content)} without a list of selections")
    names = []
    for number, rule in enumerate(selections, 1):
        name = rule.get("name") if isinstance(rule, dict) else None
        if not isinstance(name, str):
            raise _refusal(path, f"selection {number} without a name that is text")
        conditions = rule.get("conditions")
        if not isinstance(conditions, dict) or not conditions:
            raise _refusal(path, f"{_kind(conditions)} as the conditions of {name}")
        for keyword, value in conditions.items():
            problem = _condition_problem(keyword, value)
            if problem:
                raise _refusal(path, f"{problem} for {keyword} of {name}")
        names.append(name)
    if sorted(names) != sorted(PAIR):
        raise _refusal(path, f"those for {', '.join(sorted(names)) or 'nothing'}")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _condition_problem(keyword: str, value: Any) -> str:
    """Tell why the SDK cannot compare an element with a value, "" where it can."""
    from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        return "no element of DICOM"
    numeric, several = dictionary_VR(tag) in _NUMERIC, dictionary_VM(tag) != "1"
    if isinstance(value, str):
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError):
            return "a pattern that is no regular expression"
        return "" if value else "an empty text"
    if _is_number(value):
        return "" if numeric or several else "a number where text is compared"
    if isinstance(value, list) and value and all(_is_number(item) or isinstance(item, str) for item in value):
        if several and not numeric:
            return ""
        pair = len(value) == 2 and _is_number(value[0]) and (_is_number(value[1]) or value[1] in _COMPARISONS)
        return "" if numeric and pair else "a list that is no range"
    return f"{_kind(value)}, which nothing is compared with"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
