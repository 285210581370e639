"""The pairs that a bundle reads: a data list, the AANLIB folders, or any folder of pairs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.data import aanlib_datalist, folder_datalist, load_datalist
from clinicalfmamba_nets.errors import input_error

AANLIB_SETS = {"ct_mri": "CT-MRI", "spect_mri": "SPECT-MRI", "pet_mri": "PET-MRI"}
PUBLISHED = "_published"


def pair_datalist(
    dataset_dir: str | os.PathLike,
    task: str,
    datalist: str | os.PathLike | None = None,
    split: str = "random3",
    split_run: str = "run1",
    section: str = "testing",
) -> list[dict[str, Any]]:
    """Return the pairs of a run as entries `image`, `image2`, `case`.

    A data list file goes first; a folder with the set of the task (such as `CT-MRI/`) is read by the split's lists; any
    other folder is read as pairs that match by name.

    Args:
        dataset_dir: folder of the images.
        task: the bundle's task.
        datalist: a data list file, or None.
        split: split of the AANLIB pairs.
        split_run: run of that split.
        section: "training" or "testing".

    Raises:
        FusionInputError: nothing is there, or an entry is bad.
    """
    if datalist is not None:
        return load_datalist(datalist, section)
    folder = Path(dataset_dir)
    if not folder.is_dir():
        remedy = "name the folder with --dataset_dir or a data list with --datalist"
        raise input_error(f"dataset_dir {folder}", "a folder of image pairs", "no such folder", remedy)
    aanlib_task = task.removesuffix(PUBLISHED)
    if (folder / AANLIB_SETS.get(aanlib_task, task)).is_dir():
        return aanlib_datalist(folder, aanlib_task, split=split, run=split_run, section=section)
    return folder_datalist(folder)


def training_datalist(
    pairs: list[dict[str, Any]], part: str, val_fraction: float, hold_out: bool
) -> list[dict[str, Any]]:
    """Return the training or the validation share of the pairs of a training.

    Validation takes evenly spaced entries, so that it does not depend on chance and meets every case of the list.

    Args:
        pairs: all entries that may be trained on.
        part: "training" or "validation".
        val_fraction: share of the entries that are validated, in (0, 1).
        hold_out: whether the validated entries are left out of the training.

    Raises:
        FusionInputError: the share is outside (0, 1), or nothing is left to train on.

    Example:
        >>> training_datalist([{"case": n} for n in range(4)], "validation", 0.25, True)
        [{'case': 0}]
    """
    if not 0 < val_fraction < 1:
        raise input_error("val_fraction", "a share between 0 and 1", str(val_fraction), "give one such as 0.1")
    if len(pairs) < 2:
        raise input_error("training list", "at least 2 pairs", str(len(pairs)), "give more pairs")
    step = max(2, round(1 / val_fraction))
    if part == "validation":
        return pairs[::step]
    return [pair for index, pair in enumerate(pairs) if not hold_out or index % step]
