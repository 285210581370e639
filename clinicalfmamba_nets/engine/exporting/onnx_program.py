"""ONNX form of a network: operators of an own domain, each with a function that stands in for it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clinicalfmamba_nets.engine.exporting.facts import CHECKSUM, FACTS_FILE, ProgramFacts
from clinicalfmamba_nets.engine.exporting.onnx_functions import CONVOLUTIONS, DOMAIN, fallback_functions
from clinicalfmamba_nets.engine.exporting.torch_programs import exported_program, recorded
from clinicalfmamba_nets.errors import input_error

INPUT, OUTPUT = "image", "pred"
_MAPS = ("x", "weight", "bias", "before", "after")
_MAPS_ATTRIBUTES = ("dilation", "scale", "fast", "dilations", "pads", "slope", "slope_after")
# Operator: inputs (an "order" is int64, all others float32), number of results, attributes.
_OPERATORS: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "permuted_conv1d_silu": (("x", "weight", "bias", "x_proj", "order"), 2, ()),
    "permuted_selective_scan": (("u", "projected", "dt_weight", "A", "D", "delta_bias", "order"), 1, ()),
    "gate": (("y", "z"), 1, ("divisor",)),
    "gated_norm": (("y", "z", "weight", "bias"), 1, ("divisor",)),
    **{
        f"{conv}{ending}": ((*_MAPS, *other), 1, _MAPS_ATTRIBUTES)
        for conv in CONVOLUTIONS
        for ending, other in (("", ()), ("_upsampled", ()), ("_times", ("times",)), ("_plus", ("plus",)))
    },
}


def check_packages() -> None:
    """Refuse where the packages are missing that write ONNX files.

    Raises:
        FusionInputError: they are not installed.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        found = f"no package {missing[0]}"
        raise input_error("export --format onnx", "onnx and onnxscript", found, "pip install onnx onnxscript")


def write_onnx(network: nn.Module, facts: ProgramFacts, path: Path) -> None:
    """Write an ONNX file that runs with the operators' library, and without it by functions.

    Raises:
        FusionInputError: the packages of ONNX are not installed.
    """
    check_packages()
    import onnx

    program = exported_program(network, facts)
    table = _translations() if facts.operators_version else {}
    with recorded(facts), quiet_exporter(), tempfile.TemporaryDirectory() as folder:
        made = torch.onnx.export(
            program, dynamo=True, custom_translation_table=table, input_names=[INPUT], output_names=[OUTPUT]
        )
        whole = Path(folder, "program.onnx")
        made.save(str(whole), external_data=False)  # type: ignore[union-attr]
        model = onnx.load(whole)
    if facts.operators_version:
        _add_functions(model)
    save_with_facts(model, facts, path)


def save_with_facts(model: Any, facts: ProgramFacts, path: Path) -> None:
    """Write an ONNX model with what it tells of itself and a checksum of its graph and weights."""
    import onnx

    for key, value in ((FACTS_FILE, facts.text()), (CHECKSUM, _checksum(model))):
        item = model.metadata_props.add()
        item.key, item.value = key, value
    onnx.save(model, path)


def _checksum(model: Any) -> str:
    """Tell how many bytes a model's graph and weights take at the start of its file, and their SHA-256.

    Protocol buffers are written by the numbers of their fields: metadata and functions come last.
    """
    start = type(model)()
    start.CopyFrom(model)
    start.ClearField("metadata_props")
    start.ClearField("functions")
    content = start.SerializeToString()
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}"


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep back torch's progress, and its warnings of operators of torchvision, which no network here has."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        registry.setLevel(level)


def _add_functions(model: Any) -> None:
    """Put the functions into a model, which then runs without the library."""
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    del model.functions[:]
    model.functions.extend(fallback_functions(opset))
    if DOMAIN not in [entry.domain for entry in model.opset_import]:
        own = model.opset_import.add()
        own.domain, own.version = DOMAIN, 1


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What torch's exporter writes for each operator."""
    own = {name: _onnx_operator(name) for name in _OPERATORS}
    operators = torch.ops.clinicalfmamba

    def gated_norm(y: Any, z: Any, weight: Any, bias: Any, divisor: float) -> Any:
        if weight is None or bias is None:
            return own["gate"](y, z, divisor=divisor)
        return own["gated_norm"](y, z, weight, bias, divisor=divisor)

    return {
        operators.permuted_conv1d_silu.default: lambda *tensors: own["permuted_conv1d_silu"](*tensors),
        operators.permuted_selective_scan.default: lambda *tensors: own["permuted_selective_scan"](*tensors),
        operators.gated_norm.default: gated_norm,
        operators.conv3x3.default: lambda *arguments: _conv3x3(own, arguments[:7], arguments[7:]),
    }


def _conv3x3(own: dict[str, Callable[..., Any]], tensors: Sequence[Any], settings: Sequence[Any]) -> Any:
    """The operator of the name that its inputs ask for; a scale of 1 and an offset of 0 stand for none."""
    from onnxscript import opset18

    op: Any = opset18
    x, weight, bias, before, after, times, plus = tensors
    dilation, scale, fast, slope, slope_after = settings
    conv, dims = next((name, dims) for name, dims in CONVOLUTIONS.items() if dims == len(weight.shape) - 2)

    def nothing(zeros: Any) -> Any:
        first = op.Constant(value_ints=[0])
        ones = op.Add(zeros, op.Constant(value_float=1.0))
        return op.Concat(op.Unsqueeze(ones, first), op.Unsqueeze(zeros, first), axis=0)

    if before is None:
        axes = op.Constant(value_ints=[0, *range(2, 2 + dims)])
        before = nothing(op.ReduceSum(op.Sub(weight, weight), axes, keepdims=0))
    if after is None:
        after, slope_after = nothing(op.Sub(bias, bias)), 1.0
    options: dict[str, Any] = {"dilation": dilation, "scale": scale, "fast": int(fast)}
    options |= {
        "dilations": [dilation] * dims,
        "pads": [dilation] * 2 * dims,
        "slope": slope,
        "slope_after": slope_after,
    }
    given = x, weight, bias, before, after
    if times is not None:
        return own[f"{conv}_times"](*given, times, **options)
    if plus is not None:
        return own[f"{conv}_plus"](*given, plus, **options)
    return own[f"{conv}_upsampled" if scale == 2 else conv](*given, **options)


def _onnx_operator(name: str) -> Callable[..., Any]:
    """An operator of the own domain as the exporter calls it."""
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset

    inputs, results, names = _OPERATORS[name]
    types = {word: "tensor(int64)" if word == "order" else "tensor(float)" for word in inputs}
    kinds = {"divisor": "FLOAT", "slope": "FLOAT", "slope_after": "FLOAT", "dilations": "INTS", "pads": "INTS"}
    attributes = [OpSchema.Attribute(word, getattr(OpSchema.AttrType, kinds.get(word, "INT")), "") for word in names]
    schema = OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[OpSchema.FormalParameter(word, kind) for word, kind in types.items()],
        outputs=[OpSchema.FormalParameter(f"result{number}", "tensor(float)") for number in range(results)],
        attributes=attributes,
    )
    return Op(Opset(DOMAIN, 1), name, schema)
