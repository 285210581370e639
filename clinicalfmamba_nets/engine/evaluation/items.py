"""The pairs of an evaluation, and pictures of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset
from numpy.typing import NDArray
from torch import Tensor

from clinicalfmamba_nets.engine.fusion.lists import check_run, pair_datalist
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.colour import displayed_rgb

Items = Sequence[Mapping[str, Any]]


def evaluation_items(
    dataset_dir: str | os.PathLike,
    task: str,
    transform: Any,
    datalist: str | os.PathLike | None = None,
    *,
    split: str = "random3",
    runs: str | Sequence[str] = "run1",
    section: str = "testing",
    slices_dir: str | os.PathLike | None = None,
    slice_step: int = 1,
) -> dict[str, Dataset]:
    """Open the test lists of an evaluation.

    A network that was trained on one run has seen test pairs of the others: give several runs only with networks of
    several runs, or baselines.

    Args:
        dataset_dir: folder of the images.
        task: the bundle's task.
        transform: preprocessing that makes `image` (2, *spatial) in [0, 1] from a list entry.
        datalist: a data list file, which makes a single run named after it; or None. A bad entry of it has its
            `error`, and does not end the evaluation of the others.
        split: split of the AANLIB pairs.
        runs: run or runs of that split.
        section: "testing" or "training".

    Returns:
        Run -> MONAI dataset.

    Raises:
        FusionInputError: nothing is there, or an entry of a split is bad.
    """
    cutting: dict[str, Any] = {"slices_dir": slices_dir, "slice_step": slice_step}
    names = [runs] if isinstance(runs, str) else list(runs)
    if datalist is not None:
        for run in names:
            check_run(datalist, run)
        entries = pair_datalist(dataset_dir, task, datalist, section=section, strict=False, **cutting)
        return {Path(datalist).stem: Dataset(entries, transform)}
    cutting |= {"split": split, "section": section}
    return {run: Dataset(pair_datalist(dataset_dir, task, split_run=run, **cutting), transform) for run in names}


def entry_of(items: Items, index: int) -> Mapping[str, Any]:
    """The entry of the list that a pair is read from, before its images are."""
    return getattr(items, "data", items)[index]


def loaded_pair(items: Items, index: int, key: str = "image") -> tuple[Mapping[str, Any], Tensor]:
    """Read a pair.

    Args:
        items: a MONAI dataset or a list.
        index: which one.
        key: entry of the two sources.

    Returns:
        The item, and its sources (2, *spatial) float32.

    Raises:
        FusionInputError: a bad entry or file, or not two sources.
    """
    entry = entry_of(items, index)
    case = f"case {entry.get('case', index + 1)}"
    if entry.get("error"):
        raise input_error(case, "two files", str(entry["error"]), "correct the list")
    item = items[index]
    image = torch.as_tensor(item[key]).float()
    if image.dim() not in (3, 4) or image.shape[0] != 2:
        found = f"shape {tuple(image.shape)}"
        raise input_error(case, "the two sources as (2, *spatial)", found, "use the bundle's transforms")
    return item, image


def as_picture(image: Tensor, chroma: Any = None) -> NDArray:
    """Make a picture of a grey image, in color where there is chroma; of a volume its middle slice.

    Args:
        image: (1, H, W) or (1, H, W, D) in [0, 1].
        chroma: (2, *spatial) Cb and Cr in [0, 1], or None.

    Returns:
        (H, W) or (H, W, 3) in [0, 1].

    Example:
        >>> as_picture(torch.rand(1, 8, 9, 5), torch.full((2, 8, 9, 5), 0.5)).shape
        (8, 9, 3)
    """
    planes = image if chroma is None else torch.cat([image, torch.as_tensor(chroma).float()])
    planes = torch.as_tensor(planes)[..., planes.shape[-1] // 2] if planes.dim() == 4 else planes
    colored = displayed_rgb(planes[None])[0].movedim(0, -1) if chroma is not None else planes[0]
    return colored.clamp(0, 1).cpu().numpy()
