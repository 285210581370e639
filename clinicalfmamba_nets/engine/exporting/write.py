"""Writes the network of a task, with its weights, as a program that runs without this package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from torch import nn

from clinicalfmamba_nets.engine.exporting.facts import FORMATS, ProgramFacts, facts_of
from clinicalfmamba_nets.engine.exporting.loading import read_facts
from clinicalfmamba_nets.engine.exporting.onnx_program import check_packages, write_onnx
from clinicalfmamba_nets.engine.exporting.torch_programs import write_aot_inductor, write_exported, write_torchscript
from clinicalfmamba_nets.engine.grading.experiment import BUNDLE, CLASSIFIER
from clinicalfmamba_nets.engine.grading.runs import IMAGE_SETTINGS, training_settings
from clinicalfmamba_nets.engine.run.overrides import check_data
from clinicalfmamba_nets.engine.run.tasks import FIRST_TASK, find_task
from clinicalfmamba_nets.engine.run.weights import pretrained, with_weights
from clinicalfmamba_nets.engine.run.workflows import find_bundle
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.files import atomic_file
from clinicalfmamba_nets.ops import native

WRITERS: dict[str, Callable[[nn.Module, ProgramFacts, Path], None]] = {
    "ts": write_torchscript,
    "pt2": write_exported,
    "aoti": write_aot_inductor,
    "onnx": write_onnx,
}
PORTABLE = ("ts", "pt2")
GRADING = "grading"


def export_program(
    task: str = FIRST_TASK,
    file_format: str = "ts",
    path: str | os.PathLike = "model.ts",
    bundle: str | None = None,
    portable: bool = False,
) -> Path:
    """Write the program of a fusion task.

    Args:
        task: a task of `clinicalfmamba info --tasks`.
        file_format: "ts", "pt2", "aoti" or "onnx".
        path: the file.
        bundle: "fusion_2d" or "fusion_3d"; None for the one that the task is at home in.
        portable: use torch's own operations alone: slower, for hosts that cannot load the operators' library.

    Returns:
        The path.

    Raises:
        FusionInputError: an unknown task or format, no weights, a package or a compiler that is missing, another file
            in the place of the program.
    """
    check_format(file_format, portable)
    home = bundle or find_task(task).bundles[0]
    return export_network(pretrained(task, home), task, home, file_format, path, portable)


def export_grading(model_dir: str | os.PathLike, file_format: str, path: str | os.PathLike) -> Path:
    """Write the program of a trained classifier of gliomas, which is made of torch's own operations alone.

    Args:
        model_dir: folder of its training.
        file_format: see `export_program`.
        path: the file.

    Raises:
        FusionInputError: no trained weights; see also `export_program`.
    """
    check_format(file_format)
    return export_network(grading_network(model_dir), GRADING, BUNDLE, file_format, path)


def grading_network(model_dir: str | os.PathLike) -> nn.Module:
    """Build the classifier of a training with its weights.

    Raises:
        FusionInputError: no trained weights.
    """
    from monai.bundle import ConfigParser

    weights = Path(model_dir) / "model.pt"
    trained = training_settings(weights)
    parser = ConfigParser()
    parser.read_config(str(find_bundle(BUNDLE) / "configs" / "inference.json"))
    parser.update(check_data({key: trained[key] for key in (*IMAGE_SETTINGS, *CLASSIFIER) if key in trained}))
    return with_weights(parser.get_parsed_content("network_def"), weights)


def check_format(file_format: str, portable: bool = False) -> None:
    """Refuse what cannot be written here, before anything is loaded.

    Raises:
        FusionInputError: no such format, no portable form of it, or a package that is missing.
    """
    if file_format not in FORMATS:
        raise input_error("format", f"one of {', '.join(FORMATS)}", repr(file_format), "choose one of these")
    if portable and file_format not in PORTABLE:
        remedy = "leave it out: the file runs without the library too" if file_format == "onnx" else "choose ts or pt2"
        raise input_error(f"format {file_format}", "no portable form", "--portable", remedy)
    if file_format == "onnx":
        check_packages()


def export_network(
    network: nn.Module, task: str, bundle: str, file_format: str, path: str | os.PathLike, portable: bool = False
) -> Path:
    """Write the program of a network that has its weights, in the place of an earlier one; see `export_program`."""
    check_format(file_format, portable)
    _check_free(Path(path))
    facts = facts_of(network, task, bundle, file_format, portable)
    with atomic_file(path) as partial:
        WRITERS[file_format](network.eval(), facts, partial)
    return Path(path)


def _check_free(path: Path) -> None:
    """Refuse to write over what is no program, such as the weights that are exported."""
    if not path.exists() or not path.stat().st_size:
        return
    try:
        read_facts(path)
    except FusionInputError as error:
        raise input_error(path, "a free name, or an earlier program", "another file", "name another") from error


def copy_library(folder: str | os.PathLike, host: str = "torch") -> Path:
    """Copy the operators' library for torch, or for ``onnxruntime``, to a folder, under a name without a version.

    Raises:
        FusionInputError: it is not here.
    """
    if not native.available():
        raise input_error("export", "the operators' library", native.reason(), "install a C++ compiler")
    target = Path(folder) / f"libclinicalfmamba_{host}.so"
    with atomic_file(target) as partial:
        shutil.copyfile(native.library_path(host), partial)
    return target
