"""The operators that exported programs call, ``torch.ops.clinicalfmamba``: what Python adds to those of the library.

The library owns their names and kernels, so that a host without this package has them (``src/hosts/torch_ops.cpp``).
Python adds derivatives and the shapes of results; the rest too where a torch before 2.8 cannot take it from a library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

NAMESPACE = "clinicalfmamba"


@dataclass(frozen=True)
class Operator:
    """One operator.

    Args:
        name: within the namespace.
        schema: arguments and results, as in the library.
        kernel: computes the results, for float32 on a CPU.
        shapes: returns results of the right shape and type without computing.
        differentiable: does everything that must happen before the kernel.
    """

    name: str
    schema: str
    kernel: Callable[..., Any]
    shapes: Callable[..., Any]
    differentiable: Callable[..., Any]


_operators: list[Operator] = []
_library = torch.library.Library(NAMESPACE, "FRAGMENT")


def register(operator: Operator) -> None:
    """Note an operator, to be completed once the library is loaded."""
    _operators.append(operator)


def complete_operators() -> None:
    """Complete all operators that are not complete yet; to be called after the library was loaded."""
    while _operators:
        operator = _operators.pop(0)
        name = f"{NAMESPACE}::{operator.name}"
        if not torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU"):
            _library.define(f"{operator.name}{operator.schema}")
            _library.impl(operator.name, operator.kernel, "CPU")
        torch.library.register_fake(name, operator.shapes, lib=_library)
        _library.impl(operator.name, operator.differentiable, "Autograd")


def below_autograd(operator: Any, *arguments: Any) -> Any:
    """Call an operator without derivatives."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)
