"""What follows from a bundle's `task`: the graph of the network, the file of its weights, the folder of the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.errors import input_error

FIRST_TASK = "ct_mri"
PACKAGE_PARENT = Path(__file__).resolve().parents[3]


def choose(options: Mapping[str, Any], task: str, setting: str = "task") -> Any:
    """Return the entry of a table by task, or by another setting.

    Args:
        options: one entry for each task.
        task: the value of the setting.
        setting: its name, for the message.

    Raises:
        FusionInputError: the task has no entry.

    Example:
        >>> choose({"ct_mri": 3}, "ct_mri")
        3
    """
    if task not in options:
        raise input_error(setting, f"one of {', '.join(options)}", repr(task), "choose one of these")
    return options[task]


def weights_path(bundle_root: str | os.PathLike, task: str) -> str:
    """Return the file of a task's weights: `models/model.pt` for the first task, `models/model_TASK.pt` for another.

    Example:
        >>> weights_path("fusion_2d", "pet_mri").replace(os.sep, "/")
        'fusion_2d/models/model_pet_mri.pt'
    """
    name = "model.pt" if task == FIRST_TASK else f"model_{task}.pt"
    return str(Path(bundle_root) / "models" / name)


def default_dataset_dir(name: str = "aanlib") -> str:
    """Return a folder of data where one is known, else its name, which means the present folder.

    Looked at are the environment variable CLINICALFMAMBA_DATA and `shared/data` beside the checkout.

    Args:
        name: "aanlib" for the AANLIB pairs, "vol" for volumes.
    """
    named = os.environ.get("CLINICALFMAMBA_DATA")
    folders = [Path(named).expanduser()] if named else []
    folders.append(PACKAGE_PARENT.parent / "shared" / "data")
    return next((str(folder / name) for folder in folders if (folder / name).is_dir()), name)
