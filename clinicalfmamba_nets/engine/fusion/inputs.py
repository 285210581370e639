"""What the command line is given to fuse, as cases: one pair, a folder, a data list or the phantom; and their task."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.engine.run.workflows import IMAGES, VOLUMES
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import case_name, is_dicom, is_volume, printable, read_image
from clinicalfmamba_nets.io.dicom.files import SELECTOR, holds_dicom, split_selector

PUBLISHED = "_published"
Case = Mapping[str, str]


def collect_cases(
    inputs: Sequence[str], datalist: str | None = None, series: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Turn arguments into cases: two images, one folder of pairs or DICOM study, or a data list.

    Args:
        inputs: paths of two images, or of one folder or DICOMDIR.
        datalist: a MONAI data list, used instead of `inputs`.
        series: what chooses the two DICOM series, of one study or of two folders; none where the choice is clear.

    Returns:
        Entries `case`, `image`, `image2` with absolute paths; an entry of a list that cannot be used has `error`.

    Raises:
        FusionInputError: a list or folder that cannot be used.
    """
    if datalist is not None:
        from clinicalfmamba_nets.data import load_datalist

        return load_datalist(datalist, strict=False)
    if len(inputs) == 1 and (series or holds_dicom(inputs[0]) or os.path.isfile(inputs[0])):
        from clinicalfmamba_nets.engine.fusion.volumes import study_case

        return [study_case(inputs[0], series)]
    if len(inputs) == 1:
        from clinicalfmamba_nets.data import folder_datalist

        return folder_datalist(inputs[0])
    image, image2 = (os.path.abspath(path) for path in inputs)
    case = case_name(split_selector(image)[0])
    if series:
        image, image2 = (f"{path}{SELECTOR}{chosen}" for path, chosen in zip((image, image2), series, strict=True))
    return [{"case": case, "image": image, "image2": image2}]


def phantom_case(output_dir: str | os.PathLike, task: str = "ct_mri") -> dict[str, str]:
    """Compute the head phantom, for a task of volumes the brain in 3D, into the folder `phantom`, as a case."""
    from clinicalfmamba_nets.data import write_brain_pair, write_phantom_pair
    from clinicalfmamba_nets.engine.run.info import task_bundles

    folder = make_folder(Path(output_dir) / "phantom")
    if task_bundles().get(task, [IMAGES])[0] == VOLUMES:
        image, image2 = write_brain_pair(folder)
    else:
        image, image2 = write_phantom_pair(folder, task.removesuffix(PUBLISHED))
    return {"case": "phantom", "image": os.path.abspath(image), "image2": os.path.abspath(image2)}


def sources(case: Case) -> list[str]:
    """Return the files of a case: two, or one that holds both images."""
    return [case[key] for key in ("image", "image2") if case.get(key)]


def choose_task(image2: str | os.PathLike) -> tuple[str, str]:
    """Choose a task by the second image: grey means CT; color means SPECT, or PET where its name or folder says so.

    Args:
        image2: path of the second image; empty where one file holds both images.

    Returns:
        The task, and a sentence that tells the user about the choice.

    Raises:
        FusionInputError: the image cannot be read.
    """
    path = os.fsdecode(image2)
    if path and is_dicom(path):
        from clinicalfmamba_nets.engine.fusion.volumes import series_task

        return series_task(path)
    if not path or not read_image(path)[1]["color"]:
        return "ct_mri", "the second image is grey: taken as ct_mri; --task names another"
    words = re.split(r"[^a-z]+", "/".join(Path(path).parts[-2:]).lower())
    if "pet" in words:
        return "pet_mri", "the second image is in color and named PET: taken as pet_mri; --task names another"
    return "spect_mri", "the second image is in color: taken as spect_mri; for a PET add --task pet_mri"


def choose_bundle(image: Any, task: str | None = None) -> str:
    """Choose the bundle that fuses a first image: one for volumes, or the one for single images and DICOM slices.

    Args:
        image: path, or array without channels.
        task: the task that was asked for; a task that one bundle alone knows decides for DICOM series.

    Returns:
        The bundle's name.

    Example:
        >>> choose_bundle("mri.png")
        'fusion_2d'
    """
    from clinicalfmamba_nets.engine.run.info import task_bundles

    if isinstance(image, str | bytes | os.PathLike):
        series = is_dicom(image)
        if series and task is not None:
            return task_bundles().get(task, [IMAGES])[0]
        return VOLUMES if not series and is_volume(image) else IMAGES
    shape = tuple(getattr(image, "shape", ()))
    shape = shape[1:] if len(shape) > 2 and shape[0] == 1 else shape
    return VOLUMES if len(shape) == 3 and min(shape) > 1 else IMAGES


def volume_task(image2: str | os.PathLike) -> tuple[str, str]:
    """Choose a task of the bundle for volumes by the modality in the second file's name, its first one without any.

    Returns:
        The task, and a sentence that tells the user about the choice.
    """
    from clinicalfmamba_nets.data.datalists import modality_of
    from clinicalfmamba_nets.engine.run.info import bundle_tasks

    tasks, modality = bundle_tasks(VOLUMES), modality_of(image2) if image2 else None
    task = next((name for name in tasks if modality in name.split("_")), tasks[0])
    return task, f"volumes: taken as {task}; --task names another"


def make_folder(path: str | os.PathLike) -> Path:
    """Make a folder for results.

    Raises:
        FusionInputError: something else has its name, or it cannot be written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = error.strerror or "an error"
        raise input_error(printable(folder), "a folder for the results", found, "name another one by -o") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise input_error(printable(folder), "a folder to write to", "no permission", "name another one by -o")
    return folder
