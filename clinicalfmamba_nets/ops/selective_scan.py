"""The selective scan under its public name, in the layout of mamba-ssm's ``selective_scan_fn``."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.ops.backends import resolve_backend
from clinicalfmamba_nets.ops.chunked import scan_tokens
from clinicalfmamba_nets.ops.cuda import selective_scan_cuda
from clinicalfmamba_nets.ops.native.scan_ops import selective_scan as selective_scan_native
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
    Same arguments and meaning as mamba-ssm's ``selective_scan_fn``, with any real dtype on any device.

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
        y (B, D, L), of the dtype of ``u``; with ``return_last_state`` also the state (B, D, N).

    Raises:
        ValueError: shapes that do not fit together, or an unknown backend.
        RuntimeError: the backend asked for cannot run here.

    Example:
        >>> x = torch.rand(1, 4, 10)
        >>> selective_scan(x, x, -torch.ones(4, 8), torch.rand(1, 8, 10), torch.rand(1, 8, 10), backend="torch").shape
        torch.Size([1, 4, 10])
    """
    _check_shapes(u, delta, A, B, C, D, z, delta_bias)
    name = resolve_backend(u, A.shape[1], backend)
    if name == "reference":
        y, last = selective_scan_reference(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    elif name == "native":
        y, last = selective_scan_native(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)
    elif name == "cuda":
        y, last = selective_scan_cuda(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    else:
        y, last = _selective_scan_torch(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return (y, last) if return_last_state else y


def _selective_scan_torch(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """The chunked scan behind the layout of the public function."""
    batch, channels, length = u.shape
    groups = B.shape[1] if B.dim() == 4 else 1
    width = channels // groups
    if delta_bias is not None:
        delta = delta + delta_bias.unsqueeze(-1)
    if delta_softplus:
        delta = F.softplus(delta)

    def tokens(x: Tensor, size: int) -> Tensor:  # (B, G * size, L) -> (B * G, L, size)
        return x.reshape(batch * groups, size, length).transpose(1, 2)

    rates = A.view(1, groups, width, -1).expand(batch, -1, -1, -1).reshape(batch * groups, width, -1)
    states = A.shape[1]
    y, last = scan_tokens(tokens(u, width), tokens(delta, width), rates, tokens(B, states), tokens(C, states))
    y = y.transpose(1, 2).reshape(batch, channels, length)
    if D is not None:
        y = y + D.unsqueeze(-1) * u
    if z is not None:
        y = y * F.silu(z)
    return y, last.reshape(batch, channels, states)


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
    if u.dim() != 3 or u.shape[2] < 1:
        raise ValueError(f"u: expected (B, D, L) with L >= 1, found {tuple(u.shape)}")
    batch, channels, length = u.shape
    if A.dim() != 2 or A.shape[0] != channels:
        raise ValueError(f"A: expected (D, N) with D {channels}, found {tuple(A.shape)}")
    states = A.shape[1]
    for name, p in (("B", B), ("C", C)):
        shape = (batch, states, length) if p.dim() == 3 else (batch, p.shape[1], states, length)
        if p.shape != shape or (p.dim() == 4 and channels % p.shape[1]):
            raise ValueError(
                f"{name}: expected (B, N, L) or (B, G, N, L) for u {tuple(u.shape)}, found {tuple(p.shape)}"
            )
    optional: tuple[tuple[str, Tensor | None, tuple[int, ...]], ...] = (
        ("delta", delta, (batch, channels, length)),
        ("z", z, (batch, channels, length)),
        ("D", D, (channels,)),
        ("delta_bias", delta_bias, (channels,)),
    )
    for name, value, expected in optional:
        if value is not None and value.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, found {tuple(value.shape)}")
