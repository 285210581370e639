"""Exported programs, loaded: whatever their form, a function of a tensor."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.engine.exporting.facts import CHECKSUM, FACTS_FILE, FORMATS, OPERATORS_VERSION, ProgramFacts
from clinicalfmamba_nets.engine.run.weights import damaged_part
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.functional.layout import plain_tensor
from clinicalfmamba_nets.functional.ranges import InputCheck
from clinicalfmamba_nets.ops import native


@dataclass(frozen=True)
class Program:
    """A program that was loaded.

    Args:
        facts: what its file tells.
        run: from the input to the output.
        check: warns once of values that are not in [0, 1].
    """

    facts: ProgramFacts
    run: Callable[[Tensor], Tensor]
    check: InputCheck = field(default_factory=InputCheck, compare=False)

    def __call__(self, image: Tensor) -> Tensor:
        """Run the program.

        Args:
            image: as `facts.input` says, on the processor; values outside [0, 1] warn once.

        Raises:
            FusionInputError: no tensor, another type or shape, or a size below the smallest.
        """
        if not isinstance(image, Tensor):
            raise input_error("image", "a tensor", f"a {type(image).__name__}", "convert it by torch.as_tensor")
        if image.dtype != torch.float32 or image.device.type != "cpu":
            found = f"{image.dtype} on {image.device}".replace("torch.", "")
            raise input_error("image", "float32 on the processor", found, "convert it")
        channels, dims = self.facts.channels_and_dims()
        if image.dim() != dims or image.shape[1] != channels or not image.numel():
            # a recorded program may take three channels for two images
            raise input_error("image", self.facts.input, f"shape {tuple(image.shape)}", "give a batch of that shape")
        image = plain_tensor(image).detach().resolve_neg()
        self.check(image)
        if min(image.shape[2:], default=0) < self.facts.smallest:
            smallest = f"sizes of {self.facts.smallest} or more"
            raise input_error("image", smallest, str(tuple(image.shape)), "give a larger image")
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return self.run(image)


def read_facts(path: str | os.PathLike) -> ProgramFacts:
    """Tell what an exported program is, without loading it.

    Raises:
        FusionInputError: no path, no such file, or not one of `clinicalfmamba export`.
    """
    file = _program_file(path)
    return ProgramFacts.parse(_zipped_facts(file) if zipfile.is_zipfile(file) else _onnx_facts(file), file)


def _program_file(path: Any) -> Path:
    """Return the path of a program that is there."""
    if not isinstance(path, str | os.PathLike):
        remedy = "give its path; one that is loaded is called as it is"
        raise input_error("program", "the path of an exported program", f"{path!r:.40}", remedy)
    file = Path(path)
    if not file.is_file():
        raise input_error(file, "an exported program", "no such file", "write one: clinicalfmamba export")
    return file


def _refuse_damaged(file: Path, part: str) -> None:
    if part:
        raise input_error(file, "a whole program", f"{part} damaged", "copy the file again, or export it again")


def _zipped_facts(file: Path) -> str:
    """The facts within TorchScript, torch.export and AOTInductor files, which are archives."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith(f"extra/{FACTS_FILE}"):
                    return archive.read(name).decode()
                if name.endswith("_metadata.json") and FACTS_FILE in (found := json.loads(archive.read(name))):
                    return str(found[FACTS_FILE])
    except Exception as error:  # of a damaged archive, whatever a changed byte reads as
        raise input_error(file, "an exported program", f"a damaged one ({error})", "export it again") from error
    return ""


def _onnx_facts(file: Path) -> str:
    try:
        import onnx

        model = onnx.load(file, load_external_data=False)
    except ImportError:
        raise input_error(file, "the package onnx to read it", "none", "pip install onnx onnxruntime") from None
    except Exception as error:
        raise input_error(file, "an exported program", "another kind of file", "export it again") from error
    return next((item.value for item in model.metadata_props if item.key == FACTS_FILE), "")


def load_program(path: str | os.PathLike) -> Program:
    """Load a program that `clinicalfmamba export` has written.

    Args:
        path: the file, of any format.

    Returns:
        The program; it takes every batch and size.

    Raises:
        FusionInputError: no path, another or a damaged file, operators of another version, no library of operators,
            another processor.

    Example:
        >>> from clinicalfmamba_nets.engine.exporting.write import export_program
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> path = export_program("ct_mri", "ts", f"{folder}/ct_mri.ts")
        >>> load_program(path)(torch.rand(1, 2, 40, 50)).shape
        torch.Size([1, 1, 40, 50])
    """
    file = _program_file(path)
    _refuse_damaged(file, damaged_part(file))
    facts = read_facts(file)
    if facts.operators_version > OPERATORS_VERSION:
        expected = f"operators of version {OPERATORS_VERSION} or earlier"
        raise input_error(file, expected, f"version {facts.operators_version}", "install a newer clinicalfmamba")
    if facts.operators_version and facts.format != "onnx" and not native.available():
        raise input_error(file, "the operators' library", native.reason(), "load a portable program")
    try:
        return Program(facts, _LOADERS[facts.format](file, facts))
    except FusionInputError:
        raise
    except Exception as error:
        found = " ".join(str(error).split())[:160] or type(error).__name__
        raise input_error(
            file, f"a program in the form of {FORMATS[facts.format]}", found, "export it again"
        ) from error


def _load_torchscript(file: Path, facts: ProgramFacts) -> Callable[[Tensor], Tensor]:
    return torch.jit.load(str(file))


def _load_exported(file: Path, facts: ProgramFacts) -> Callable[[Tensor], Tensor]:
    """Without the conditions that torch kept in files of version 0.2.0: they refuse a single pair."""
    program = torch.export.load(str(file))
    guarded = "check_guards" in inspect.signature(program.module).parameters  # since torch 2.9
    return program.module(check_guards=False) if guarded else program.module()


def _load_aot_inductor(file: Path, facts: ProgramFacts) -> Callable[[Tensor], Tensor]:
    capability = torch.backends.cpu.get_cpu_capability()
    if facts.processor != capability:
        raise input_error(file, f"a processor with {facts.processor}", capability, "export the program on this machine")
    package = torch._inductor.aoti_load_package(str(file))
    return lambda image: _one(package(image.contiguous()))


def _one(result: Any) -> Tensor:
    return result[0] if isinstance(result, list | tuple) else result


def _load_onnx(file: Path, facts: ProgramFacts) -> Callable[[Tensor], Tensor]:
    """A session of ONNX Runtime with the operators' library, or with the model's own functions where it is not here."""
    try:
        import onnxruntime
    except ImportError:
        raise input_error(file, "the package onnxruntime", "none", "pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    if facts.operators_version and native.available():
        options.register_custom_ops_library(str(native.library_path("onnxruntime")))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    size, _, digest = session.get_modelmeta().custom_metadata_map.get(CHECKSUM, "").partition(" ")
    if digest and hashlib.sha256(file.read_bytes()[: int(size)]).hexdigest() != digest:  # 0.2.0 wrote none
        _refuse_damaged(file, "its graph or weights")
    name = session.get_inputs()[0].name
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])


_LOADERS: dict[str, Callable[[Path, ProgramFacts], Callable[[Tensor], Tensor]]] = {
    "ts": _load_torchscript,
    "pt2": _load_exported,
    "aoti": _load_aot_inductor,
    "onnx": _load_onnx,
}
