"""Data lists of image pairs: from a MONAI list file or from a folder, checked before anything is computed."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.data.bids import bids_images
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import PathLike, case_name, check_file, image_extension, printable, to_path
from clinicalfmamba_nets.io.dicom.files import split_selector

_logger = logging.getLogger(__name__)

# Names of modalities in folder, file and entry names; where a pair has two of them, the one further up is image A.
MODALITIES = {
    "mri": ("mri", "mr"),
    "t1": ("t1", "t1w"),
    "t2": ("t2", "t2w"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "flair": ("flair", "t2f"),
    "ct": ("ct",),
    "spect": ("spect",),
    "pet": ("pet",),
}
# Computed from MR images, or MR images of another kind than any that is fused: word of a name, and what to call it.
MAPS = {
    "adc": "ADC map", "dwi": "DWI", "swi": "SWI", "phase": "phase map", "cbf": "CBF map", "cbv": "CBV map",
    "t1map": "T1 map", "t2map": "T2 map",
}  # fmt: skip
_CANONICAL = {alias: name for name, aliases in MODALITIES.items() for alias in aliases}
# How the images end that `fuse` writes beside a run.json.
_RESULTS = ("_fused", "_fused_color", "_preview", "_weights", "contact_sheet")
_SECTIONS = {"testing": ("testing", "test"), "training": ("training", "train"), "validation": ("validation", "val")}


def unique_cases(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give every entry a `case` that no other has and that is a safe file name.

    Args:
        entries: dictionaries with `image` and perhaps `case`.

    Returns:
        The entries with `case`: as given, else the file's name; where several are equal, with the name of the file's
        folder before it, then with a number behind it.

    Example:
        >>> [e["case"] for e in unique_cases([{"image": "c0/m1.png"}, {"image": "c1/m1.png"}])]
        ['c0_m1', 'c1_m1']
    """
    listed = [dict(entry) for entry in entries]
    names = [_first_name(entry) for entry in listed]
    count = Counter(name.casefold() for name in names)
    taken: set[str] = set()
    for entry, name in zip(listed, names, strict=True):
        if count[name.casefold()] > 1 and not _has_case(entry):
            name = f"{case_name(os.path.basename(os.path.dirname(_first_path(entry))))}_{name}"
        numbered = (f"{name}_{number}" if number > 1 else name for number in itertools.count(1))
        entry["case"] = next(option for option in numbered if option.casefold() not in taken)
        taken.add(entry["case"].casefold())
    return listed


def _has_case(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("case") not in (None, "")


def _first_path(entry: Mapping[str, Any]) -> str:
    image = entry.get("image", "")
    image = image[0] if isinstance(image, list | tuple) and image else image
    return os.fsdecode(image) if isinstance(image, str | bytes | os.PathLike) else ""


def _first_name(entry: Mapping[str, Any]) -> str:
    return case_name(str(entry["case"]) if _has_case(entry) else _first_path(entry))


def read_list_file(path: PathLike) -> Any:
    """Return the content of a JSON list file, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        FusionInputError: missing, empty, not JSON, or with a key that is there twice.
    """
    target = check_file(path, "a data list (JSON)")

    def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # JSON keeps the last of them alone
        names = [name for name, _ in pairs]
        twin = next((name for name in names if names.count(name) > 1), None) if len({*names}) < len(names) else None
        if twin is not None:
            remedy = "name it once: the first would be left out"
            raise input_error(printable(path), f"the key {printable(twin)!r} once", "it twice in one object", remedy)
        return dict(pairs)

    try:
        return json.loads(target.read_bytes(), object_pairs_hook=without_twins)  # which tells the encoding
    except FusionInputError:
        raise
    except (ValueError, RecursionError) as error:
        found = f"text that is not JSON ({error})"
        raise input_error(printable(path), "a data list (JSON)", found, "correct or write the list again") from error


def _section(content: Any, path: PathLike, section: str) -> list[Any]:
    """Return the entries of one section of a list file."""
    name = printable(path)
    if isinstance(content, Mapping):
        keys = [key for key in _SECTIONS.get(section, (section,)) if key in content]
        if not keys:
            found = ", ".join(map(repr, content)) or "nothing"
            raise input_error(name, f"a list under the key {section!r}", f"the keys {found}", "rename the key")
        content = content[keys[0]]
    if not isinstance(content, list) or not content:
        found = "an empty list" if content == [] else f"a {type(content).__name__}"
        raise input_error(name, f"pairs under the key {section!r}", found, "add entries with image and image2")
    return content


def _pair_values(entry: Any, where: str) -> dict[str, Any]:
    """Return the `image` and `image2` of an entry, also where the keys are the names of modalities."""
    if not isinstance(entry, Mapping):
        raise input_error(where, "an entry with image and image2", repr(entry)[:80], "correct the entry")
    if "image" in entry:
        image, second = entry["image"], entry.get("image2")
        values = [*image] if isinstance(image, list) else [image]
        values += [] if second is None else [second]
    else:
        known = sorted((_rank(key), key) for key in entry if str(key).lower() in _CANONICAL)
        values = [entry[key] for _, key in known]
        if len(values) != 2:
            found = f"the keys {', '.join(map(repr, entry)) or 'none'}"
            raise input_error(where, "image and image2", found, "name the two files image and image2")
    if not 1 <= len(values) <= 2 or not all(isinstance(value, str) and value and "\0" not in value for value in values):
        raise input_error(where, "the names of two files", repr(values)[:80], "correct the entry")
    return dict(zip(("image", "image2"), values, strict=False))


def _rank(name: str) -> int:
    return list(MODALITIES).index(_CANONICAL[str(name).lower()])


def _resolve(value: str, base: Path, where: str) -> str:
    """Return the absolute path of a file that is named in a list, or refuse it."""
    try:
        target = base / value
        place = split_selector(target)[0]  # a DICOM series may be chosen behind the name
        present = place.exists()
        inside = Path(os.path.realpath(place)).is_relative_to(os.path.realpath(base))
    except (OSError, ValueError) as error:
        raise input_error(where, "the name of a file", repr(value)[:80], "correct the entry") from error
    if not os.path.isabs(value) and not inside:
        found = f"{printable(value)}, which leads out of it"
        raise input_error(where, f"a file inside {printable(base)}", found, "move the file or give its absolute path")
    if not present:
        remedy = "correct the entry (names are relative to the list's folder)"
        raise input_error(where, "a file", f"no such file: {printable(target)}", remedy)
    return os.path.abspath(target)


def load_datalist(
    path: PathLike,
    section: str = "testing",
    base_dir: PathLike | None = None,
    strict: bool = True,
) -> list[dict[str, Any]]:
    """Read pairs from a MONAI data list (JSON).

    Args:
        path: the list: `{"testing": [{"image": "mri.png", "image2": "ct.png", "case": "one"}, ...]}`. The keys of an
            entry may also be two modalities of `MODALITIES` ("mri" and "ct"); `image` may name both files.
        section: key of the entries; "testing" also finds "test", "training" also "train".
        base_dir: folder that relative names start from, None for the list's own. They may not lead out of it, by
            ".." or by a link; absolute names may lie anywhere.
        strict: refuse the whole list for one bad entry; if not, that entry has the message under `error`.

    Returns:
        One dictionary for each entry, in order: `image` and `image2` (absolute paths; `image2` is absent where one
        file holds both) and `case`, a unique name that suits a file.

    Raises:
        FusionInputError: no list, not JSON, no such section, no entries, an entry without files, a missing file, a
            name that leads out of the folder.
    """
    target = to_path(path)
    base = to_path(base_dir).absolute() if base_dir is not None else target.absolute().parent
    entries = []
    for number, raw in enumerate(_section(read_list_file(path), path, section), 1):
        where = f"{printable(path)}, entry {number}"
        case = {"case": str(raw["case"])} if _has_case(raw) else {}
        values: dict[str, Any] = {"image": "", "image2": ""}
        try:
            values = _pair_values(raw, where)
            entries.append({key: _resolve(value, base, f"{where}, {key}") for key, value in values.items()} | case)
        except FusionInputError as error:
            if strict:
                raise
            entries.append({**values, **case, "error": str(error)})
    return unique_cases(entries)


def _words(name: PathLike) -> list[str]:
    return re.split(r"[_\-. ]+", case_name(name))


def _modality_and_rest(name: str) -> tuple[str | None, str]:
    """Split a file's name into the modality that is a word of it and the rest."""
    words = _words(name)
    found = [word for word in words if word.lower() in _CANONICAL]
    if not found:
        return None, case_name(name)
    rest = [word for word in words if word is not found[-1]]
    return _CANONICAL[found[-1].lower()], "_".join(rest)


def modality_of(name: PathLike) -> str | None:
    """Return the modality that is a word of a file's name, a key of `MODALITIES`, or None.

    Example:
        >>> modality_of("BraTS-GLI-00001-000-t2f.nii.gz")
        'flair'
    """
    return _modality_and_rest(case_name(name))[0]


def map_of(name: PathLike) -> str:
    """Return the map that the last telling word of a file's name is of, a key of `MAPS`, or "".

    Example:
        >>> map_of("sub-01_dir-AP_ADC.nii.gz"), map_of("phase_2_t1.nii.gz")
        ('adc', '')
    """
    telling = [word.lower() for word in _words(name) if word.lower() in _CANONICAL or word.lower() in MAPS]
    return telling[-1] if telling and telling[-1] in MAPS else ""


def _visible(folder: Path) -> list[Path]:
    return [item for item in folder.iterdir() if not item.name.startswith(".")]


def _images(folder: Path) -> list[Path]:
    """Return the images in a folder, without hidden files (a Mac's `._7.png`) and this program's results.

    Of header and voxels the twin is left out.
    """
    found = sorted(item for item in _visible(folder) if item.is_file() and image_extension(item))
    if (folder / "run.json").is_file():
        found = [item for item in found if not case_name(item.name).lower().endswith(_RESULTS)]
    names = {item.name.lower() for item in found}
    return [item for item in found if item.name.lower().replace(".hdr", ".img") not in names - {item.name.lower()}]


def _found_images(folder: Path) -> dict[str, dict[str, Path]]:
    """Return case -> modality -> file for every layout that `folder_datalist` knows."""
    cases: dict[str, dict[str, Path]] = defaultdict(dict, bids_images(folder, _CANONICAL))
    for item in _images(folder):
        modality, rest = _modality_and_rest(item.name)
        if modality:
            _put(cases[rest or case_name(folder.resolve().name)], modality, item)
    for sub in sorted(item for item in _visible(folder) if item.is_dir()):
        whole = _CANONICAL.get(sub.name.lower())
        for item in _images(sub):
            modality, _ = (whole, "") if whole else _modality_and_rest(item.name)
            if modality:
                _put(cases[case_name(item.name) if whole else case_name(sub.name)], modality, item)
    return cases


def _put(case: dict[str, Path], modality: str, item: Path) -> None:
    """Add an image to a case; two of one modality, such as a.png beside a.nii.gz, would replace each other."""
    other = case.setdefault(modality, item)
    if other is not item:
        found = f"{printable(other.name)} and {printable(item.name)}"
        remedy = "rename one of them, or give a data list"
        raise input_error(printable(item.parent), f"one {modality} image of each case", found, remedy)


def folder_datalist(folder: PathLike, modalities: tuple[str, str] | None = None) -> list[dict[str, Any]]:
    """Find the pairs in a folder.

    Known layouts: subfolders by modality with equal file names (`MRI/7.png`, `CT/7.png`); files with the modality as
    a word of the name (`7_mri.png`, `7_ct.png`); a subfolder for each case (`7/mri.png`, `7/ct.png`); BIDS.

    Args:
        folder: where to look, one level deep.
        modalities: which two of `MODALITIES` to pair, the first as image A; needed where cases have more than two.

    Returns:
        As `load_datalist`, sorted by case. Cases with one image only are left out, with a warning in the log.

    Raises:
        FusionInputError: no folder, no pair in it, or more than two modalities to choose from.
    """
    target, name = to_path(folder), printable(folder)
    if not target.is_dir():
        raise input_error(name, "a folder with image pairs", "no such folder", "check the path")
    cases = _found_images(target)
    seen = sorted({modality for found in cases.values() for modality in found}, key=_rank)
    chosen = tuple(_CANONICAL.get(str(item).lower(), str(item)) for item in modalities or seen)
    if modalities is None and len(seen) > 2:
        raise input_error(name, "images of two modalities", ", ".join(seen), "name the two images, or give a data list")
    entries = [
        {"image": os.path.abspath(found[chosen[0]]), "image2": os.path.abspath(found[chosen[1]]), "case": case}
        for case, found in sorted(cases.items())
        if len(chosen) == 2 and set(chosen) <= set(found)
    ]
    if not entries:
        found = f"images of {', '.join(seen)} without a partner" if seen else "none"
        remedy = "name the two images, lay them out as MRI/7.png and CT/7.png, or give a data list"
        raise input_error(name, "image pairs", found, remedy)
    single = [case for case in cases if case not in {entry["case"] for entry in entries}]
    if single:
        _logger.warning("%s: %d cases without a partner left out: %s", name, len(single), ", ".join(sorted(single)[:5]))
    return unique_cases(entries)


def _by_name(folder: PathLike) -> dict[str, Path]:
    """Return the images in a folder by their names without the word of a modality."""
    named: dict[str, Path] = {}
    for item in _images(to_path(folder)):
        other = named.setdefault(_modality_and_rest(item.name)[1] or case_name(item.name), item)
        if other is not item:
            found = f"{printable(other.name)} and {printable(item.name)}"
            raise input_error(printable(folder), "one image of each name", found, "rename one, or give a data list")
    return named


def two_folders_datalist(folder_a: PathLike, folder_b: PathLike) -> list[dict[str, Any]]:
    """Find the pairs in two folders by the names of their files, which may differ in the word of a modality.

    Args:
        folder_a: the first images, such as `MRI/7.png` or `t2/7_t2.nii.gz`.
        folder_b: the second ones, such as `CT/7.png` or `flair/7_flair.nii.gz`.

    Returns:
        As `load_datalist`, sorted by case. Images without a partner are left out, with a warning in the log.

    Raises:
        FusionInputError: no pair, or two images of one name in a folder.
    """
    first, second = _by_name(folder_a), _by_name(folder_b)
    both = sorted(first.keys() & second.keys())
    names = f"{printable(folder_a)} and {printable(folder_b)}"
    if not both:
        told = f"{len(first)} and {len(second)} images, no name in both"
        raise input_error(names, "images of equal names", told, "rename them, or give a data list")
    single = sorted(first.keys() ^ second.keys())
    if single:
        _logger.warning("%s: %d images without a partner left out: %s", names, len(single), ", ".join(single[:5]))
    pairs = {case: (os.path.abspath(first[case]), os.path.abspath(second[case])) for case in both}
    return unique_cases([{"case": case, "image": one, "image2": two} for case, (one, two) in pairs.items()])
