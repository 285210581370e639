"""Files of weights: read with every check, fitted to a network, for inference, evaluation and training."""

from __future__ import annotations

import copy
import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from clinicalfmamba_nets.engine.run.tasks import FIRST_TASK, find_task
from clinicalfmamba_nets.engine.run.workflows import find_bundle
from clinicalfmamba_nets.errors import input_error

RUN_MARK = "{run}"
WRAPPERS = ("module.", "_orig_mod.")


def read_weights(path: str | os.PathLike, option: str = "ckpt_path") -> dict[str, torch.Tensor]:
    """Read a raw state_dict.

    Args:
        path: the file.
        option: the setting that names it, for the message.

    Raises:
        FusionInputError: there is no such file, or it is not a state_dict.
    """
    file = Path(path)
    if not file.is_file():
        remedy = "add --bundle_root with the bundle's folder, or name a file of weights or train them"
        raise input_error(f"{option} {file}", "a file of weights", "no such file", remedy)
    try:
        if damaged := damaged_part(file):
            raise ValueError(f"{damaged} does not fit its checksum")
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise input_error(
            f"{option} {file}", "a file of weights", "another or damaged file", "copy it again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise input_error(f"{option} {file}", "a raw state_dict", "something else", "name the model.pt beside it")
    return without_prefixes(state)


def damaged_part(path: str | os.PathLike) -> str:
    """Name what in an archive, as torch writes, does not fit its checksum, which torch's loaders do not look at.

    Args:
        path: a file; one that is no archive has no checksums.

    Returns:
        The first damaged part, "" for none.
    """
    try:
        if not zipfile.is_zipfile(path):
            return ""
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() or ""
    except Exception as error:  # a changed byte of its table of contents may read as anything
        return f"its table of contents ({error or type(error).__name__})"


def without_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take off what DataParallel ("module.") and torch.compile ("_orig_mod.") put before every name.

    Example:
        >>> list(without_prefixes({"module.a": torch.zeros(1), "module.b": torch.zeros(1)}))
        ['a', 'b']
    """
    prefix = next((word for word in WRAPPERS if state and all(name.startswith(word) for name in state)), None)
    return state if prefix is None else without_prefixes({name[len(prefix) :]: v for name, v in state.items()})


def _check_fit(state: dict[str, torch.Tensor], network: nn.Module, path: str | os.PathLike, option: str) -> None:
    own = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(shapes.keys() | given.keys()):
        if shapes.get(name) != given.get(name):
            expected = shapes.get(name, "none")
            found = f"{_name_in_file(path, name)} of shape {given.get(name, 'none')} where the network has {expected}"
            remedy = "choose the task, or the network's options, that the weights were trained with"
            raise input_error(f"{option} {path}", "weights of this network", found, remedy)
    for name, value in state.items():
        if not value.isfinite().all():
            remedy = "train again with a lower learning rate, or copy the file again"
            found = f"NaN or infinite ones in {_name_in_file(path, name)}"
            raise input_error(f"{option} {path}", "finite numbers", found, remedy)


def _name_in_file(path: str | os.PathLike, name: str) -> str:
    """Return the name of a tensor as the file has it, with the prefixes that were taken off."""
    given = torch.load(path, map_location="cpu", weights_only=True)
    return next((word for word, value in given.items() if name in without_prefixes({word: value})), name)


def require_weights(network: nn.Module, path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Raise an error where a file of weights is not there or does not fit the network, before any image is read.

    Args:
        network: the bare network.
        path: a raw state_dict, as a bundle's `models/` holds.

    Returns:
        The state_dict.

    Raises:
        FusionInputError: no such file, not a state_dict, names and shapes that differ, or numbers that are not finite.
    """
    state = read_weights(path)
    _check_fit(state, network, path, "ckpt_path")
    return state


def start_from_weights(network: nn.Module, path: str | os.PathLike | None) -> None:
    """Give the network the weights of a file before training; None leaves the random ones.

    Raises:
        FusionInputError: as for `require_weights`.
    """
    if path is None:
        return
    state = read_weights(path, "start_from")
    _check_fit(state, network, path, "start_from")
    network.load_state_dict(state)


def with_weights(network: nn.Module, path: str | os.PathLike) -> nn.Module:
    """Give a network the weights of a file, for inference; see `require_weights`."""
    network.load_state_dict(require_weights(network, path))
    facts = {"file": str(path), "sha256": file_digest(path)}
    network.weights_file = facts  # type: ignore[assignment]
    return network.eval()


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def trained_networks(
    network: nn.Module, ckpt_path: str, runs: Sequence[str], label: str = "ClinicalFMamba"
) -> dict[str, nn.Module | dict[str, nn.Module]]:
    """Give a network its weights for an evaluation over several runs of a split.

    Args:
        network: the bare network.
        ckpt_path: file of weights; where it holds "{run}", the name of the run is put there and each run is evaluated
            with weights of its own, as is fair: a network has seen test pairs of the runs that it was not trained for.
        runs: names of the runs.
        label: name of the network in the tables.

    Returns:
        The label with the network, or with one network for each run.

    Raises:
        FusionInputError: a file is not there or does not fit.
    """
    if RUN_MARK not in str(ckpt_path):
        return {label: with_weights(network, ckpt_path)}
    names = [runs] if isinstance(runs, str) else runs
    paths = {run: str(ckpt_path).replace(RUN_MARK, run) for run in names}
    return {label: {run: with_weights(copy.deepcopy(network), path) for run, path in paths.items()}}


def shipped_networks(bundle_root: str | os.PathLike, tasks: Sequence[str]) -> dict[str, nn.Module]:
    """Build the networks of other tasks of a bundle with their shipped weights, to be evaluated beside the first.

    Args:
        bundle_root: folder of the bundle.
        tasks: its settings `task`, such as "ct_mri_published".

    Returns:
        Task -> network.

    Raises:
        FusionInputError: an unknown task, or weights that are not there.
    """
    return {task: _built(Path(bundle_root), task) for task in tasks}


def pretrained(task: str = FIRST_TASK, bundle: str | None = None) -> nn.Module:
    """Build the network of a task with its shipped weights, on the processor, ready for inference.

    Args:
        task: a task of `clinicalfmamba info --tasks`.
        bundle: "fusion_2d" or "fusion_3d"; None for the one that the task is at home in.

    Returns:
        The network: (B, 2, *spatial) in [0, 1] to (B, 1, *spatial).

    Raises:
        FusionInputError: an unknown task, or weights that are not there.

    Example:
        >>> pretrained("ct_mri")(torch.rand(1, 2, 32, 32)).shape
        torch.Size([1, 1, 32, 32])
    """
    home = find_task(task, bundle).bundles[0] if bundle is None else bundle
    find_task(task, home)
    return _built(find_bundle(home), task)


def _built(bundle_root: Path, task: str) -> nn.Module:
    """Build the network of one task of a bundle by its JSON, and give it its weights."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundle_root / "configs" / "inference.json"))
    parser.update({"task": task, "bundle_root": str(bundle_root)})
    with torch.random.fork_rng(devices=[]):  # building a network draws its first weights
        return with_weights(parser.get_parsed_content("network_def"), parser.get_parsed_content("ckpt_path"))
