"""The operators in plain torch operations: any device and dtype, every derivative and transform, TorchScript, export.

Half precision is widened to float32 here as in the kernels: a scan adds up thousands of small steps.
"""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.ops.chunked import scan_tokens
from clinicalfmamba_nets.ops.exported import conv1d_silu_exported
from clinicalfmamba_nets.ops.in_turn import conv1d_silu_in_turn, scripted
from clinicalfmamba_nets.ops.recording import exports_loops, records_loops


def widened(x: Tensor) -> Tensor:
    """The tensor in float32 where it is float16 or bfloat16, else the tensor itself.

    Example:
        >>> widened(torch.ones(1, dtype=torch.bfloat16)).dtype, widened(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x


def not_rounded(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Switch autocast off on the device of a tensor, within the block: the products of a scan stay in its own type.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16), not_rounded(torch.ones(1)):
        ...     torch.ones(2, 2).matmul(torch.ones(2, 2)).dtype
        torch.float32
    """
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()


def selective_scan_plain(
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
    """The chunked scan behind the layout of :func:`clinicalfmamba_nets.ops.selective_scan`.

    Returns:
        y (B, D, L) and the state after the last token (B, D, N).
    """
    batch, channels, length = u.shape
    groups = B.shape[1] if B.dim() == 4 else 1
    width, states = channels // groups, A.shape[1]
    if delta_bias is not None:
        delta = delta + delta_bias.unsqueeze(-1)

    def tokens(x: Tensor, size: int) -> Tensor:  # (B, G * size, L) -> (B * G, L, size)
        return x.reshape(batch * groups, size, length).transpose(1, 2)

    rates = A.reshape(1, groups, width, states).expand(batch, -1, -1, -1).reshape(batch * groups, width, states)
    skip = D if D is None else D.view(1, groups, width).expand(batch, -1, -1).reshape(batch * groups, width)
    y, last = scan_tokens(
        tokens(u, width), tokens(delta, width), rates, tokens(B, states), tokens(C, states), skip, delta_softplus
    )
    y = y.transpose(1, 2).reshape(batch, channels, length)
    if z is not None:
        y = y * F.silu(z)
    return y, last.reshape(batch, channels, states)


def conv1d_silu_plain(x: Tensor, weight: Tensor, bias: Tensor, x_proj: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The convolution of :func:`clinicalfmamba_nets.ops.permuted_conv1d_silu`, a map for each tap."""
    x, weight, bias, x_proj = widened(x), widened(weight), widened(bias), widened(x_proj)
    width = weight.shape[3]
    taps = weight.permute(3, 0, 1, 2)[:, :, :, None, None].contiguous()  # (W, S, K, 1, 1, D)
    steps = F.pad(order + 1, [width - 1, 0])  # (K, W - 1 + L): the token at 0 is the zero in front of each direction
    u = _convolved(F.pad(x, [0, 0, 1, 0]), taps, bias[:, :, None, None, :], steps)
    if x_proj.shape[2] == 0:
        return u, u[..., :0]
    return u, torch.matmul(u, x_proj.transpose(-1, -2).unsqueeze(2))


def _convolved(x: Tensor, taps: Tensor, bias: Tensor, steps: Tensor) -> Tensor:
    """SiLU of the convolution along the directions; see :func:`clinicalfmamba_nets.ops.in_turn.conv1d_silu_in_turn`."""
    if records_loops():
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if exports_loops():
                return conv1d_silu_exported(x, taps, bias, steps)
            return _convolved_traced(x, taps, bias, steps)
        return conv1d_silu_in_turn(x, taps, bias, steps)
    return _convolved_whole(x, taps, bias, steps)


def _convolved_whole(x: Tensor, taps: Tensor, bias: Tensor, steps: Tensor) -> Tensor:
    """As :func:`_convolved`, all tokens together, with every derivative."""
    width, directions = taps.shape[0], steps.shape[0]
    x = x.index_select(2, steps.flatten()).view(x.shape[0], x.shape[1], directions, steps.shape[1], x.shape[3])
    x, length = x.transpose(1, 2), steps.shape[1] - width + 1  # (S, K, B, W - 1 + L, D)
    y = bias
    for tap in range(width):
        y = torch.addcmul(y, taps[tap], x[:, :, :, tap : tap + length])
    return F.silu(y)


@scripted
def _convolved_traced(x: Tensor, taps: Tensor, bias: Tensor, steps: Tensor) -> Tensor:
    """As :func:`_convolved`, in a trace: recorded without gradients, it may be run with them."""
    if torch.is_grad_enabled():
        return _convolved_whole(x, taps, bias, steps)
    return conv1d_silu_in_turn(x, taps, bias, steps)


def permuted_scan_plain(
    u: Tensor, projected: Tensor, dt_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, order: Tensor
) -> Tensor:
    """The scan of :func:`clinicalfmamba_nets.ops.permuted_selective_scan`, chunk by chunk."""
    u, projected, dt_weight, A = widened(u), widened(projected), widened(dt_weight), widened(A)
    D, delta_bias = widened(D), widened(delta_bias)
    streams, directions, batch, length, channels = u.shape
    groups = streams * directions * batch
    steps, B, C = projected.split([dt_weight.shape[3], A.shape[3], A.shape[3]], dim=-1)
    delta = torch.baddbmm(  # (S K, B L, D)
        delta_bias.flatten(0, 1).unsqueeze(1),
        steps.flatten(0, 1).flatten(1, 2),
        dt_weight.flatten(0, 1).transpose(1, 2),
    )
    y, _ = scan_tokens(
        u.reshape(groups, length, channels),
        delta.unflatten(1, [batch, length]).flatten(0, 1),
        _for_each_image(A, batch),
        B.reshape(groups, length, B.shape[4]),
        C.reshape(groups, length, C.shape[4]),
        _for_each_image(D, batch),
        delta_softplus=True,
    )
    return add_at_tokens(y.view(streams, directions, batch, length, channels), order)


def _for_each_image(x: Tensor, batch: int) -> Tensor:
    """Weights of the directions (S, K, D, ...) once more for every image of a batch: (S K B, D, ...)."""
    return x.unsqueeze(2).expand([-1, -1, batch] + [-1] * (x.dim() - 2)).flatten(0, 2)


def time_steps(projected: Tensor, dt_weight: Tensor, states: int) -> tuple[Tensor, Tensor, Tensor]:
    """Time steps of all channels (S, K, B, L, D), B and C (S, K, B, L, N) from what each token is projected to."""
    steps, B, C = projected.split([dt_weight.shape[3], states, states], dim=-1)
    return torch.matmul(steps, dt_weight.transpose(-1, -2).unsqueeze(2)), B, C


def add_at_tokens(y: Tensor, order: Tensor) -> Tensor:
    """(S, K, B, L, D) along the directions -> (S, B, L, D), summed at the tokens."""
    back = torch.argsort(order, dim=1)
    if records_loops():
        return _sum_rows(y, back)
    total = y[:, 0].index_select(2, back[0])
    for k in range(1, y.shape[1]):
        total = total + y[:, k].index_select(2, back[k])
    return total


def _sum_rows(y: Tensor, back: Tensor) -> Tensor:
    """The sum of :func:`add_at_tokens` in one pass; of y that is (L, S, K, B, D) in memory nothing is copied."""
    streams, directions, batch, length, channels = y.shape
    rows = y.permute(3, 0, 1, 2, 4).reshape(-1, channels)
    groups = torch.arange(streams * directions * batch, device=y.device).view(streams, directions, batch, 1)
    index = groups + back[:, None] * (streams * directions * batch)  # (S, K, B, L)
    index = index.permute(0, 2, 3, 1).reshape(-1, directions)
    return F.embedding_bag(index, rows, mode="sum").view(streams, batch, length, channels)


def conv3x3_plain(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    before: Tensor | None,
    after: Tensor | None,
    times: Tensor | None,
    plus: Tensor | None,
    dilation: int,
    scale: int,
    fast: bool,
    slope: float,
    slope_after: float,
) -> Tensor:
    """The convolution of :func:`clinicalfmamba_nets.ops.conv3x3`, step by step."""
    if before is not None:
        x = x * before[0] + before[1]
    x = x.movedim(-1, 1)
    if scale == 2:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    convolved = (F.conv2d if x.dim() == 4 else F.conv3d)(x, weight, bias, padding=dilation, dilation=dilation)
    y = convolved.movedim(1, -1)
    y = F.leaky_relu(y, slope)
    if times is not None:
        y = y * times
    if after is not None:
        y = F.leaky_relu(y * after[0] + after[1], slope_after)
    return y if plus is None else y + plus


def gated_norm_plain(y: Tensor, z: Tensor, weight: Tensor | None, bias: Tensor | None, divisor: float) -> Tensor:
    """The gate and the normalization of :func:`clinicalfmamba_nets.ops.gated_norm`."""
    y = widened(y) * F.silu(widened(z))
    if divisor != 1.0:
        y = y / divisor
    return layer_norm(y, weight, bias)


def layer_norm(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Layer normalization of (S, B, L, D) with a scale and an offset (S, D) for each weight set; none without them.

    Example:
        >>> layer_norm(torch.rand(2, 1, 6, 16), torch.ones(2, 16), torch.zeros(2, 16)).mean().abs() < 1e-6
        tensor(True)
    """
    if weight is None or bias is None:
        return y
    if y.dtype == torch.float32:
        weight, bias = widened(weight), widened(bias)
    if weight.shape[0] == 1:
        return F.layer_norm(y, [y.shape[3]], weight[0], bias[0])
    normed = F.layer_norm(y, [y.shape[3]]).flatten(1, 2)  # torch.export would ask how batch and length relate
    return torch.addcmul(bias[:, None], normed, weight[:, None]).view_as(y)
