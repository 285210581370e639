"""The pairs that a bundle reads: a data list, the AANLIB folders, or any folder of pairs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.data import aanlib_datalist, brats_datalist, folder_datalist, load_datalist, slice_datalist
from clinicalfmamba_nets.data.aanlib import TASKS
from clinicalfmamba_nets.data.brats import is_brats
from clinicalfmamba_nets.data.datalists import MODALITIES, modality_of, read_list_file
from clinicalfmamba_nets.engine.run.tasks import TASKS as TABLE
from clinicalfmamba_nets.engine.run.tasks import exchanged
from clinicalfmamba_nets.errors import FusionWarning, input_error
from clinicalfmamba_nets.io import printable

# Runs that the configurations name where nobody did.
DEFAULT_RUNS = ("run1", "held_out")


def slices_folder(output_dir: str | os.PathLike, datalist: str | os.PathLike | None) -> str | None:
    """Return where the volumes of a data set are cut into slices; None with a data list, whose volumes stay whole.

    Example:
        >>> slices_folder("out", "list.json") is None
        True
    """
    return None if datalist is not None else os.path.join(output_dir, "slices")


def pair_datalist(
    dataset_dir: str | os.PathLike,
    task: str,
    datalist: str | os.PathLike | None = None,
    *,
    split: str = "random3",
    split_run: str = "run1",
    section: str = "testing",
    slices_dir: str | os.PathLike | None = None,
    slice_step: int = 1,
    strict: bool = True,
) -> list[dict[str, Any]]:
    """Return the pairs of a run as entries `image`, `image2`, `case`.

    A data list file goes first; then a split that is a list file itself, whose names start from the folder; then a
    folder with the set of the task (such as `CT-MRI/`), read by the split's lists; then the folders HGG and LGG of
    BraTS 2019, split by patients. Any other folder is read as pairs that match by name; of more than two modalities
    those are taken that the task names.

    Args:
        dataset_dir: folder of the images.
        task: the bundle's task.
        datalist: a data list file, or None.
        split: split of the AANLIB pairs, or a list file (".json") of files in `dataset_dir`.
        split_run: run of that split.
        section: "training" or "testing".
        slices_dir: folder in which the volumes of a task whose data are volumes are cut into slices, None to leave them
            whole.
        slice_step: take every slice, every second, ...
        strict: refuse a data list for one bad entry; if not, that entry has the message under `error`.

    Where the names of the images say that they stand in the other order than the task has them, that is a warning.

    Raises:
        FusionInputError: nothing is there, an entry is bad, or a run is named of what has no runs.
    """
    if datalist is not None and not strict and not (slices_dir is not None and _of_volumes(task)):
        check_run(datalist, split_run)
        pairs = load_datalist(datalist, section, strict=False)
    else:
        pairs = _listed_pairs(dataset_dir, task, datalist, split, split_run, section)
    _warn_of_order(pairs, task)
    if slices_dir is not None and _of_volumes(task):
        return slice_datalist(pairs, slices_dir, step=slice_step)
    return pairs


def _warn_of_order(pairs: Sequence[Mapping[str, Any]], task: str) -> None:
    """Warn of pairs whose names say that their images stand in the other order than the task has them."""
    if task not in TABLE:
        return
    words = [tuple(modality_of(pair.get(key) or "") or "" for key in ("image", "image2")) for pair in pairs]
    turned = [str(pair["case"]) for pair, (a, b) in zip(pairs, words, strict=True) if exchanged(task, (a, b))]
    if turned:
        first, second = TABLE[task].labels
        told = f"{second} first and {first} second: {task} takes them in the other order, exchange them"
        text = (
            f"{len(turned)} of {len(pairs)} pairs ({printable(turned[0])}), by the names of their images, have {told}"
        )
        warnings.warn(text, FusionWarning, stacklevel=3)


def _check_files(split: str, section: str, folder: Path) -> None:
    """Refuse a folder that has no file of a split: it holds pairs of somebody else."""
    if all("error" in pair for pair in load_datalist(split, section, folder, strict=False)):
        expected = f"a folder with the files that {printable(Path(split).name)} lists"
        remedy = "for pairs of your own name a data list (--datalist), or all of the folder by split=folder"
        raise input_error(f"dataset_dir {printable(folder)}", expected, "none of them", remedy)


def _warn_of_validation(datalist: str | os.PathLike) -> None:
    """Warn of a list with pairs for the validation of a training, which takes them from those of `training`."""
    content = read_list_file(datalist)
    key = next((key for key in ("validation", "val") if content.get(key)), "") if isinstance(content, Mapping) else ""
    if key:
        told = f"its pairs under {key!r} are not read: a training validates a share of those under 'training'"
        remedy = "put them there, and name their heads by val_heads or the share by val_fraction"
        warnings.warn(f"{printable(datalist)}: {told}; {remedy}", FusionWarning, stacklevel=4)


def _of_volumes(task: str) -> bool:
    return task in TABLE and TABLE[task].dataset == "vol"


def _listed_pairs(
    dataset_dir: str | os.PathLike,
    task: str,
    datalist: str | os.PathLike | None,
    split: str,
    split_run: str,
    section: str,
) -> list[dict[str, Any]]:
    if datalist is not None:
        check_run(datalist, split_run)
        if section == "training":
            _warn_of_validation(datalist)
        return load_datalist(datalist, section)
    folder = Path(dataset_dir)
    if not folder.is_dir():
        remedy = "name the folder with --dataset_dir or a data list with --datalist"
        raise input_error(f"dataset_dir {folder}", "a folder of image pairs", "no such folder", remedy)
    if split.endswith(".json"):
        check_run(split, split_run)
        _check_files(split, section, folder)
        return load_datalist(split, section, folder)
    row = TABLE.get(task)
    pair = row.data_task if row else task
    if pair in TASKS and any((root / TASKS[pair][0]).is_dir() for root in (folder, folder / "aanlib")):
        return aanlib_datalist(folder, pair, split=split, run=split_run, section=section)
    first, second = (row.first, row.second) if row else [*task.split("_"), "", ""][:2]
    by_task = pair not in TASKS and first in MODALITIES and second in MODALITIES
    if by_task and is_brats(folder):
        whole = "all" if split == "all" else "patients"
        return brats_datalist(folder, (first, second), whole, split_run, section)
    check_run(folder, split_run)
    return folder_datalist(folder, (first, second) if by_task else None)


def check_run(source: str | os.PathLike, split_run: str) -> None:
    """Refuse a run where the pairs are not drawn by a split: the same ones would be taken for every name.

    Raises:
        FusionInputError: a run that somebody named.
    """
    if split_run not in DEFAULT_RUNS:
        remedy = "leave the run out (--run, split_run, runs), or name a data set with splits"
        raise input_error(f"{source}", "no name of a run, it is the one there is", repr(split_run), remedy)
