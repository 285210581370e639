"""Heads of the Whole Brain Atlas as volumes: consecutive slices of one case, stacked once and written as NIfTI."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.data.aanlib import aanlib_datalist, case_number
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import PathLike, printable, read_image, to_path, write_image

LEAST_SLICES = 12
FARTHEST = 12  # pixels: the largest distance of slices that is told from no likeness at all


def runs_of_slices(names: Sequence[str], least: int = LEAST_SLICES) -> list[list[str]]:
    """Split files of the atlas into runs of consecutive slices of one case.

    Args:
        names: file names, case x 1000 + slice.
        least: slices that a run must have; shorter ones are left out.

    Example:
        >>> runs_of_slices(["2004.png", "2005.png", "2007.png", "3008.png"], least=2)
        [['2004.png', '2005.png']]
    """
    runs: list[list[str]] = []
    for name in sorted(names, key=lambda name: int(name.split(".")[0])):
        follows = runs and int(runs[-1][-1].split(".")[0]) + 1 == int(name.split(".")[0])
        if follows and case_number(runs[-1][-1]) == case_number(name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return [run for run in runs if len(run) >= least]


def estimated_distance(volume: NDArray) -> float:
    """Estimate the distance of the slices of a volume in pixels, from its likeness to itself.

    The distance is that shift within a slice, along both axes, which changes as much as the step to the next slice.

    Args:
        volume: (X, Y, slices).

    Returns:
        Pixels, from 1 to 12.

    Example:
        >>> i, j, k = np.meshgrid(*[np.arange(30.0)] * 3, indexing="ij")
        >>> round(estimated_distance(np.sin(i / 9) * np.sin(j / 9) * np.sin(4 * k / 9)))
        4
    """
    volume = np.asarray(volume, np.float32)
    across = np.abs(np.diff(volume, axis=2)).mean()
    farthest = min(FARTHEST, *(side - 1 for side in volume.shape[:2]))
    along = [
        np.mean([np.abs(volume[by:] - volume[:-by]).mean(), np.abs(volume[:, by:] - volume[:, :-by]).mean()])
        for by in range(1, farthest + 1)
    ]
    return float(np.interp(across, np.maximum.accumulate(along), range(1, farthest + 1)))


def _grey(path: str) -> NDArray:
    """Read a slice, the luma of one in color, 0..255."""
    image = read_image(path)[0]
    if image.ndim == 2:
        return np.asarray(image, np.uint8)
    import torch

    from clinicalfmamba_nets.functional.colour import rgb_to_ycbcr

    color = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)
    return np.round(255 * rgb_to_ycbcr(color.unsqueeze(0))[0, 0].numpy()).astype(np.uint8)


def head_stacks(
    dataset_dir: PathLike,
    task: str,
    cache_dir: PathLike,
    *,
    split: str = "case3",
    run: str | int = "run1",
    section: str = "training",
    least: int = LEAST_SLICES,
) -> list[dict[str, Any]]:
    """Stack the atlas's slices of each head to a pair of volumes, written where they are not there yet.

    The atlas tells neither the size of its pixels nor the distance of its slices: pixels are taken as 1 mm, and the
    distance is that of `estimated_distance` of the MRI. Columns run to the left, rows backwards and slices upwards, as
    in the axial series (two of the PET-MRI series are coronal and sagittal). A slice that the set lacks ends a volume.

    Args:
        dataset_dir: as in `aanlib_datalist`.
        task: "ct_mri", "spect_mri" or "pet_mri".
        cache_dir: folder of the volumes.
        split: as in `aanlib_datalist`; only "case3" keeps heads on one side.
        run: as in `aanlib_datalist`.
        section: "training" or "testing".
        least: slices that a volume must have.

    Returns:
        `image`, `image2` (NIfTI volumes; of SPECT and PET the luma) and `case`: the task, the head and the first slice
        as the atlas numbers them, such as "ct_mri_16003".

    Raises:
        FusionInputError: as in `aanlib_datalist`, or no head has so many slices.
    """
    pairs = aanlib_datalist(dataset_dir, task, split=split, run=run, section=section)
    paths = {os.path.basename(pair["image"]): pair for pair in pairs}
    runs = runs_of_slices(list(paths), least)
    if not runs:
        found = "none in this section"
        raise input_error(printable(dataset_dir), f"heads of {least} consecutive slices", found, "complete the folder")
    entries = []
    for names in runs:
        case = f"{task}_{names[0].split('.')[0]}"
        folder = to_path(cache_dir) / f"{case}_{len(names)}"
        files = [folder / "mri.nii.gz", folder / f"{task.split('_')[0]}.nii.gz"]
        if not all(file.is_file() for file in files):
            _write_stack([paths[name] for name in names], files)
        entries.append({"image": str(files[0].absolute()), "image2": str(files[1].absolute()), "case": case})
    return entries


def _write_stack(pairs: Sequence[dict[str, Any]], files: Sequence[Path]) -> None:
    """Write the two volumes (columns, rows, slices) of a run of slices."""
    volumes = [np.stack([_grey(pair[key]).T for pair in pairs], axis=2) for key in ("image", "image2")]
    affine = np.diag([-1.0, -1.0, estimated_distance(volumes[0]), 1.0])
    for volume, file in zip(volumes, files, strict=True):
        write_image(file, volume, affine=affine, dtype="uint8")
