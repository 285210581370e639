"""What the command line is given to fuse, as cases: one pair, a folder, a data list or the phantom."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.engine.fusion.case import Case
from clinicalfmamba_nets.engine.run.tasks import find_task
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import case_name, image_extension, printable
from clinicalfmamba_nets.io.dicom.files import SELECTOR, holds_dicom, split_selector


def collect_cases(
    inputs: Sequence[str], datalist: str | None = None, series: Sequence[str] = (), task: str = ""
) -> Sequence[Case | Mapping[str, Any]]:
    """Turn arguments into cases: two images or folders of images, one folder of pairs or DICOM study, or a data list.

    Args:
        inputs: paths of two images or folders, or of one folder or DICOMDIR.
        datalist: a MONAI data list, used instead of `inputs`.
        series: what chooses the two DICOM series, of one study or of two folders; none where the choice is clear.
        task: that was asked for; it chooses among more series of a study than two.

    Returns:
        Cases, or entries `case`, `image`, `image2` with absolute paths; one of a list that cannot be used has `error`.

    Raises:
        FusionInputError: a list or folder that cannot be used.
    """
    if datalist is not None:
        from clinicalfmamba_nets.data import load_datalist

        return load_datalist(datalist, strict=False)
    if len(inputs) == 1 and (series or os.path.isfile(inputs[0]) or holds_dicom(inputs[0])):
        from clinicalfmamba_nets.io.dicom.study import open_study

        folder = os.path.abspath(inputs[0])
        return [Case.of_study(open_study(folder), case_name(folder), series, task)]
    if len(inputs) == 1:
        from clinicalfmamba_nets.data import folder_datalist

        return folder_datalist(inputs[0])
    if not series and all(_of_pictures(path) for path in inputs):
        from clinicalfmamba_nets.data import two_folders_datalist

        return two_folders_datalist(*inputs)
    image, image2 = (os.path.abspath(path) for path in inputs)
    case = case_name(split_selector(image)[0])
    if series:
        for path in (image, image2):
            _refuse_other_format(path)
        image, image2 = (f"{path}{SELECTOR}{chosen}" for path, chosen in zip((image, image2), series, strict=True))
    return [{"case": case, "image": image, "image2": image2}]


def _refuse_other_format(path: str) -> None:
    """Refuse an image of which no series can be chosen."""
    ending = image_extension(path)
    if ending not in ("", ".dcm") and os.path.isfile(path):
        expected, remedy = "a DICOM folder for --series", "leave it out; FOLDER::CT names a series of a folder"
        raise input_error(printable(path), expected, f"an image that ends in {ending}", remedy)


def _of_pictures(path: str) -> bool:
    """Tell whether a path is a folder of images of other formats than DICOM."""
    return os.path.isdir(path) and any(map(image_extension, os.listdir(path))) and not holds_dicom(path)


def phantom_case(output_dir: str | os.PathLike, task: str = "ct_mri") -> dict[str, str]:
    """Compute the head phantom, for a task of volumes the brain in 3D, into the folder `phantom`, as a case."""
    from clinicalfmamba_nets.data import write_brain_pair, write_phantom_pair

    folder = make_folder(Path(output_dir) / "phantom")
    row = find_task(task)
    if row.phantom == "brain":
        image, image2 = write_brain_pair(folder)
    else:
        image, image2 = write_phantom_pair(folder, row.data_task)
    return {"case": "phantom", "image": os.path.abspath(image), "image2": os.path.abspath(image2)}


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
