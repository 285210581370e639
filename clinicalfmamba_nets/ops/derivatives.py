"""Which derivatives the kernels do not have, and where those come from instead: the same scan in plain operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def beyond_kernels(*tensors: Tensor | None) -> str:
    """Name what is asked of an operator that its kernel would leave out without a word.

    Args:
        tensors: arguments of the operator; None is passed over.

    Returns:
        ``the transforms of torch.func`` inside grad, vmap, jvp and the like; ``forward-mode derivatives`` where a
        tensor has a tangent; empty elsewhere.

    Example:
        >>> beyond_kernels(torch.ones(2)), torch.func.vmap(lambda x: x + len(beyond_kernels(x)))(torch.zeros(2))
        ('', tensor([28., 28.]))
    """
    if torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling():
        return ""  # behind the compiler's eyes: it has asked here before
    if _in_transform():
        return "the transforms of torch.func"
    if torch.compiler.is_compiling():
        return ""
    if forward_ad._current_level >= 0 and any(t is not None and _has_tangent(t) for t in tensors):
        return "forward-mode derivatives"
    return ""


def refuse_beyond_kernels(operator: str, *tensors: Tensor | None) -> None:
    """Refuse to call a kernel where a derivative would be lost.

    Raises:
        RuntimeError: the message names the remedy.
    """
    asked = beyond_kernels(*tensors)
    if asked:
        raise RuntimeError(f"{operator}: the kernels do not know {asked}: use scan_backend('torch') or 'auto'")


def gradients_to_differentiate(
    function: Callable[..., Any], tensors: Sequence[Tensor | None], gradients: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Gradients of a function that have derivatives themselves (``create_graph=True``).

    Args:
        function: the operator in plain operations, of all tensors; returns a tensor or a tuple of tensors.
        tensors: its arguments, with their history.
        gradients: of its results; None for a result without one.

    Returns:
        The gradient of each tensor; None where it has none.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> (slope,) = gradients_to_differentiate(lambda x: x**3, [x], [torch.ones(1)])
        >>> torch.autograd.grad(slope, x)[0]
        tensor([18.])
    """
    # A name of its own for each argument: where one is computed from another, each counts once.
    own = [t if t is None or not t.requires_grad else t.view_as(t) for t in tensors]
    results = function(*own)
    results = results if isinstance(results, tuple) else (results,)
    pairs = [(y, g) for y, g in zip(results, gradients, strict=True) if g is not None and y.requires_grad]
    wanted = [t for t in own if t is not None and t.requires_grad]
    outputs, given = [y for y, _ in pairs], [g.to(y.dtype) for y, g in pairs]
    found = iter(torch.autograd.grad(outputs, wanted, given, create_graph=True, allow_unused=True))
    return [next(found) if t is not None and t.requires_grad else None for t in own]


def _has_tangent(x: Tensor) -> bool:
    return forward_ad.unpack_dual(x).tangent is not None


def _transformed() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


def _unknown() -> bool:
    return False


_transformed._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result

# Private to torch: a version without the question has no such transforms either.
_in_transform = _transformed if hasattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack") else _unknown
