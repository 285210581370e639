"""Patients of BraTS 2019 (folders HGG and LGG, name_mapping.csv) with splits that never part a patient."""

from __future__ import annotations

import csv
import os
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.errors import FusionWarning, input_error
from clinicalfmamba_nets.io import PathLike, printable, to_path

GRADES = {"LGG": 0, "HGG": 1}
CONTRASTS = ("t1", "t1ce", "t2", "flair")
HELD_OUT = 20  # patients of each grade, as in the paper
RUNS = 3
SEED = 20190801
_NESTED = "MICCAI_BraTS_2019_Data_Training"
_ENDINGS = (".nii.gz", ".nii")
_UNKNOWN = ("", "na", "n/a", "nan", "none", "null", "-")  # what programs write where a table has no name


def is_brats(folder: PathLike) -> bool:
    """Tell whether a folder has the layout: HGG or LGG in it, or in the folder that the archive unpacks to."""
    return any((root / grade).is_dir() for root in _roots(folder) for grade in GRADES)


def _roots(folder: PathLike) -> list[Path]:
    return [to_path(folder), to_path(folder) / _NESTED]


def _root(folder: PathLike) -> Path:
    for root in _roots(folder):
        if all((root / grade).is_dir() for grade in GRADES):
            return root
    found = next(
        (f"{grade} alone" for root in _roots(folder) for grade in GRADES if (root / grade).is_dir()), "neither"
    )
    remedy = "name the folder into which BraTS 2019 was unpacked"
    raise input_error(printable(folder), "a folder with HGG and LGG in it", found, remedy)


def _mapping(root: Path) -> dict[str, dict[str, str]]:
    """Return the rows of name_mapping.csv by BraTS 2019 name; nothing where the file is missing."""
    path = root / "name_mapping.csv"
    if not path.is_file():
        return {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            read = [{_cell(name): _cell(value) for name, value in row.items()} for row in csv.DictReader(file)]
        read = [row for row in read if row["BraTS_2019_subject_ID"].lower() not in _UNKNOWN]
        rows = {row["BraTS_2019_subject_ID"]: row for row in read}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        expected = "a table with the columns Grade and BraTS_2019_subject_ID"
        raise input_error(printable(path), expected, f"no {error}", "unpack it again, or remove it") from error
    for row in read:
        if row != rows[row["BraTS_2019_subject_ID"]]:
            name = printable(row["BraTS_2019_subject_ID"])
            raise input_error(printable(path), f"one row of {name}", "two that differ", "remove the wrong one")
    return rows


def _cell(text: Any) -> str:
    """The text of a cell; empty for one that a short row lacks, and for those of a long row beyond the header."""
    return text.strip() if isinstance(text, str) else ""


def _warn_of_unlisted(root: Path, cases: Sequence[str], rows: dict[str, dict[str, str]]) -> None:
    """Two scans of a patient that the table does not name can be parted: one trained on, the other tested."""
    unlisted = [case for case in cases if case not in rows]
    path = root / "name_mapping.csv"
    if unlisted and path.is_file():
        text = f"{printable(path)}: no row for {len(unlisted)} of {len(cases)} cases ({printable(unlisted[0])}, ...)"
        text += ": each is taken as a patient of its own, which two scans of one patient are not"
        warnings.warn(text, FusionWarning, stacklevel=3)


def _image(case: Path, contrast: str) -> str | None:
    names = (case / f"{case.name}_{contrast}{ending}" for ending in _ENDINGS)
    return next((os.path.abspath(name) for name in names if name.is_file()), None)


def _entry(case: Path, grade: str, contrasts: Sequence[str], row: dict[str, str]) -> dict[str, Any]:
    """Return the entry of one case, or refuse it."""
    stated = row.get("Grade", grade)
    if stated != grade:
        remedy = "move the folder to its grade, or correct name_mapping.csv"
        raise input_error(printable(case), f"the grade {stated} of name_mapping.csv", f"a folder in {grade}", remedy)
    files = {contrast: _image(case, contrast) for contrast in (*contrasts, "seg")}
    missing = [contrast for contrast in contrasts if files[contrast] is None]
    if missing:
        found = "no such file" if any(case.iterdir()) else "an empty folder"
        name = f"{case.name}_{missing[0]}.nii.gz"
        raise input_error(printable(case), name, found, "unpack this case again, or remove its folder")
    known = row.get("TCGA_TCIA_subject_ID", "")
    entry = {
        "image": files[contrasts[0]],
        "case": case.name,
        "patient": case.name if known.lower() in _UNKNOWN else known,
        "grade": grade,
        "label": GRADES[grade],
    }
    entry |= {"image2": files[contrasts[1]]} if len(contrasts) > 1 else {}
    return entry | ({"seg": files["seg"]} if files["seg"] else {})


def held_out_patients(patients: Sequence[str], run: int, count: int = HELD_OUT, seed: int = SEED) -> set[str]:
    """Draw the patients of one grade that are held out in a run; runs hold out different ones.

    Args:
        patients: all patients of the grade; the order does not matter.
        run: 1 to 3.
        count: how many; fewer where the three runs would leave none to train on.
        seed: of the draw.

    Example:
        >>> draws = [held_out_patients([str(number) for number in range(76)], run) for run in (1, 2, 3)]
        >>> [len(draw) for draw in draws], len(set.union(*draws))
        ([20, 20, 20], 60)
    """
    pool = sorted(set(patients))
    random.Random(seed).shuffle(pool)
    size = count if RUNS * count < len(pool) else len(pool) // (RUNS + 1)
    return set(pool[(run - 1) * size : run * size])


def brats_datalist(
    root: PathLike,
    contrasts: Sequence[str] = ("t2", "flair"),
    split: str = "patients",
    run: str | int = "run1",
    section: str = "training",
    held_out: int = HELD_OUT,
) -> list[dict[str, Any]]:
    """Return the cases of one split of BraTS 2019.

    Source: "ClinicalFMamba", arXiv 2508.03008: 20 HGG and 20 LGG patients held out, three runs. Which ones was not
    published; they are drawn by seed here.

    Args:
        root: folder with HGG, LGG and, where it is there, name_mapping.csv; or the folder around it.
        contrasts: one or two of t1, t1ce, t2, flair: `image` and `image2`.
        split: "patients" or "all" (every case in every section).
        run: "run1", "run2", "run3" or 1, 2, 3.
        section: "training" or "testing".
        held_out: patients of each grade in the test set.

    Returns:
        `image`, `image2` (absolute paths), `case`, `patient` (the TCIA name where one is known, so that two scans of a
        patient stay together), `grade` ("HGG" or "LGG"), `label` (1 or 0) and `seg` where there is one.

    Raises:
        FusionInputError: another layout, an unknown name, a case without a contrast, no case of a grade, a table that
            tells two things of a case. One that does not name a case warns.
    """
    run = f"run{run}" if isinstance(run, int) else run
    section = {"test": "testing", "train": "training"}.get(section, section)
    for value, known in [
        (split, ("patients", "all")),
        (run, tuple(f"run{number}" for number in range(1, RUNS + 1))),
        (section, ("training", "testing")),
        *((contrast, CONTRASTS) for contrast in contrasts),
    ]:
        if value not in known:
            raise input_error(f"BraTS, {value!r}", f"one of {', '.join(known)}", "another name", "correct it")
    if not 1 <= len(contrasts) <= 2:
        raise input_error("BraTS, contrasts", "one or two", f"{len(contrasts)}", "name t2 and flair")
    folder, chosen = _root(root), []
    rows, names = _mapping(folder), []
    for grade in ("HGG", "LGG"):
        cases = sorted(item for item in (folder / grade).iterdir() if item.is_dir() and item.name[0] != ".")
        names += [case.name for case in cases]
        entries = [_entry(case, grade, contrasts, rows.get(case.name, {})) for case in cases]
        if not entries:
            raise input_error(printable(folder / grade), "folders BraTS19_*", "none", "unpack the archive again")
        test = held_out_patients([entry["patient"] for entry in entries], int(run[3:]), held_out)
        wanted = section == "testing"
        chosen += [entry for entry in entries if split == "all" or (entry["patient"] in test) == wanted]
    _warn_of_unlisted(folder, names, rows)
    return chosen
