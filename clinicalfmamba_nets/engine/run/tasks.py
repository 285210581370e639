"""The one table of tasks: which images, which words for them, which network with which weights, which data.

A task names a network of its own for each kind of image: one bundle for single images, one for volumes. Every way in
(command line, Python, Label, Deploy, `nets.pretrained`) asks this table; a test holds the bundles' JSON to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.data.datalists import MAPS
from clinicalfmamba_nets.errors import input_error

# The bundles that fuse: single images (and volumes slice by slice), and whole volumes.
IMAGES, VOLUMES = "fusion_2d", "fusion_3d"
FUSION_BUNDLES = (IMAGES, VOLUMES)
# Words for what an image shows, as they are written above pictures, and DICOM's codes for them.
LABELS = {
    "mri": "MRI", "t1": "T1", "t2": "T2", "t1ce": "T1CE", "flair": "FLAIR", "pd": "PD", "ct": "CT", "spect": "SPECT",
    "pet": "PET", "first": "A", "second": "B", **MAPS,
}  # fmt: skip
DICOM_WORDS = {"MR": "mri", "CT": "ct", "PT": "pet", "NM": "spect"}
MR_WORDS = ("mri", "t1", "t2", "t1ce", "flair", "pd")
_PLAIN = {"num_down": 3, "pyramid": "shared", "cmca_kernel": 1, "decoder_act": "relu", "norm": "batch", "head": "mix"}
_HEADS_ALONE = "task generic: its weights were trained on CT and MRI of heads; how well they fuse others is not known"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of the table.

    Args:
        name: what a user writes.
        first: word for the first, anatomical image, a key of `LABELS`.
        second: word for the second image.
        networks: bundle -> options of the network that differ between tasks, as in `graphs` of the bundle's JSON.
        weights: bundle -> file in its folder `models`.
        images: the bundle that fuses single images, "" for none.
        volumes: the bundle that fuses volumes.
        dataset: layout of the data: "aanlib" (pairs of slices) or "vol" (volumes).
        phantom: "head" (slices) or "brain" (volumes) for the phantom of the demonstrations.
        warning: told of each pair that is fused; "" for none.
    """

    name: str
    first: str
    second: str
    networks: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]
    images: str = IMAGES
    volumes: str = IMAGES
    dataset: str = "aanlib"
    phantom: str = "head"
    warning: str = ""
    bundles: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        homes = sorted(self.networks, key=lambda bundle: (bundle != (self.images or self.volumes), bundle))
        object.__setattr__(self, "bundles", tuple(homes))

    @property
    def labels(self) -> tuple[str, str]:
        """Words for both images."""
        return LABELS[self.first], LABELS[self.second]

    @property
    def data_task(self) -> str:
        """Name of the data that the task is about: that of the task without "_published" and the like.

        Of `generic` that of the default, whose weights it has.
        """
        if self.first == "first":
            return FIRST_TASK
        return f"{self.second}_{self.first}" if self.first == "mri" else f"{self.first}_{self.second}"

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {
            "task": self.name,
            "first": self.labels[0],
            "second": self.labels[1],
            "images": self.images or None,
            "volumes": self.volumes,
            "weights": dict(self.weights),
            "network": {bundle: dict(options) for bundle, options in self.networks.items()},
            "dataset": self.dataset,
            "phantom": self.phantom,
        }


def _row(name: str, first: str, second: str, flat: Mapping[str, Any] | None, solid: str = "", **more: Any) -> Task:
    """Build a row: options of the network for slices, and the file of weights for volumes, where there are any."""
    networks: dict[str, Mapping[str, Any]] = {}
    weights: dict[str, str] = {}
    if flat is not None:
        networks[IMAGES] = flat
        weights[IMAGES] = "model.pt" if name in ("ct_mri", "generic") else f"model_{name}.pt"
    if solid:
        networks[VOLUMES] = {"scan": "planar" if name.endswith("_planar") else "tri_plane", "head": "mix"}
        weights[VOLUMES] = solid
    return Task(name=name, first=first, second=second, networks=networks, weights=weights, **more)


TASKS: dict[str, Task] = {
    row.name: row
    for row in (
        _row("ct_mri", "mri", "ct", _PLAIN, "model.pt"),
        _row("spect_mri", "mri", "spect", _PLAIN, "model.pt"),
        _row("pet_mri", "mri", "pet", _PLAIN, "model.pt"),
        _row("ct_mri_published", "mri", "ct", {**_PLAIN, "head": "sigmoid"}),
        _row(
            "t2_flair", "t2", "flair", {**_PLAIN, "num_down": 2}, "model.pt", dataset="vol", phantom="brain",
        ),
        _row(
            "t2_flair_planar", "t2", "flair", None, "model_t2_flair_planar.pt",
            images="", volumes=VOLUMES, dataset="vol", phantom="brain",
        ),
        _row("generic", "first", "second", _PLAIN, warning=_HEADS_ALONE),
    )
}  # fmt: skip
FIRST_TASK = next(iter(TASKS))


def find_task(name: str, bundle: str | None = None) -> Task:
    """Return a row of the table.

    Args:
        name: the task.
        bundle: the bundle that must know it; None for any.

    Raises:
        FusionInputError: naming the tasks, or the bundles, that there are.

    Example:
        >>> find_task("ct_mri").labels
        ('MRI', 'CT')
    """
    if bundle not in (None, *FUSION_BUNDLES):
        raise input_error("bundle", f"one of {', '.join(FUSION_BUNDLES)}", repr(bundle), "choose one of these")
    return choose({row.name: row for row in TASKS.values() if bundle in (None, *row.bundles)}, name)


def bundle_tasks(bundle: str = IMAGES) -> list[str]:
    """Return the tasks that a bundle knows, its default first.

    Example:
        >>> bundle_tasks("fusion_3d")[0]
        't2_flair'
    """
    known = [row for row in TASKS.values() if bundle in row.bundles]
    return [row.name for row in sorted(known, key=lambda row: bundle == VOLUMES and row.dataset != "vol")]


def bundle_of(task: str, volume: bool) -> str:
    """Return the bundle in which a task fuses single images, or volumes.

    Raises:
        FusionInputError: no such task, or one for volumes alone.
    """
    row = find_task(task)
    if not volume and not row.images:
        raise input_error(f"task {task}", "volumes", "a single image", "choose another task")
    return row.volumes if volume else row.images


def choose_task(
    words: tuple[str, str], color: bool, volume: bool, series: bool = False, hu: bool = False
) -> tuple[str, str]:
    """Choose a task by what is known of both images.

    Args:
        words: for the first and the second image, a key of `LABELS` or "".
        color: whether the second image is in color.
        volume: whether the images are volumes.
        series: whether the second image is a DICOM series.
        hu: whether the second image has the values of a CT in HU.

    Returns:
        The task, and a sentence that tells the user about the choice.

    Example:
        >>> choose_task(("mri", "pet"), color=False, volume=False)[0]
        'pet_mri'
    """
    words = (words[0], words[1] or ("ct" if hu else ""))
    fitting = [row for row in TASKS.values() if row.second == words[1]]
    fitting = fitting or [row for row in TASKS.values() if exchanged(row.name, words)]
    if fitting:
        task = fitting[0].name
    elif series:
        task = "t2_flair" if words[1] in MR_WORDS else "spect_mri" if color else FIRST_TASK
    elif volume:
        task = "spect_mri" if color else bundle_tasks(VOLUMES)[0]
    else:
        task = "spect_mri" if color else FIRST_TASK
    remedy = "--task names another" if task != "spect_mri" or fitting else "for a PET add --task pet_mri"
    if series:
        what = f"the second series is {'in color, ' if color else ''}{LABELS.get(words[1], 'of no stated modality')}"
    elif volume:
        what = "volumes" + (", the second one in color" if color else ", the second one in HU" if hu else "")
    else:
        what = f"the second image is {'in color' if color else 'grey'}"
        what += f" and named {LABELS[words[1]]}" if fitting else ""
    return task, f"{what}: taken as {task}; {remedy}"


def exchanged(task: str, words: tuple[str, str]) -> bool:
    """Tell whether the images of a pair were named in the other order than the task has them.

    Example:
        >>> exchanged("ct_mri", ("ct", "mri")), exchanged("ct_mri", ("", "ct"))
        (True, False)
    """
    row = find_task(task)
    anatomical = MR_WORDS if row.first == "mri" else ("mri", "pd", row.first)
    return words[0] == row.second and words[1] in anatomical and words[1] != words[0]


def never_seen(task: str, words: tuple[str, str]) -> str:
    """Return a warning where the images, in the order of the task, are of other modalities than it was trained on.

    Example:
        >>> never_seen("pet_mri", ("ct", "pet"))
        'the images are CT and PET: the weights of pet_mri were trained on MRI and PET'
        >>> never_seen("pet_mri", ("t1", "pet")), never_seen("pet_mri", ("", "pet"))
        ('', '')
    """
    row = find_task(task)
    kinds = [["mri" if word in MR_WORDS else word for word in pair] for pair in (words, (row.first, row.second))]
    if row.warning or all(known in ("", own) for known, own in zip(*kinds, strict=True)):
        return ""
    told = " and ".join(LABELS.get(word, "an unnamed image") for word in words)
    return f"the images are {told}: the weights of {task} were trained on {' and '.join(row.labels)}"


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
    if not isinstance(task, str) or task not in options:
        raise input_error(setting, f"one of {', '.join(options)}", repr(task), "choose one of these")
    return options[task]


def weights_path(bundle_root: str | os.PathLike, task: str, bundle: str = IMAGES) -> str:
    """Return the file of a task's weights in a bundle.

    Example:
        >>> weights_path("fusion_2d", "pet_mri").replace(os.sep, "/")
        'fusion_2d/models/model_pet_mri.pt'
    """
    return str(Path(bundle_root) / "models" / find_task(task, bundle).weights[bundle])


def default_dataset_dir(name: str = "aanlib") -> str:
    """Return the folder `name` of CLINICALFMAMBA_DATA where that is set and has one, else the name itself.

    Args:
        name: "aanlib" for the AANLIB pairs, "vol" for volumes.
    """
    named = os.environ.get("CLINICALFMAMBA_DATA")
    folder = Path(named).expanduser() / name if named else Path(name)
    return str(folder) if folder.is_dir() else name


def task_text(rows: Iterable[Task] = (), folders: Mapping[str, Path] | None = None) -> str:
    """Lay out the table for a terminal, one line for each task and bundle.

    Args:
        rows: the tasks; none for all.
        folders: bundle -> its folder, so that weights that are not there are marked; None where that is not asked.

    Example:
        >>> task_text([TASKS["t2_flair_planar"]], {}).splitlines()[1].split("fusion_3d ")[-1]
        'model_t2_flair_planar.pt (not there; train it)'
    """
    lines = ["task              first  second  images     volumes    weights"]
    for row in rows or TASKS.values():
        weights = ", ".join(f"{bundle} {file}{_missing(bundle, file, folders)}" for bundle, file in row.weights.items())
        first, second = row.labels
        lines.append(f"{row.name:<17} {first:<6} {second:<7} {row.images or '-':<10} {row.volumes:<10} {weights}")
    return "\n".join(lines)


def _missing(bundle: str, file: str, folders: Mapping[str, Path] | None) -> str:
    if folders is None or (bundle in folders and (folders[bundle] / "models" / file).is_file()):
        return ""
    return " (not there; train it)"
