"""Upsampling steps of the decoder, exact in training and cheaper in inference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.folding import fold_behind, foldable, normalization_of, scale_and_shift
from clinicalfmamba_nets.blocks.hooks import watched
from clinicalfmamba_nets.blocks.layout import empty_maps
from clinicalfmamba_nets.blocks.maps_conv import maps_conv
from clinicalfmamba_nets.ops import conv3x3, convolves_maps, recording, trained_conv, trains_maps


class UpsampleConv(nn.Module):
    """Nearest upsampling by 2, 3x3 convolution, then normalization and activation in the order given.

    Source: the decoder of the published code; the papers write "upsample-convolutional layers".

    Args:
        spatial_dims: 2 or 3.
        in_channels: width of the input.
        out_channels: width of the output.
        order: ``NA`` (normalization, activation), ``AN`` or ``N``.
        act: MONAI's name of the activation.
        norm: MONAI's name of the normalization.

    Example:
        >>> UpsampleConv(2, 8, 4)(torch.rand(1, 8, 5, 6)).shape
        torch.Size([1, 4, 10, 12])
    """

    __constants__ = ["folds"]

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        order: str = "NA",
        act: str | tuple = "relu",
        norm: str | tuple = "batch",
    ) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.conv = maps_conv(spatial_dims, in_channels, out_channels)
        layers = {"N": lambda: get_norm_layer(norm, spatial_dims, out_channels), "A": lambda: get_act_layer(act)}
        self.after = nn.Sequential(*(layers[letter]() for letter in order))
        self.folds, self.eps = foldable(self.after[0]), getattr(self.after[0], "eps", 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C', *2S)."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if watched(self.conv) or watched(self.after) or watched(self.after[0]):
                return self.after(self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))
            if not self.training and convolves_maps(x, self.conv.weight) and self._is_plain():
                return self._in_one_pass(x)
            if self.training and trains_maps(x, self.conv.weight, self.conv.bias):
                return self.after(trained_conv(x, self.conv.weight, self.conv.bias, scale=2))
        if self.training or recording():  # unknown sizes do not survive the interleaving of the phases
            return self.after(self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        if not self.folds:
            return self.after(upsample_conv_by_phase(x, self.conv.weight, self.conv.bias))
        norm = self.after[0]
        scale, shift = scale_and_shift(norm.weight, norm.bias, norm.running_mean, norm.running_var, self.eps)  # type: ignore[arg-type]
        weight, bias = fold_behind(self.conv.weight, self.conv.bias, scale, shift)
        x = upsample_conv_by_phase(x, weight, bias)
        for position, layer in enumerate(self.after):
            if position > 0:  # the normalization at 0 is in the weights
                x = layer(x)
        return x

    @torch.jit.unused
    def _is_plain(self) -> bool:
        """Whether a (leaky) ReLU and a batch normalization, or one of them, stand behind the convolution."""
        layers = list(self.after)
        acts = [layer for layer in layers if isinstance(layer, nn.ReLU | nn.LeakyReLU)]
        norms = [layer for layer in layers if foldable(layer)]
        hooked = any(map(watched, layers))
        return not hooked and len(acts) + len(norms) == len(layers) and max(len(acts), len(norms)) < 2

    @torch.jit.unused
    def _in_one_pass(self, x: Tensor) -> Tensor:
        """The same in inference: nothing is upsampled in memory."""
        after, slopes = None, [1.0, 1.0]  # of the activations in front of the normalization and behind it
        for layer in self.after:
            if foldable(layer):
                after = normalization_of(layer)
            else:
                slopes[0 if after is None else 1] = getattr(layer, "negative_slope", 0.0)
        maps, (slope, slope_after) = x.movedim(1, -1), slopes
        weight, bias = self.conv.weight, self.conv.bias
        y = conv3x3(maps, weight, bias, after=after, scale=2, slope=slope, slope_after=slope_after)
        return y.movedim(-1, 1)


def upsample_conv_by_phase(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Nearest upsampling by 2 and a 3x3(x3) zero-padded convolution, as one 2x2(x2) convolution per output phase.

    Each output pixel sees only two source pixels per axis: the taps that meet in one source pixel are added first.
    That is exact algebra, with 4/9 (2D) or 8/27 (3D) of the multiplications.

    Args:
        x: (B, C, *S).
        weight: (C', C, 3, 3) or (C', C, 3, 3, 3).
        bias: (C',) or None.

    Returns:
        (B, C', *2S).

    Example:
        >>> upsample_conv_by_phase(torch.rand(1, 8, 5, 6), torch.rand(4, 8, 3, 3), torch.rand(4)).shape
        torch.Size([1, 4, 10, 12])
    """
    dims = x.dim() - 2
    padded = F.pad(x, [1, 1] * dims)
    out = empty_maps(x, weight.shape[0], [2 * size for size in x.shape[2:]])
    for phase in range(1 << dims):
        taps, window = weight, padded
        for axis in range(dims):
            odd = (phase >> (dims - 1 - axis)) & 1
            first, middle, last = taps.unbind(axis + 2)
            taps = torch.stack([first + middle, last] if odd == 1 else [first, middle + last], dim=axis + 2)
            window = window.narrow(axis + 2, odd, x.shape[axis + 2] + 1)
        part = F.conv2d(window, taps, bias) if dims == 2 else F.conv3d(window, taps, bias)
        _every_second(out, phase).copy_(part)
    return out


def _every_second(x: Tensor, phase: int) -> Tensor:
    """View of (B, C, *2S) as one phase of its pixels, (B, C, *S)."""
    if x.dim() == 4:
        return x[:, :, phase >> 1 & 1 :: 2, phase & 1 :: 2]
    return x[:, :, phase >> 2 & 1 :: 2, phase >> 1 & 1 :: 2, phase & 1 :: 2]
