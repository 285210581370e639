"""TorchScript, torch.export and AOTInductor forms of a network, for images of every size and batches of any length."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clinicalfmamba_nets.engine.exporting.facts import FACTS_FILE, ProgramFacts, spatial_dims
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.ops import native, scan_backend

# Sizes of the example, no two of them alike, so that no axis is taken for another.
EXAMPLE = {2: (2, 2, 80, 96), 3: (2, 2, 24, 32, 40)}


def example_of(network: nn.Module, facts: ProgramFacts) -> torch.Tensor:
    """A batch of two images to record a network with."""
    batch, _, *sizes = EXAMPLE[spatial_dims(network)]
    channels = next(p.shape[1] for p in network.parameters() if p.dim() > 2) if facts.task == "grading" else 2
    return torch.rand(batch, channels, *sizes, generator=torch.Generator().manual_seed(0))


@contextlib.contextmanager
def recorded(facts: ProgramFacts) -> Iterator[None]:
    """What a network is recorded under: no gradients, and the operators or the portable scan.

    Raises:
        FusionInputError: the operators' library is not here.
    """
    if facts.operators_version and not native.available():
        raise input_error("export", "the operators' library", native.reason(), "add --portable")
    with torch.no_grad(), scan_backend("native" if facts.operators_version else "torch"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_torchscript(network: nn.Module, facts: ProgramFacts, path: Path) -> None:
    """Write a TorchScript file: recorded with the operators, compiled from the source where it is portable."""
    with recorded(facts):
        if facts.operators_version or facts.task == "grading":
            program = torch.jit.trace(network, example_of(network, facts), check_trace=False)
        else:
            program = torch.jit.script(network)
            program = torch.jit.freeze(program.eval())
        torch.jit.save(program, str(path), _extra_files={FACTS_FILE: facts.text()})


def exported_program(network: nn.Module, facts: ProgramFacts) -> torch.export.ExportedProgram:
    """Record a network by torch.export, with a dynamic batch and dynamic sizes.

    Its weights take no gradients from here on: torch refuses a loop that writes into memory where any are recorded.
    """
    network.requires_grad_(False)
    example = example_of(network, facts)
    anything = torch.export.Dim.AUTO
    shapes = {0: anything, **{axis: anything for axis in range(2, example.dim())}}
    with recorded(facts):
        return torch.export.export(network, (example,), dynamic_shapes=(shapes,), strict=False)


def write_exported(network: nn.Module, facts: ProgramFacts, path: Path) -> None:
    """Write a file of torch.export, without the conditions that torch recorded with two pairs: they refuse one."""
    program = exported_program(network, facts)
    program._guards_code = []
    with open(path, "wb") as file:  # of a name without .pt2 torch warns
        torch.export.save(program, file, extra_files={FACTS_FILE: facts.text()})


def write_aot_inductor(network: nn.Module, facts: ProgramFacts, path: Path) -> None:
    """Compile a network ahead of time into a package for this kind of processor.

    Raises:
        FusionInputError: there is no C++ compiler.
    """
    from clinicalfmamba_nets.ops.native import build

    try:
        build.find_compiler()
    except build.BuildError as error:
        raise input_error("export --format aoti", "a C++ compiler", str(error), "install g++, or export ts") from None
    program = exported_program(network, facts)
    settings: dict[str, Any] = {"aot_inductor.metadata": {FACTS_FILE: facts.text()}}
    threads = torch.get_num_threads()
    with recorded(facts), tempfile.TemporaryDirectory() as folder:
        package = str(Path(folder, "program.pt2"))
        try:
            torch.set_num_threads(max(2, threads))  # code that is compiled with one thread never uses more
            torch._inductor.aoti_compile_and_package(program, package_path=package, inductor_configs=settings)
        finally:
            torch.set_num_threads(threads)
        shutil.copyfile(package, path)
