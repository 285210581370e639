"""What the names of two files and of their folders say of the patients: subjects, sessions and numbers that differ."""

from __future__ import annotations

import itertools
import os
import re

from clinicalfmamba_nets.io import case_name, printable

# What stands before the number or name of a subject, or of a session, in the name of a file or folder.
_SUBJECT = (
    r"(?<![a-z])(?:sub-([a-z0-9]+)|(?:subject|subj|sub|patient|pat|case)[-_ ]?(\d[a-z0-9]*)"
    r"|(brats.+?)(?=[_-](?:t1|t2|flair|seg)))"
)
_SESSION = r"(?<![a-z])(?:ses-([a-z0-9]+)|(?:ses|session|visit)[-_ ]?(\d[a-z0-9]*))"
# Words of a name that say what an image shows, and those whose numbers count images of one patient.
_SHOWN = re.compile("mri?|t[12]w?|t1ce|t1c|t1gd|flair|t2f|ct|spect|pet")
_COUNTED = re.compile(
    "series|ser?|scan|image|img|im|slice|sl|echo|run|acq|acquisition|version|vol|volume|file|export|seq|frame|part"
    "|ses|session|visit|day|month|year|week|exp|pa|path|st|[a-oq-z]"
)
_DATE = r"(?:19|20)\d\d[01]\d[0-3]\d"


def other_patient(path: str, other: str, numbers: bool = True) -> str:
    """Tell of what two files are named otherwise: "subject", "session" or "number"; "" where nothing speaks for it.

    The file's name goes before those of its folders, of which only those count that the two files do not share.

    Args:
        path: one file or folder, "" for none.
        other: the other one.
        numbers: whether to compare other numbers than those of subjects and sessions, such as P001 and P002.

    Example:
        >>> other_patient("sub-07/mr.nii.gz", "sub-8/ct.nii.gz"), other_patient("P001_mr.nii.gz", "P002_ct.nii.gz")
        ('subject', 'number')
        >>> other_patient("sub-07_T1w.nii.gz", "sub-7_ct.nii.gz"), other_patient("5_T1.nii.gz", "3_CT.nii.gz")
        ('', '')
    """
    if not path or not other:
        return ""
    one, two = _own_parts(path, other)
    for what, pattern in (("subject", _SUBJECT), ("session", _SESSION)):
        first, second = (next(filter(None, (_found(pattern, part) for part in parts)), "") for parts in (one, two))
        if first and second:
            if first != second:
                return what
            numbers = False  # who is shown is said, and is one
    if not numbers or not one or not two:
        return ""
    told = _numbered(one[0], two[0], 5)
    if len(one) == len(two) > 1:
        told = told or _numbered(one[-1], two[-1], 99)  # folders of studies have long numbers of their own
    return "number" if told else ""


def _own_parts(path: str, other: str) -> tuple[list[str], list[str]]:
    """Return the names of both files, then of the folders that are not common to them, from the file up."""
    places = [os.path.abspath(os.path.normpath(name.split("::")[0])).split(os.sep) for name in (path, other)]
    folders = zip(*(parts[:-1] for parts in places), strict=False)
    common = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], folders)))
    one, two = ([part.lower() for part in reversed(parts[common:])] for parts in places)
    return [case_name(one[0]), *one[1:]], [case_name(two[0]), *two[1:]]


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return _plain(next(filter(None, found.groups()), "")) if found else ""


def _plain(number: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", number)


def _numbered(one: str, other: str, least: int) -> bool:
    """Tell whether two names differ first in the number of a patient: P001 and P002, TCGA-02-0001 and TCGA-02-0003.

    Numbers without letters are those of series as a rule: those of four digits with a leading zero, and of `least`
    digits, are not.
    """
    words = [[word for word in re.split(r"[^a-z0-9]+", name) if not _SHOWN.fullmatch(word)] for name in (one, other)]
    before = ""
    for first, second in zip(*words, strict=False):
        if first == second:
            before = first
            continue
        found = [re.fullmatch(r"([a-z]*)(\d+)", word) for word in (first, second)]
        if not found[0] or not found[1] or found[0][1] != found[1][1]:
            return False
        letters, digits = found[0][1], [match[2] for match in found if match]
        if _plain(digits[0]) == _plain(digits[1]):
            continue
        if letters:
            return not _COUNTED.fullmatch(letters) and min(map(len, digits)) > 1
        if _COUNTED.fullmatch(before):
            return False  # IM-0001-0001 and IM-0002-0001 are of two series
        if all(re.match(_DATE, number) for number in digits) and digits[0][:8] == digits[1][:8]:
            return False  # two times of one day
        padded = any(number[0] == "0" for number in digits) and min(map(len, digits)) >= 4
        return padded or min(map(len, digits)) >= least
    return False


def is_named_fused(path: str) -> bool:
    """Tell whether a file or folder is named as this program names its results.

    Example:
        >>> is_named_fused("OUT/7_fused.nii.gz"), is_named_fused("OUT/7_fused_color"), is_named_fused("fused/7.png")
        (True, True, False)
    """
    name = os.path.basename(os.path.normpath(path.split("::")[0])).lower() if path else ""
    return case_name(name).endswith(("_fused", "_fused_color"))


def names_warning(name: str, path: str, other: str, numbers: bool = True) -> str:
    """Return the warning about a file that is named as of another patient than a first one; "" for none.

    Args:
        name: how the first image is called in messages.
        path: its file.
        other: the second one's file.
        numbers: as in `other_patient`.
    """
    what = other_patient(path, other, numbers)
    return f"named as another {what} than {printable(name)}: make sure that both are one patient" if what else ""
