"""Tensors that a backward pass computes again instead of finding them in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor


class Recomputed:
    """A tensor that is computed when it is first asked for, and kept until all who need it have asked.

    Args:
        compute: returns the tensor, without gradient.
        uses: how many times it is asked for in one backward pass.

    Example:
        >>> ones = Recomputed(lambda: torch.ones(2), uses=2)
        >>> ones() is ones()
        True
    """

    def __init__(self, compute: Callable[[], Tensor], uses: int = 1) -> None:
        self.compute, self.uses, self.left = compute, uses, uses
        self.value: Tensor | None = None

    def __call__(self) -> Tensor:
        """Return the tensor."""
        value = self.compute() if self.value is None else self.value
        self.left -= 1
        self.value = value if self.left > 0 else None
        if self.left == 0:
            self.left = self.uses
        return value


def recompute(*tensors: tuple[Tensor, Recomputed]) -> AbstractContextManager:
    """Make the operations within the context keep a way to compute these tensors for their gradients, not the tensors.

    Unlike a checkpoint, which runs a whole function again, this runs only what the tensors come from. Views and copies
    of the tensors are kept as usual.

    Args:
        tensors: each with how it is computed again.

    Example:
        >>> x, w = torch.ones(2), torch.ones(2, requires_grad=True)
        >>> y = x * 3
        >>> with recompute((y, Recomputed(lambda: x * 3))):
        ...     total = (y * w).sum()
        >>> torch.autograd.grad(total, w)[0].tolist()
        [3.0, 3.0]
    """
    known = [(tensor.data_ptr(), tensor.shape, again) for tensor, again in tensors]

    def pack(saved: Tensor) -> Tensor | Recomputed:
        address, shape = saved.data_ptr(), saved.shape
        return next((again for at, size, again in known if at == address and size == shape), saved)

    def unpack(packed: Tensor | Recomputed) -> Tensor:
        return packed if isinstance(packed, Tensor) else packed()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
