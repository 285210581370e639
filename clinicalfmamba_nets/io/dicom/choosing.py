"""Which series of a study is meant: by selectors, or the two that belong together, and what is left out by that."""

from __future__ import annotations

import fnmatch
import functools
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.dicom.contrast_elements import BY_NAME, TOLERANCE, shown
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.files import printable

_REMEDY = "choose one by modality, description, SeriesNumber, UID, row (#1) or rule, such as"
_SHOWN = 4
_RANK = {"MR": 0, "CT": 1}
_OTHERS = ("CT", "PT", "NM")
# Words of a T1 that was taken before the contrast agent, or without one, which may name it too.
_NATIVE = (
    r"^(?!.*\bpost\b).*"
    r"\b(pre|before|without|w ?o|non|no (contrast|gd|ce)|native?|ohne|sans|sin|senza|unenhanced)\b"
)
# Inversion and echo times (ms) that only a FLAIR has.
_FLAIR_TI, _FLAIR_TE = 1400, 60


@dataclass
class Pair:
    """Two series to be fused, the anatomical one first, and what is to be told about the choice."""

    series: tuple[Series, Series]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def choose_series(rows: Sequence[Series], selector: str, where: str) -> Series:
    """Choose one series.

    Args:
        rows: the series of a study.
        selector: row (`#2`), SeriesInstanceUID, modality, description (with * and ?), contrast (T2),
            SeriesNumber, or rules such as `EchoTime=11` or `SeriesDescription=*flair*`;
            several with commas between, which must all hold. "" for the only one. Numbers hold within 1 %; in texts
            / stands for a backslash.
        where: folder or file, for messages.

    Returns:
        The series, without problem. Scouts, reports and earlier results are chosen only where nothing else fits.

    Raises:
        FusionInputError: none or several fit, or the one that fits is no volume.

    Example:
        >>> choose_series(list_series("study"), "EchoTime=11", "study").shape  # doctest: +SKIP
        (256, 256, 35)
    """
    rules = [rule.strip() for rule in selector.split(",") if rule.strip()]
    fitting = list(rows)
    for rule in rules:
        fitting = _matching(fitting, rule)
    for better in (lambda row: row.image, lambda row: not row.role):
        if len(fitting) > 1 and any(better(row) for row in fitting):
            fitting = [row for row in fitting if better(row)]
    if len(fitting) != 1:
        wanted = f'a series "{printable(selector)}"' if rules else "one series of images"
        raise input_error(where, wanted, *_found(fitting, rows))
    return _whole(fitting[0], where)


def _whole(row: Series, where: str) -> Series:
    if row.problem:
        raise FusionInputError(f"{where} ({row.header.modality or 'series'} {row.header.number}): {row.problem}")
    return row


def _found(fitting: Sequence[Series], rows: Sequence[Series]) -> tuple[str, str]:
    told = [row for row in (fitting or rows) if row.image] or list(fitting or rows)
    if fitting:
        return f"{len(fitting)}: {_names(told)}", f"{_REMEDY} {_example(told)}"
    return (f"only {_names(told)}", f"{_REMEDY} {_example(told)}") if told else ("no image series", "check the path")


def _example(rows: Sequence[Series]) -> str:
    return shlex.quote(rows[0].short or "#1")


def _names(rows: Sequence[Series]) -> str:
    return "; ".join(row.name for row in rows[:_SHOWN]) + (
        f"; and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    )


def _matching(rows: Sequence[Series], rule: str) -> list[Series]:
    """Return the series that fit a rule; a bare word is what any of them fits first, in the order of the tests."""
    name, element, value = rule.partition("=")
    if element and name.strip().lower() in _KNOWN:
        return [row for row in rows if _states(row, name.strip().lower(), value.strip())]
    word = rule.lower()
    tests: tuple[Callable[[Series], bool], ...] = (
        lambda row: rule in (f"#{row.row}", row.header.series),
        lambda row: word in (row.header.modality.lower(), row.modality.lower()),
        lambda row: bool(row.header.description) and _glob(row.header.description, rule),
        lambda row: word == contrast_of(row) != "",
        lambda row: rule == row.header.number,
    )
    for test in tests:
        fitting = [row for row in rows if test(row)]
        if fitting:
            return fitting
    return []


_KNOWN: dict[str, Callable[[Series], float | str]] = {
    "modality": lambda row: row.modality,
    "description": lambda row: row.header.description,
    "seriesnumber": lambda row: row.header.number,
    "seriesinstanceuid": lambda row: row.header.series,
    "protocolname": lambda row: row.header.protocol,
    **{key: functools.partial(Series.value, keyword=element.keyword) for key, element in BY_NAME.items()},
}


def _states(row: Series, name: str, value: str) -> bool:
    if name == "modality":
        return value.lower() in (row.header.modality.lower(), row.modality.lower())
    stated = _KNOWN[name](row)
    if isinstance(stated, float):
        try:
            return abs(float(value) - stated) <= (TOLERANCE * abs(stated) if BY_NAME[name].measured else 0.0)
        except ValueError:
            return _glob(shown(stated), value)
    return not stated if value.lower() == "none" else _glob(stated, value)


def _glob(text: str, pattern: str) -> bool:
    r"""Compare without case; in either text a slash stands for a backslash, as selectors are printed."""
    plain, wanted = (item.lower().replace("\\", "/") for item in (text, pattern))
    return plain == wanted or fnmatch.fnmatchcase(plain, wanted)


def choose_two(rows: Sequence[Series], selectors: Sequence[str], where: str, option: str, task: str = "") -> Pair:
    """Choose the two series of a study that are to be fused: MR (else CT) first, T2 before FLAIR.

    Args:
        rows: the series of the study.
        selectors: one for each series, as in `choose_series`; none to choose among all images but scouts, reports and
            earlier results: the only two, or the only MR and the only CT, PT or NM. Two contrasts of one series go in
            the order of their echo times.
        where: folder or file, for messages.
        option: how the user names both, for messages; {} stands for what chooses a series.
        task: such as "t2_flair": its two words choose among more series by modality or contrast.

    Returns:
        The two series, and notes and warnings about what was left out.

    Raises:
        FusionInputError: the choice is not clear, or one of the two that belong together is no volume.
    """
    if len(selectors) == 2:
        first, second = (choose_series(rows, selector, where) for selector in selectors)
        if first is second:
            raise input_error(where, "two series", f"the same one twice ({first.name})", _name_both(rows, option))
        return Pair((first, second))
    candidates = [row for row in rows if row.image and not row.role]
    chosen = _partners(candidates, task)
    if len(chosen) != 2:
        several = len(candidates) > 1
        remedy = _name_both(candidates, option) if several else "add the other series, or name two images: A B"
        raise input_error(where, "two series to fuse", _told(candidates, rows), remedy)
    for row in chosen:
        _whole(row, where)
    first, second, note = _ordered(chosen)
    return Pair((first, second), note, _left_out(rows, (first, second)))


def _name_both(rows: Sequence[Series], option: str) -> str:
    """Tell how to name two series, by the example of two that may be meant."""
    images = sorted((row for row in rows if row.image), key=lambda row: (bool(row.problem), _RANK.get(row.modality, 2)))
    first = images[0]
    second = next((row for row in images if row.modality != first.modality), images[-1])
    return f"name both: {option.format(*(shlex.quote(row.short or f'#{row.row}') for row in (first, second)))}"


def _partners(candidates: list[Series], task: str) -> list[Series]:
    """Return the two that belong together; all where that is not clear."""
    if len(candidates) > 2:
        named = [_worded(candidates, word) for word in task.split("_")[:2]]
        if [len(rows) for rows in named] == [1, 1] and named[0] != named[1]:
            return [named[0][0], named[1][0]]
        anatomical = [row for row in candidates if row.modality == "MR"]
        other = [row for row in candidates if row.modality in _OTHERS]
        if len(anatomical) == len(other) == 1:
            return [*anatomical, *other]
    return candidates


def _worded(rows: Sequence[Series], word: str) -> list[Series]:
    """Return the series that a word of a task means."""
    modality = {"mri": "MR", "ct": "CT", "pet": "PT", "spect": "NM"}.get(word)
    return [row for row in rows if (row.modality == modality if modality else contrast_of(row) == word)]


def _told(candidates: list[Series], rows: Sequence[Series]) -> str:
    images = candidates or [row for row in rows if row.image]
    if not images:
        return "no image series"
    usable = [row for row in candidates if not row.problem]
    found = f"{len(usable)} of {len(images)} ({_names(images)})"
    studies = len({row.header.study for row in images})
    found += f" of {studies} studies (StudyInstanceUID)" if studies > 1 else ""
    broken = [row for row in candidates if row.problem]
    if broken:
        found += f", #{broken[0].row}: {broken[0].problem}"
    roles = [f"#{row.row} is {row.role}" for row in rows if row.image and row.role]
    return found + (f", {', '.join(roles[:_SHOWN])}" if roles and len(candidates) < 2 else "")


def _ordered(chosen: Sequence[Series]) -> tuple[Series, Series, list[str]]:
    first, second = sorted(chosen, key=lambda row: _RANK.get(row.modality, 2))
    if first.modality != second.modality:
        return first, second, []
    names = contrast_of(first), contrast_of(second)
    if names[0] == "flair" != names[1] or names == ("t1ce", "t1"):
        first, second, names = second, first, (names[1], names[0])
    told = [f"{name.upper() or row.modality} ({row.name})" for name, row in zip(names, (first, second), strict=True)]
    return first, second, [f"first image: {told[0]}, second: {told[1]}"]


def contrast_of(row: Series) -> str:
    """Name the contrast of an MR by its description, else by its times: "t1", "t1ce", "t2", "flair", "pd" or "".

    Args:
        row: a series.

    Returns:
        The word that the data keys of this package use. A FLAIR is known from a T2 by its name or inversion time.
    """
    head = row.header
    for text in (head.description, head.protocol, str(row.value("SequenceName"))):
        words = re.sub(r"[^a-z0-9+]+", " ", text.lower())
        kinds = dict.fromkeys(re.findall(r"\b(t1|t2|pd)", words))
        kind = next(iter(kinds)) if len(kinds) == 1 else _by_echo(row) if {*kinds} == {"pd", "t2"} else ""
        if kind != "t1" and re.search(r"flair|dark ?fluid|\btirm\b", words):
            return "flair"
        if kind == "t1" or re.search(r"mp ?rage|\bspgr\b|bravo\b", words):
            post = re.search(r"\b(gd|gad|gado|ce|km|post|contrast|c)\b|\+ ?c\b|t1(gd|ce|c)\b|\+gd|\+km", words)
            return "t1ce" if post and not re.search(_NATIVE, words) else "t1"
        if kind and not re.search(r"t2 ?(\*|star)", text.lower()):
            return kind
    times = row.value("InversionTime"), row.value("EchoTime")
    if all(isinstance(time, float) for time in times) and times[0] > _FLAIR_TI and times[1] > _FLAIR_TE:  # type: ignore[operator]
        return "flair"
    return ""


def _by_echo(row: Series) -> str:
    echo = row.value("EchoTime")
    return ("t2" if echo > _FLAIR_TE else "pd") if isinstance(echo, float) else ""


def _left_out(rows: Sequence[Series], chosen: tuple[Series, Series]) -> list[str]:
    left = [row for row in rows if row.image and row not in chosen]
    if not left:
        return []
    told = [f"{row.name} ({row.role or 'another image'}{', no volume' if row.problem else ''})" for row in left]
    return [f"left out: {'; '.join(told[:8])}" + (f"; and {len(told) - 8} more" if len(told) > 8 else "")]
