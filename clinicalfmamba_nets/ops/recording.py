"""Whether a graph for other sizes than the present ones is being recorded."""

from __future__ import annotations

import torch

LOOPS = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 13)


def recording() -> bool:
    """Tell whether torch.jit.trace, torch.export or the ONNX exporter is watching.

    A recorded graph must not depend on the sizes of the example: code asks here before it takes a shortcut that does.
    TorchScript by script keeps the branches themselves, so it does not count.

    Returns:
        True while a graph is recorded.

    Example:
        >>> recording()
        False
    """
    if torch.jit.is_scripting():
        return False
    else:  # noqa: RET505  (TorchScript drops this branch only when it is written as one)
        return torch.jit.is_tracing() or torch.compiler.is_exporting()


def traced() -> bool:
    """Tell whether torch.jit.trace is watching, whose graph may hold loops of scripted functions.

    ONNX's older exporter traces as well, and cannot: it does not count.

    Returns:
        True while TorchScript is traced.

    Example:
        >>> traced()
        False
    """
    if torch.jit.is_scripting():
        return False
    else:  # noqa: RET505  (TorchScript drops this branch only when it is written as one)
        return torch.jit.is_tracing() and not torch.onnx.is_in_onnx_export()


def records_loops() -> bool:
    """Tell whether a graph for inference alone is recorded that holds loops: TorchScript, or one of torch.export.

    Returns:
        True while such a graph is recorded, and within TorchScript.

    Example:
        >>> records_loops()
        False
    """
    if torch.is_grad_enabled():
        return False
    if torch.jit.is_scripting():
        return True
    else:  # noqa: RET505  (TorchScript drops this branch only when it is written as one)
        return traced() or exports_loops()


def exports_loops() -> bool:
    """Tell whether torch.export is watching and can record a loop over a length that it does not know.

    It can in inference, in the versions of torch that this is tested with; ONNX knows no loop that writes into memory
    outside of it. Not to be called in TorchScript.

    Returns:
        True while such a graph is recorded.

    Example:
        >>> exports_loops()
        False
    """
    if torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
        return False
    return LOOPS and torch.compiler.is_exporting()
