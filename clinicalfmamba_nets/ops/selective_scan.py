"""The selective scan under its public name, in the layout of mamba-ssm's ``selective_scan_fn``."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.ops.backends import resolve_backend
from clinicalfmamba_nets.ops.cuda import selective_scan_cuda
from clinicalfmamba_nets.ops.native.scan_ops import selective_scan as selective_scan_native
from clinicalfmamba_nets.ops.plain import not_rounded, selective_scan_plain, widened
from clinicalfmamba_nets.ops.reference import selective_scan_reference


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t + D u_t, gated by SiLU(z).

    Source: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752, equation 2.
    Same arguments and meaning as mamba-ssm's ``selective_scan_fn``, with any real dtype on any device. float16 and
    bfloat16 are scanned in float32. Where derivatives are asked for that the kernels do not have (forward mode, the
    transforms of ``torch.func``, gradients of gradients), the torch form runs. What overflows its type is infinite, and
    NaN from there on, in that channel; the AVX-512 kernels give NaN for products delta A beyond 1e15 already.

    Args:
        u: input, (B, D, L).
        delta: time steps, (B, D, L).
        A: decay rates, (D, N), negative.
        B: input projections, (B, N, L), or (B, G, N, L) shared by D / G channels each.
        C: output projections, of the shape of ``B``.
        D: skip weights, (D,).
        z: gate, (B, D, L).
        delta_bias: added to ``delta``, (D,).
        delta_softplus: apply softplus to ``delta + delta_bias``.
        return_last_state: also return the state after the last token.
        backend: ``auto``, ``cuda``, ``native``, ``torch`` or ``reference``; see :func:`backend_report`.

    Returns:
        y (B, D, L), of the dtype of ``u``, or float32 where ``u`` is of half precision (on CUDA of the dtype of ``u``):
        rounding y would cost its gradients 2 %. With ``return_last_state`` also the state (B, D, N).

    Raises:
        ValueError: shapes, types or devices that do not fit together, or an unknown backend.
        RuntimeError: the backend asked for cannot run here.

    Example:
        >>> import torch
        >>> x = torch.rand(1, 4, 10)
        >>> selective_scan(x, x, -torch.ones(4, 8), torch.rand(1, 8, 10), torch.rand(1, 8, 10), backend="torch").shape
        torch.Size([1, 4, 10])
    """
    _check_shapes(u, delta, A, B, C, D, z, delta_bias)
    tensors = u, delta, A, B, C, D, z, delta_bias
    name = resolve_backend(u, A.shape[1], backend, tensors)
    if name == "cuda":
        y, last = selective_scan_cuda(*tensors, delta_softplus)
        return (y, last) if return_last_state else y
    wide = [x if x is None else widened(x) for x in tensors]
    run: Any = {"reference": selective_scan_reference, "native": selective_scan_native}.get(name, selective_scan_plain)
    if name == "native":
        y, last = run(*wide, delta_softplus, return_last_state)
    else:
        with not_rounded(u):
            y, last = run(*_of_one_type(wide), delta_softplus)
    own = widened(u).dtype  # float64 weights of float32 sequences give float64
    return (y.to(own), last.to(own)) if return_last_state else y.to(own)


def _of_one_type(tensors: list[Tensor | None]) -> list[Tensor | None]:
    """The tensors in the type that holds the numbers of all."""
    given = [x for x in tensors if x is not None]
    wide = functools.reduce(torch.promote_types, (x.dtype for x in given))
    return [x if x is None else x.to(wide) for x in tensors]


def _check_shapes(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    needed = {"u": u, "delta": delta, "A": A, "B": B, "C": C}
    for name, given in {**needed, "D": D, "z": z, "delta_bias": delta_bias}.items():
        if given is not None or name in needed:
            _check_tensor(name, given, u)
    if not u.is_floating_point():  # the result has its type
        raise ValueError(f"u: expected a floating-point type, found {u.dtype}")
    for name, p in (("delta", delta), ("A", A), ("B", B), ("C", C), ("D", D), ("z", z), ("delta_bias", delta_bias)):
        if p is not None and p.is_complex():
            raise ValueError(f"{name}: expected real numbers, found {p.dtype}")
    if u.dim() != 3 or u.shape[2] < 1:
        raise ValueError(f"u: expected (B, D, L) with L >= 1, found {tuple(u.shape)}")
    batch, channels, length = u.shape
    if A.dim() != 2 or A.shape[0] != channels:
        raise ValueError(f"A: expected (D, N) with D {channels}, found {tuple(A.shape)}")
    states = A.shape[1]
    for name, p in (("B", B), ("C", C)):
        groups = p.shape[1] if p.dim() == 4 else 1
        shape = (batch, states, length) if p.dim() == 3 else (batch, groups, states, length)
        if p.shape != shape or groups < 1 or channels % groups:
            raise ValueError(
                f"{name}: expected (B, N, L) or (B, G, N, L) for u {tuple(u.shape)}, found {tuple(p.shape)}"
            )
    if B.shape != C.shape:
        raise ValueError(f"C: expected the shape of B, {tuple(B.shape)}, found {tuple(C.shape)}")
    optional: tuple[tuple[str, Tensor | None, tuple[int, ...]], ...] = (
        ("delta", delta, (batch, channels, length)),
        ("z", z, (batch, channels, length)),
        ("D", D, (channels,)),
        ("delta_bias", delta_bias, (channels,)),
    )
    for name, value, expected in optional:
        if value is not None and value.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, found {tuple(value.shape)}")


def _check_tensor(name: str, given: Tensor | None, u: Tensor) -> None:
    if not isinstance(given, Tensor):
        raise ValueError(f"{name}: expected a tensor, found {type(given).__name__}")
    if given.layout is not torch.strided:
        raise ValueError(f"{name}: expected a dense tensor, found {given.layout}")
    if given.is_quantized or (given.is_floating_point() and given.itemsize == 1):
        raise ValueError(f"{name}: expected numbers of 16 bits or more, found {given.dtype}")
    if given.device != u.device:
        raise ValueError(f"{name}: expected all tensors on {u.device}, found one on {given.device}")
