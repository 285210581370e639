"""Whether a graph for other sizes than the present ones is being recorded."""

from __future__ import annotations

import torch


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
