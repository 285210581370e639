"""When a kernel may be called at once, past torch's dispatcher, which costs a short scan a quarter of its time."""

from __future__ import annotations

import torch
from torch import Tensor

_PLAIN = (Tensor, torch.nn.Parameter)
_BATCHED = torch._C._dispatch_key_parse("Batched")


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether tensors hold real numbers, as they are read, and nobody is recording what happens to them.

    Args:
        tensors: arguments of an operator; None is passed over.

    Returns:
        False under tracing, export, compilation, a dispatch mode or a functional transform, for a subclass of
        tensor, and for one whose memory tells something else than its numbers (the negative of another tensor, zeros
        without memory): there the registered operators must be seen.

    Example:
        >>> is_plain(torch.ones(2), None)
        True
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or _is_watched():
        return False
    return all(t is None or (type(t) in _PLAIN and not t.is_neg() and not t._is_zerotensor()) for t in tensors)


def is_plain_gradient(*tensors: Tensor | None) -> bool:
    """As :func:`is_plain` for what a backward pass is given: a batch of gradients under ``is_grads_batched=True``.

    Example:
        >>> is_plain_gradient(torch.ones(2), None)
        True
    """
    return is_plain(*tensors) and not any(t is not None and _is_batched(t) for t in tensors)


def _is_batched(x: Tensor) -> bool:
    return torch._C._dispatch_keys(x).has(_BATCHED)


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may come for any of the tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _watched_unknown() -> bool:
    return True


def _watched() -> bool:
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._functorch.peek_interpreter_stack() is not None


# The two questions are private to torch: where a version does not have them, every call takes the long way.
_HAS_QUESTIONS = hasattr(torch._C, "_len_torch_dispatch_stack") and hasattr(
    getattr(torch._C, "_functorch", None), "peek_interpreter_stack"
)
_is_watched = _watched if _HAS_QUESTIONS else _watched_unknown
