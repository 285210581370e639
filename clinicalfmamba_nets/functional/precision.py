"""The precision of losses and metrics, which differ by what half precision rounds away."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute in the type of its images where it is called within `torch.autocast`.

    Variances are differences of nearly equal numbers: rounded to bfloat16, the gradient of SSIM is wrong by its own
    size, and that of the visual information fidelity by several times that.

    Args:
        function: of tensors, the first of which tells the device.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     without_autocast(torch.matmul)(torch.ones(2, 2), torch.ones(2, 2)).dtype
        torch.float32
    """

    @wraps(function)
    def exact(*args: P.args, **options: P.kwargs) -> R:
        kind = next((x.device.type for x in (*args, *options.values()) if isinstance(x, Tensor)), "cpu")
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return function(*args, **options)
        with torch.autocast(kind, enabled=False):
            return function(*args, **options)

    return exact
