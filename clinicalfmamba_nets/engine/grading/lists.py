"""Which patients a grading is trained, validated and tested on, and the proof that no fusion network saw the last."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.data import brats_datalist
from clinicalfmamba_nets.data.brats import GRADES, HELD_OUT
from clinicalfmamba_nets.engine.run.record import RUN_FILE
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import case_name, printable

_SLICE = re.compile(r"_z\d+$")
Entry = dict[str, Any]


def grading_datalist(
    dataset_dir: str | os.PathLike, split_run: str = "run1", section: str = "testing", held_out: int = HELD_OUT
) -> list[Entry]:
    """Return the patients of one section of a run: T2, FLAIR, tumor mask and grade.

    Args:
        dataset_dir: a folder in the layout of BraTS 2019.
        split_run: "run1" to "run3", which hold out different patients.
        section: "training", "testing" or "all".
        held_out: patients of each grade in the test set.

    Returns:
        As `brats_datalist`; `seg` is always there.

    Raises:
        FusionInputError: as there; or a case without a mask, no patient of a grade, a patient in both sections.
    """
    parts = {
        name: brats_datalist(dataset_dir, run=split_run, section=name, held_out=held_out)
        for name in ("training", "testing")
    }
    check_grades([*parts["training"], *parts["testing"]], printable(dataset_dir))
    check_apart(parts["training"], parts["testing"])
    entries = [*parts["training"], *parts["testing"]] if section == "all" else parts[section]
    for entry in entries:
        if "seg" not in entry:
            found, remedy = f"no {entry['case']}_seg.nii.gz", "unpack this case again, or remove its folder"
            raise input_error(printable(entry["case"]), "a tumor mask", found, remedy)
    check_grades(entries, f"{section} list of {printable(dataset_dir)}")
    return entries


def check_grades(entries: Iterable[Mapping[str, Any]], what: str) -> None:
    """Raise an error where a grade has no patient in a list, an entry another grade, or a patient two.

    Raises:
        FusionInputError: naming the list, or the case.
    """
    found: set[str] = set()
    known_by: dict[str, str] = {}
    for entry in entries:
        if entry.get("grade") not in GRADES:
            known = " or ".join(GRADES)
            raise input_error(
                printable(entry["case"]), f"the grade {known}", repr(entry.get("grade")), "correct the list"
            )
        patient = entry.get("patient", entry["case"])
        if known_by.setdefault(patient, entry["grade"]) != entry["grade"]:
            both = f"{known_by[patient]} and {entry['grade']}"
            raise input_error(f"patient {printable(patient)}", "one grade", both, "correct name_mapping.csv")
        found.add(entry["grade"])
    for grade in GRADES:
        if grade not in found:
            raise input_error(what, "patients of both grades", f"no {grade}", "give at least 4 patients of each")


def check_apart(first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]]) -> None:
    """Raise an error where a patient is in both lists.

    Raises:
        FusionInputError: naming the patient.
    """
    both = {entry["patient"] for entry in first} & {entry["patient"] for entry in second}
    if both:
        remedy = "give each patient to one of the lists"
        raise input_error(f"patient {printable(min(both))}", "in one of the two lists", "in both", remedy)


def training_patients(entries: Sequence[Entry], part: str, val_fraction: float, seed: int = 0) -> list[Entry]:
    """Return the share of the training patients that is trained on, or the one that is validated on.

    Args:
        entries: all patients that may be trained on.
        part: "training" or "validation".
        val_fraction: share of the patients of each grade that are validated on, at least one of each.
        seed: of the draw.

    Raises:
        FusionInputError: a share outside (0, 1), or a grade with fewer than 2 patients.
    """
    if not 0 < val_fraction < 1:
        raise input_error("val_fraction", "a share between 0 and 1", str(val_fraction), "give one such as 0.1")
    chosen: set[str] = set()
    for grade in GRADES:
        pool = sorted({entry["patient"] for entry in entries if entry["grade"] == grade})
        if len(pool) < 2:
            found = f"{len(pool)} of {grade}"
            raise input_error("training list", "at least 2 patients of each grade", found, "give more patients")
        random.Random(seed).shuffle(pool)
        chosen |= set(pool[: min(max(1, round(val_fraction * len(pool))), len(pool) - 1)])
    wanted = part == "validation"
    return [entry for entry in entries if (entry["patient"] in chosen) == wanted]


def shuffled_grades(entries: Sequence[Entry], shuffle: bool, seed: int = 0) -> list[Entry]:
    """Deal the grades out anew among the patients where `shuffle` is set: a control that must end at chance level."""
    if not shuffle:
        return list(entries)
    patients = sorted({entry["patient"]: entry["grade"] for entry in entries}.items())
    grades = [grade for _, grade in patients]
    random.Random(seed).shuffle(grades)
    dealt = dict(zip((patient for patient, _ in patients), grades, strict=True))
    changed = ({"grade": dealt[entry["patient"]], "label": GRADES[dealt[entry["patient"]]]} for entry in entries)
    return [entry | new for entry, new in zip(entries, changed, strict=True)]


def positive_weight(entries: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of low grade among entries: as the focal loss's alpha it gives both grades the same weight.

    Example:
        >>> positive_weight([{"label": 1}, {"label": 1}, {"label": 1}, {"label": 0}])
        0.25
    """
    return sum(entry["label"] == 0 for entry in entries) / len(entries)


def user_case(
    t2: str | os.PathLike, flair: str | os.PathLike, mask: str | os.PathLike | None = None, case: str | None = None
) -> list[Entry]:
    """Return the list of one patient of a user: no grade is known.

    Args:
        t2: volume.
        flair: volume on the same grid.
        mask: of the tumor, on the same grid; without one the whole brain is graded.
        case: its name; default: that of the T2 file.
    """
    name = case or case_name(str(t2))
    files = {"image": os.path.abspath(t2), "image2": os.path.abspath(flair)}
    return [{**files, "case": name, "patient": name} | ({"seg": os.path.abspath(mask)} if mask else {})]


def seen_cases(folder: str | os.PathLike) -> list[str]:
    """Return the cases that a network was trained and validated on, by the run.json of its folder; none without one."""
    try:
        cases = json.loads((Path(folder) / RUN_FILE).read_text(encoding="utf-8"))["cases"]
        return sorted({_SLICE.sub("", str(case)) for case in (*cases["training"], *cases["validation"])})
    except (OSError, ValueError, KeyError, TypeError):
        return []


def require_unseen(fusion_dir: str | os.PathLike, known: Sequence[Entry], test: Sequence[Entry]) -> None:
    """Raise an error where a fusion network was trained or validated on a patient that is tested.

    Args:
        fusion_dir: folder of the fusion network's training, with the run.json that names its cases.
        known: all cases of the data set.
        test: those that are tested.

    Raises:
        FusionInputError: no run.json, a tested patient in its lists, or a case that is not of this data set, of which
            nothing can be told.
    """
    path = Path(fusion_dir) / RUN_FILE
    remedy = "train the fusion network on this run's training patients (configs/train_fusion.json)"
    seen = seen_cases(fusion_dir)
    if not seen:
        raise input_error(printable(path), "the cases of a fusion network's training", "none", remedy)
    patients = {entry["case"]: entry["patient"] for entry in known}
    held_out = {entry["patient"] for entry in test}
    for case in seen:
        if case not in patients:
            raise input_error(printable(path), "cases of this data set", f"another one, {case}", remedy)
        if patients[case] in held_out:
            found = f"{case} of the tested patient {patients[case]}"
            raise input_error(printable(path), "no patient of the test set", found, remedy)
