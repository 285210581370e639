"""The pairs of a training: the shares for training and validation, and phantoms among them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.data import head_stacks, write_phantom_pair, write_plain_head
from clinicalfmamba_nets.engine.run.ranks import world_size
from clinicalfmamba_nets.engine.run.seen_pairs import pair_names, some_names
from clinicalfmamba_nets.engine.run.tasks import find_task
from clinicalfmamba_nets.errors import FusionWarning, input_error

PHANTOM_CONTRASTS = ("t2", "t1", "flair")
PLAIN_SIZES = (96, 128, 192, 256)
MOST_PHANTOMS = 48
# What the configurations validate where nobody named heads: lists without these heads validate evenly spaced entries.
SHIPPED_HEADS = ("41", "40", "ct_mri_41", "spect_mri_40")


def training_datalist(
    pairs: list[dict[str, Any]],
    part: str,
    val_fraction: float,
    hold_out: bool,
    repeats: int = 1,
    val_heads: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return the training or the validation share of the pairs of a training.

    Validation takes evenly spaced entries, so that it does not depend on chance and meets every case of the list; or
    whole heads, which say more: neighboring slices of one head are nearly the same image. A pair
    that is validated under one name and trained on under another is a warning.

    Args:
        pairs: all entries that may be trained on.
        part: "training" or "validation".
        val_fraction: share of the entries that are validated, in (0, 1).
        hold_out: whether the validated entries are left out of the training.
        repeats: how often an epoch takes each entry, where a crop shows little of it.
        val_heads: numbers of the heads that are validated, as the names of the atlas begin (head 41 has the pairs
            41001 to 41999); evenly spaced entries where it is empty or the list has none of `SHIPPED_HEADS`.

    Raises:
        FusionInputError: the share is outside (0, 1), a head of another name is not in the list, or there are fewer
            entries than processes.

    Example:
        >>> training_datalist([{"case": n} for n in range(4)], "validation", 0.25, True)
        [{'case': 0}]
    """
    if not 0 < val_fraction < 1:
        raise input_error("val_fraction", "a share between 0 and 1", str(val_fraction), "give one such as 0.1")
    step = max(2, round(1 / val_fraction))
    heads = [str(pair.get("case", ""))[:-3] for pair in pairs]
    _check_heads(val_heads, heads)
    of_heads = [pair for pair, head in zip(pairs, heads, strict=True) if head in val_heads]
    validated = of_heads or pairs[::step]
    kept_out = {id(pair) for pair in validated} if hold_out else set()
    chosen = validated if part == "validation" else [pair for pair in pairs if id(pair) not in kept_out]
    if part == "training" and hold_out:
        _warn_of_validated(chosen, validated)
    if len(chosen) < world_size():
        remedy = "give more pairs, another val_fraction, or start fewer processes"
        raise input_error(f"{part} list", f"at least {world_size()} pairs", f"{len(chosen)} of {len(pairs)}", remedy)
    return chosen * repeats


def _warn_of_validated(pairs: Sequence[dict[str, Any]], validated: Sequence[dict[str, Any]]) -> None:
    """Warn of pairs to be trained on that have an image of a validated one: a list may name a pair twice."""
    held_out = {file for pair in validated for file in _files(pair)}
    twice = [pair for pair in pairs if held_out & _files(pair)]
    if twice:
        names = some_names(pair_names(twice))
        told = f"{len(twice)} of {len(pairs)} training pairs have an image that is validated, too ({names})"
        text = f"{told}: the validation flatters; name each pair once, or the heads to be validated by val_heads"
        warnings.warn(text, FusionWarning, stacklevel=3)


def _files(pair: dict[str, Any]) -> set[str]:
    return {os.path.realpath(pair[key]) for key in ("image", "image2") if pair.get(key)}


def _check_heads(named: Sequence[str], there: Sequence[str]) -> None:
    unknown = [head for head in named if head not in (*there, *SHIPPED_HEADS)]
    if unknown:
        known = ", ".join(sorted({head for head in there if head})) or "no name of a case is longer than that"
        expected = "heads of the list, the names of its cases without the last three characters"
        remedy = f"name some of these, or val_heads=[] for evenly spaced pairs: {known}"
        raise input_error("val_heads", expected, ", ".join(map(repr, unknown)), remedy)


def add_phantoms(
    pairs: list[dict[str, Any]], count: int | None, task: str, folder: str | os.PathLike
) -> list[dict[str, Any]]:
    """Append head phantoms to the pairs of a training, in T2, T1 and FLAIR contrast by turns.

    Odd seeds are plain (a brain of one tissue) and of four sizes. Seed 0, the phantom of the demonstrations, is not
    among them.

    Args:
        pairs: entries of the training list.
        count: how many phantoms, of the seeds 1 to `count`; 0 adds none; None one to every two pairs, at most 48.
        task: the bundle's task.
        folder: where the phantoms are written as PNG files.

    Returns:
        The entries, with `image`, `image2` and `case` for each phantom.
    """
    phantoms: list[dict[str, Any]] = []
    shown = find_task(task).data_task
    if count is None:
        count = min(MOST_PHANTOMS, len(pairs) // 2)
    for seed in range(1, count + 1):
        contrast = PHANTOM_CONTRASTS[seed % len(PHANTOM_CONTRASTS)]
        place = Path(folder) / f"phantom{seed}"
        size = PLAIN_SIZES[seed // 2 % len(PLAIN_SIZES)] if seed % 2 else 256
        image, image2 = write_phantom_pair(place, shown, size, seed=seed, contrast=contrast, plain=bool(seed % 2))
        phantoms.append({"image": str(image), "image2": str(image2), "case": f"phantom{seed}"})
    return pairs + phantoms


def add_heads(
    pairs: list[dict[str, Any]],
    dataset_dir: str | os.PathLike | None,
    tasks: Sequence[str],
    folder: str | os.PathLike,
    split_run: str = "run1",
) -> list[dict[str, Any]]:
    """Append the heads of the atlas as volumes to the pairs of a training: whole heads, none of a test list.

    Args:
        pairs: entries of the training list.
        dataset_dir: the atlas, as in `head_stacks`; None adds none.
        tasks: of the atlas.
        folder: where the volumes are written as NIfTI files.
        split_run: run of the split by whole heads.

    Returns:
        The entries, with `image`, `image2` and `case` of each head.
    """
    if dataset_dir is None:
        return pairs
    return pairs + [entry for task in tasks for entry in head_stacks(dataset_dir, task, folder, run=split_run)]


def add_plain_heads(pairs: list[dict[str, Any]], count: int, folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Append heads of even tissues in 3D to the pairs of a training, half of them equal to their mirror image.

    Args:
        pairs: entries of the training list.
        count: how many, of the seeds 1 to `count`; 0 adds none.
        folder: where they are written as NIfTI files.

    Returns:
        The entries, with `image`, `image2` and `case` of each phantom.
    """
    drawn = []
    for seed in range(1, count + 1):
        image, image2 = write_plain_head(Path(folder) / f"plain{seed}", seed=seed)
        drawn.append({"image": str(image), "image2": str(image2), "case": f"plain{seed}"})
    return pairs + drawn
