"""What the configurations of the grading bundle call: cases of a run, its folders, the stages of a fusion training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from clinicalfmamba_nets.data.brats import HELD_OUT
from clinicalfmamba_nets.data.brats_phantoms import PHANTOM
from clinicalfmamba_nets.engine.grading.images import FUSED, is_fused
from clinicalfmamba_nets.engine.grading.lists import Entry, grading_datalist, require_unseen, seen_cases, user_case
from clinicalfmamba_nets.engine.run.record import RUN_FILE
from clinicalfmamba_nets.engine.run.weights import require_weights
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import printable
from clinicalfmamba_nets.nets import EHDRAN, SingleImageReconstruction

TRAINED_ON_PHANTOMS = "the network was trained on PHANTOMS: its grade has no clinical meaning"

# What makes the images: a network grades by those that it was trained on.
IMAGE_SETTINGS = ("input", "spatial_dims", "roi_size", "least_shown")


def fusion_folder(output_dir: str | os.PathLike, name: str) -> str | None:
    """Return the folder of the fusion training that belongs to a classifier's folder; None for an input without one."""
    return str(Path(output_dir) / "fusion") if is_fused(name) else None


def fusion_weights(fusion_dir: str | os.PathLike | None) -> str | None:
    """Return the file of weights in the folder of a fusion training."""
    return None if fusion_dir is None else str(Path(fusion_dir) / "model.pt")


def stage_network(network: nn.Module | None) -> nn.Module:
    """Return what is trained of a fusion network: EH-DRAN as an auto-encoder of single images, others as they are.

    Raises:
        FusionInputError: None, the network of an input that is not fused.
    """
    if network is None:
        remedy = "train its classifier by train.json: it needs no fusion network"
        raise input_error("input", f"one that is fused: {', '.join(FUSED)}", "one that is not", remedy)
    return SingleImageReconstruction(network) if isinstance(network, EHDRAN) else network


def require_fold(
    fusion_dir: str | os.PathLike | None, dataset_dir: str | os.PathLike, split_run: str, held_out: int = HELD_OUT
) -> None:
    """Raise an error where the fusion network of a run has seen a patient that the run tests.

    Args:
        fusion_dir: folder of the fusion network's training; None where nothing is fused.
        dataset_dir: the data set.
        split_run: the run.
        held_out: patients of each grade that are tested.

    Raises:
        FusionInputError: see `require_unseen`.
    """
    if fusion_dir is not None:
        known, test = (grading_datalist(dataset_dir, split_run, part, held_out) for part in ("all", "testing"))
        require_unseen(fusion_dir, known, test)


def require_untrained(
    path: str | os.PathLike | None, dataset_dir: str | os.PathLike, split_run: str, held_out: int = HELD_OUT
) -> None:
    """Raise an error where a classifier was trained or validated on a patient that a run tests.

    Args:
        path: its file of weights; None where nothing is tested. Without a run.json beside it nothing is known.
        dataset_dir: the data set.
        split_run: the run.
        held_out: patients of each grade that are tested.

    Raises:
        FusionInputError: naming the patient.
    """
    if path is None:
        return
    seen = set(trained_cases(path))
    known, test = (grading_datalist(dataset_dir, split_run, part, held_out) for part in ("all", "testing"))
    trained = {entry["patient"]: entry["case"] for entry in known if entry["case"] in seen}
    both = [entry["patient"] for entry in test if entry["patient"] in trained]
    if both:
        found = f"{len(both)} of {len(test)}, such as {printable(trained[both[0]])}"
        remedy = "give the split_run and held_out of its training, or section=training"
        raise input_error(printable(path), "a network that was not trained on the tested patients", found, remedy)


def trained_cases(path: str | os.PathLike) -> list[str]:
    """Return the cases that weights were trained and validated on; nothing where no run.json lies beside them."""
    return seen_cases(Path(path).parent)


def require_grading_weights(
    network: nn.Module, path: str | os.PathLike, settings: Mapping[str, Any] | None = None
) -> None:
    """Raise an error where a grading network has no trained weights: a random one has no opinion to give.

    Args:
        network: the bare network.
        path: its file of weights, with the run.json of its training beside it.
        settings: of the grading; those that make the images must be the training's.

    Raises:
        FusionInputError: no file, weights of another network, or of one that was trained on other images.
    """
    given, trained = settings or {}, training_settings(path)
    for name in IMAGE_SETTINGS:
        if name in given and name in trained and _plain(given[name]) != _plain(trained[name]):
            expected = f"{trained[name]!r}, as in the training of {printable(path)}"
            raise input_error(name, expected, repr(given[name]), "give that one, or name other weights")
    require_weights(network, path)


def training_settings(path: str | os.PathLike) -> dict[str, Any]:
    """Return the settings in the run.json beside trained weights; nothing where there is none.

    Raises:
        FusionInputError: there are no weights.
    """
    if not Path(path).is_file():
        remedy = "train first (docs/README.md of the bundle: `run evaluating`), and name its folder by model_dir"
        raise input_error(printable(path), "weights of a trained grading network", "no such file", remedy)
    return _training_facts(path, "settings")


def training_note(path: str | os.PathLike) -> str:
    """Return what a user must know of the training cases of weights: that they were phantoms; else nothing."""
    cases = _training_facts(path, "cases").get("training", ())
    return TRAINED_ON_PHANTOMS if any(PHANTOM in str(case) for case in cases) else ""


def _training_facts(path: str | os.PathLike, part: str) -> dict[str, Any]:
    """Return one part of the run.json beside trained weights; nothing where there is none."""
    try:
        return dict(json.loads((Path(path).parent / RUN_FILE).read_text(encoding="utf-8"))[part])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def grading_cases(
    dataset_dir: str | os.PathLike,
    split_run: str,
    section: str,
    *,
    held_out: int = HELD_OUT,
    t2: str | None = None,
    flair: str | None = None,
    mask: str | None = None,
    case: str | None = None,
) -> list[Entry]:
    """Return the cases to grade: those of a section of a run, or the one patient whose files are given.

    Args:
        dataset_dir: a folder in the layout of BraTS 2019; not looked at where files are given.
        split_run: see `grading_datalist`.
        section: see there.
        held_out: see there.
        t2: volume of one patient.
        flair: its other contrast.
        mask: its tumor mask; without one the whole brain is graded.
        case: its name; default: that of the T2 file.

    Raises:
        FusionInputError: see there; or one contrast alone.
    """
    if t2 is None and flair is None:
        return grading_datalist(dataset_dir, split_run, section, held_out)
    if t2 is None or flair is None:
        missing = "t2" if t2 is None else "flair"
        raise input_error(missing, "a volume", "none", "give both --t2 and --flair")
    return user_case(t2, flair, mask, case)
