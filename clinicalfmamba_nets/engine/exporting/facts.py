"""What an exported program tells of itself: task, weights, versions, and whether it needs the operators' library."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import nn

import clinicalfmamba_nets
from clinicalfmamba_nets.engine.run.tasks import find_task
from clinicalfmamba_nets.errors import input_error

FORMATS = {"ts": "TorchScript", "pt2": "torch.export", "aoti": "AOTInductor", "onnx": "ONNX"}
FACTS_FILE = "clinicalfmamba.json"
CHECKSUM = "clinicalfmamba.sha256"  # of an ONNX file: how many bytes from its start on, and their digest
OPERATORS_VERSION = 3  # CFM_OPERATORS_VERSION of ops/native/src/abi.h
NOTICE = "Research use only: not a medical device."


@dataclass(frozen=True, kw_only=True)
class ProgramFacts:
    """What is written into a program's file.

    Args:
        task: of the table of tasks, or "grading".
        bundle: the bundle whose network it is.
        format: a key of `FORMATS`.
        operators_version: of the operators that the program calls; 0 for one that needs none.
        weights_sha256: digest of the file of weights.
        input: the tensor that it takes, in words.
        output: the tensor that it returns, in words.
        smallest: least size of each spatial axis.
        version: of this package.
        torch: version that wrote it.
        processor: instruction set that it was compiled for, "" for any.
    """

    task: str
    bundle: str
    format: str
    operators_version: int
    weights_sha256: str
    input: str
    output: str
    smallest: int
    version: str = clinicalfmamba_nets.__version__
    torch: str = torch.__version__
    processor: str = ""
    notice: str = NOTICE

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=2)

    def channels_and_dims(self) -> tuple[int, int]:
        """Return how many channels and dimensions `input` names: 2 and 4 for "float32 (B, 2, H, W) in [0, 1]"."""
        ((channels, axes),) = re.findall(r"\(B, (\d+), ([A-Z, ]+)\)", self.input)
        return int(channels), 2 + len(axes.split(","))

    @classmethod
    def parse(cls, text: str, path: Path) -> ProgramFacts:
        """Read what `text` wrote.

        Raises:
            FusionInputError: the file was not written by `clinicalfmamba export`, or by one that is newer.
        """
        try:
            given = dict(json.loads(text))
            facts = cls(**{item.name: given[item.name] for item in fields(cls) if item.name in given})
            facts.channels_and_dims()
            int(facts.operators_version), int(facts.smallest)
        except (ValueError, TypeError) as error:
            expected = "a program of clinicalfmamba export"
            raise input_error(path, expected, "a file without its facts", "export it again") from error
        if facts.format not in FORMATS:
            known = f"one of the formats {', '.join(FORMATS)}"
            raise input_error(path, known, repr(facts.format), "install a newer clinicalfmamba")
        return facts


def facts_of(network: nn.Module, task: str, bundle: str, file_format: str, portable: bool) -> ProgramFacts:
    """Tell of the program that a network with weights becomes."""
    axes, smallest = _axes(network), getattr(network, "stride", 1)
    if task == "grading":
        channels = next(p.shape[1] for p in network.parameters() if p.dim() > 2)
        input_text, output = f"float32 (B, {channels}, {axes}) in [0, 1]", "float32 (B, 1): logit of high grade"
    else:
        labels = find_task(task).labels
        input_text = f"float32 (B, 2, {axes}) in [0, 1]: {labels[0]}, {labels[1]}"
        output = f"float32 (B, 1, {axes}) in [0, 1]: fused"
    uses_operators = not portable and task != "grading"
    return ProgramFacts(
        task=task,
        bundle=bundle,
        format=file_format,
        operators_version=OPERATORS_VERSION if uses_operators else 0,
        weights_sha256=getattr(network, "weights_file", {}).get("sha256", ""),
        input=input_text,
        output=output,
        smallest=smallest,
        processor=_processor() if file_format == "aoti" else "",
    )


def spatial_dims(network: nn.Module) -> int:
    """Number of spatial axes of what a network takes."""
    return next(p.dim() - 2 for p in network.parameters() if p.dim() >= 4)


def _axes(network: nn.Module) -> str:
    return ", ".join(("H", "W") if spatial_dims(network) == 2 else ("X", "Y", "Z"))


def _processor() -> str:
    return torch.backends.cpu.get_cpu_capability()
