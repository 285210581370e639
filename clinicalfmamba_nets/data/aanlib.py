"""Pairs of the Whole Brain Atlas (AANLIB) in the layout that fusion papers use, with the splits of the paper."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.data.datalists import folder_datalist, read_list_file
from clinicalfmamba_nets.data.splits import case_splits, random_splits
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import PathLike, printable, to_path

# Task -> its folder, the folder of the second image, and how many test pairs a random split holds out.
TASKS = {"ct_mri": ("CT-MRI", "CT", 30), "spect_mri": ("SPECT-MRI", "SPECT", 50), "pet_mri": ("PET-MRI", "PET", 24)}
SPLITS = ("random3", "case3", "mydatasets")
RUNS = 3
SEED = 20250803
# CT-MRI and SPECT-MRI share the MRI of cases 21 and 28.
LINKED_CASES = ((21, 28),)
# The three PET-MRI cases are directions of one head: a split by case separates series alone. Run 1 tests the axial
# one, the direction that is read first.
ONE_HEAD, AXIAL = "pet_mri", 41


def _task_folder(dataset_dir: PathLike, task: str) -> Path:
    """Return the folder that holds MRI/ and the second modality's folder."""
    if task not in TASKS:
        raise input_error(f"task {task!r}", f"one of {', '.join(TASKS)}", "another name", "correct it")
    root = to_path(dataset_dir)
    name, second, _ = TASKS[task]
    candidates = [root / "aanlib" / name, root / name, root]
    for folder in candidates:
        if (folder / "MRI").is_dir() and (folder / second).is_dir():
            return folder
    remedy = "set dataset_dir to the folder that holds them"
    raise input_error(printable(root), f"{name}/MRI and {name}/{second}", "no such folders", remedy)


def _list_file(dataset_dir: PathLike, task: str, split: str, datalist_dir: PathLike | None) -> Path | None:
    """Return the published list of a split, None where there is none (one that was asked for by folder must exist)."""
    name = f"{TASKS[task][0].lower()}_{split}.json"
    if datalist_dir is not None:
        return to_path(datalist_dir) / name
    root = to_path(dataset_dir)
    candidates = [root / "datalists" / name, root.absolute().parent / "datalists" / name]
    return next((path for path in candidates if path.is_file()), None)


def _listed_names(path: Path, run: str, section: str) -> list[str]:
    """Return the file names of a section of a list file."""
    content = read_list_file(path)
    key = "test" if section == "testing" else "training"
    try:
        names = [os.path.basename(entry["mri"]) for entry in content.get("runs", {run: content})[run][key]]
    except (KeyError, TypeError, AttributeError) as error:
        expected = f"{run} with a {key} list of entries with mri"
        raise input_error(
            printable(path), expected, f"no {error}", "choose another run or write the list again"
        ) from error
    return names


def _drawn_names(names: list[str], task: str, split: str, run: str, section: str) -> list[str]:
    """Draw a split by seed from the files that are there."""
    number = int(run.removeprefix("run")) - 1
    if split == "mydatasets":
        raise input_error(f"{task}, split {split}", "its list file", "none", "set datalist_dir, or use random3")
    if split == "random3":
        tests = random_splits(names, TASKS[task][2], RUNS, SEED)
    else:
        tests = case_splits(names, case_number, ((AXIAL,),) if task == ONE_HEAD else LINKED_CASES, RUNS, SEED)
    test = set(tests[number])
    return [name for name in names if (name in test) == (section == "testing")]


def case_number(name: str) -> int:
    """Return the case of a file: its number without the last three digits, which are the slice.

    Raises:
        FusionInputError: a name that is not a number.

    Example:
        >>> case_number("2004.png")
        2
    """
    stem = name.split(".")[0]
    if not stem.isdigit():
        raise input_error(printable(name), "a name such as 2004.png (case 2, slice 4)", "another", "rename the file")
    return int(stem) // 1000


def aanlib_datalist(
    dataset_dir: PathLike,
    task: str,
    split: str = "random3",
    run: str | int = "run1",
    section: str = "training",
    datalist_dir: PathLike | None = None,
) -> list[dict[str, Any]]:
    """Return the pairs of one split of the atlas, the MRI as image A.

    A list file `<task folder>_<split>.json` is used where there is one, so that numbers can be compared; otherwise
    the split is drawn by seed from the files themselves.

    Args:
        dataset_dir: folder that holds `CT-MRI/MRI/2004.png` and so on, directly or under `aanlib`.
        task: "ct_mri", "spect_mri" or "pet_mri".
        split: "random3" (three runs, random slices, as in the paper: slices of one head are on both sides), "case3"
            (three runs, whole cases; of PET-MRI whole series of one head) or "mydatasets" (the split of the collection;
            list file only).
        run: "run1", "run2", "run3" or 1, 2, 3; of no effect for "mydatasets".
        section: "training" or "testing".
        datalist_dir: folder of the list files; None for `datalists` in or beside `dataset_dir`.

    Returns:
        `image`, `image2` (absolute paths) and `case` (file name without suffix) of each pair, sorted by case.

    Raises:
        FusionInputError: an unknown name, a missing folder, list or file.
    """
    run = f"run{run}" if isinstance(run, int) else run
    section = {"test": "testing", "train": "training"}.get(section, section)
    for value, known in [(split, SPLITS), (run, ("run1", "run2", "run3")), (section, ("training", "testing"))]:
        if value not in known:
            raise input_error(f"{task}, {value!r}", f"one of {', '.join(known)}", "another name", "correct it")
    folder = _task_folder(dataset_dir, task)
    pairs = {os.path.basename(entry["image"]): entry for entry in folder_datalist(folder, ("mri", TASKS[task][1]))}
    ordered = sorted(pairs, key=lambda name: (case_number(name), name))
    path = _list_file(dataset_dir, task, split, datalist_dir)
    names = _listed_names(path, run, section) if path else _drawn_names(ordered, task, split, run, section)
    missing = [name for name in names if name not in pairs]
    if missing:
        found = f"no pair {printable(missing[0])}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise input_error(printable(folder), f"every pair of {printable(path or split)}", found, "complete the folder")
    return [pairs[name] for name in sorted(names, key=ordered.index)]
