"""Fills the plain structs of ``src/abi.h`` and calls the kernels."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.native import loader

_ERRORS = {
    1: "the number of states or taps is not one of those compiled",
    2: "out of memory",
    3: "order: each row must be a permutation of the token numbers 0 to L - 1",
    4: "this library was built for another processor",
    5: "maps: their channels must be multiples of 16",
    6: "mix: its sides must be multiples of 8, and at least 16",
}
_SIZES = {"cfm_scan": 112, "cfm_conv": 26, "cfm_gate": 20, "cfm_maps": 21, "cfm_mix_": 19}  # fields of each struct
NO_STRIDES = (0, 0, 0, 0, 0)
NO_STEPS = (0,) * 9  # rank, address, strides and weights of time steps of low rank


def call(function: str, fields: Sequence[int]) -> None:
    """Call a kernel with the fields of its struct, all of them 64 bits wide.

    Args:
        function: name in the library.
        fields: sizes, strides and addresses in the order of the struct; those left out at the end are zero.

    Raises:
        RuntimeError: the kernels are not there, or the kernel refused its arguments.
    """
    library = loader.load()
    if library is None:
        raise RuntimeError(f"the native kernels are not available: {loader.reason()}; use the torch backend")
    struct = array("q", fields)
    struct.extend([0] * (_SIZES[function[:8]] - len(struct)))
    code = getattr(library, function)(struct.buffer_info()[0])
    if code:
        raise RuntimeError(f"{function}: {_ERRORS.get(code, f'error {code}')}")


def address(x: Tensor | None) -> int:
    """Address of the first element; 0 for None.

    Raises:
        ValueError: the tensor is on another device, whose memory the kernels cannot read.
    """
    if x is None:
        return 0
    if not x.is_cpu:
        raise ValueError(f"expected all tensors on cpu, found one on {x.device}; move them to one device")
    return x.data_ptr()


def token_strides(x: Tensor) -> tuple[int, ...]:
    """Strides of a token-major tensor (S, B, L, D), with a zero in the place of the direction."""
    s, b, token, channel = x.stride()
    return s, 0, b, token, channel


def rows(x: Tensor) -> Tensor:
    """The tensor itself where the numbers of a token are next to each other in memory, else a copy."""
    return x if x.stride(-1) == 1 else x.contiguous()


def dense_order(order: Tensor) -> Tensor:
    """An order as the kernels read it: int64 and contiguous."""
    return order if order.dtype == torch.int64 and order.is_contiguous() else order.long().contiguous()


def threads() -> int:
    """How many threads the kernels may use: as many as torch's own operations."""
    return torch.get_num_threads()


def tiles(length: int) -> tuple[int, int]:
    """Number of token tiles in a sequence, and channels per vector of the library in use."""
    library = loader.load()
    if library is None:
        return -(-length // 16), 16
    tile = library.cfm_tile_tokens()
    return -(-length // tile), library.cfm_vector_width()
