"""The last layer: from features at full resolution to the fused image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.hooks import LeakyReLUAfter, watched
from clinicalfmamba_nets.blocks.maps_conv import maps_conv
from clinicalfmamba_nets.ops import conv3x3, convolves_maps, recording

LOGIT_BOUND = 5.0
PREFERENCE = 6.0
FIRST_SPREAD = 0.01  # of the logit's weights: a fresh network is a soft maximum with little noise on it


class SigmoidHead(nn.Module):
    """Sigmoid(conv3x3(d)): the image is drawn from the features alone.

    Source: the published code.

    Args:
        spatial_dims: 2 or 3.
        channels: width of the features.

    Example:
        >>> SigmoidHead(2, 8)(torch.rand(1, 8, 9, 7), torch.rand(1, 2, 9, 7)).shape
        torch.Size([1, 1, 9, 7])
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv[Conv.CONV, spatial_dims](channels, 1, 3, padding=1)

    def forward(self, decoded: Tensor, image: Tensor) -> Tensor:
        """(B, C, *S) and the inputs (B, 2, *S) -> (B, 1, *S) in [0, 1]."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if watched(self.conv):
                return torch.sigmoid(self.conv(decoded))
        if self.training:
            return torch.sigmoid(self.conv(decoded))
        return torch.sigmoid(conv_to_one_channel(decoded, self.conv.weight, self.conv.bias))


def conv_to_one_channel(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A zero-padded 3x3(x3) convolution to one channel, as one matrix product for all taps and a sum of shifted maps.

    Convolutions on CPUs compute sixteen output channels at once, however many are asked for: a fifth of the time here.

    Args:
        x: (B, C, *S).
        weight: (1, C, 3, 3) or (1, C, 3, 3, 3).
        bias: (1,) or None.

    Returns:
        (B, 1, *S).

    Example:
        >>> conv_to_one_channel(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3), torch.zeros(1))[0, 0]
        tensor([[ 8., 12.,  8.],
                [12., 18., 12.],
                [ 8., 12.,  8.]])
    """
    dims = x.dim() - 2
    taps = weight[0].flatten(1).t().expand(x.shape[0], -1, -1)  # (B, 3^dims, C)
    maps = torch.bmm(taps, x.flatten(2)).unflatten(2, x.shape[2:])  # (B, 3^dims, *S)
    if recording():
        return _sum_of_shifted(maps, dims, bias)
    middle = maps.shape[1] // 2
    out = maps[:, middle]
    if bias is not None:
        out = out + bias
    for tap in range(maps.shape[1]):
        source, target, place = maps[:, tap], out, maps.shape[1]
        for axis in range(dims):
            place = place // 3
            offset, size = tap // place % 3 - 1, x.shape[axis + 2]
            source = source.narrow(axis + 1, max(0, offset), size - abs(offset))
            target = target.narrow(axis + 1, max(0, -offset), size - abs(offset))
        if tap != middle:
            target.add_(source)
    return out.unsqueeze(1)


def _sum_of_shifted(maps: Tensor, dims: int, bias: Tensor | None) -> Tensor:
    """What `conv_to_one_channel` sums in place, for a graph that is recorded: (B, 3^dims, *S) -> (B, 1, *S)."""
    padded, out = F.pad(maps, [1, 1] * dims), maps[:, :1]
    for tap in range(maps.shape[1]):
        part, place = padded[:, tap : tap + 1], maps.shape[1]
        for axis in range(dims):
            place = place // 3
            part = part.narrow(axis + 2, tap // place % 3, maps.shape[axis + 2])
        out = part if tap == 0 else out + part
    return out if bias is None else out + bias


def refine(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Two convolutions, each with its leaky ReLU, (B, C, *S) -> (B, C, *S): in inference one pass for each."""
    weight: Any = layers[0].weight
    if layers.training or not convolves_maps(x, weight) or any(map(watched, layers.modules())):
        return layers(x)
    maps = x.movedim(1, -1)
    for first in (0, 2):
        conv, slope = layers[first], float(layers[first + 1].negative_slope)  # type: ignore[arg-type]
        maps = conv3x3(maps, conv.weight, conv.bias, slope=slope, fast=True)  # type: ignore[arg-type]
    return maps.movedim(-1, 1)


class GainHead(nn.Module):
    """Sum over bands and inputs of gain * band, clipped to [0, 1]; the gains are maps that a small network draws.

    Source: ours. Each input is split into ``bands`` frequency bands by binomial smoothing (a Laplacian pyramid without
    subsampling), and each band of each input gets its own gain map in [0, 2]. Detail comes from the inputs and not
    through the latent, so it is sharp from the first epoch; where both inputs are black beyond the smoothing's reach
    the result is black; a structure in neither input can only arise from a change of gain. The gradient passes the
    clipping unchanged, so that a pixel beyond a limit is still pulled back.

    Args:
        spatial_dims: 2 or 3.
        channels: width of the features.
        bands: number of frequency bands; 1 leaves the inputs whole.

    Example:
        >>> GainHead(2, 8)(torch.rand(1, 8, 9, 7), torch.rand(1, 2, 9, 7)).shape
        torch.Size([1, 1, 9, 7])
    """

    def __init__(self, spatial_dims: int, channels: int, bands: int = 3) -> None:
        super().__init__()
        self.bands = bands
        first, second = (maps_conv(spatial_dims, channels, channels) for _ in range(2))
        self.refine = nn.Sequential(first, LeakyReLUAfter(first, 0.2), second, LeakyReLUAfter(second, 0.2))
        self.conv = Conv[Conv.CONV, spatial_dims](channels, 2 * bands, 3, padding=1)
        nn.init.constant_(self.conv.bias, -1.0)  # gains of about 0.54: near the average image at the start

    def _refined(self, decoded: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            return refine(self.refine, decoded)
        return self.refine(decoded)

    def forward(self, decoded: Tensor, image: Tensor) -> Tensor:
        """(B, C, *S) and the inputs (B, 2, *S) -> (B, 1, *S) in [0, 1]."""
        gains = 2.0 * torch.sigmoid(self.conv(self._refined(decoded)))  # (B, 2 bands, *S)
        bands = []
        rest = image
        for band in range(self.bands - 1):
            smooth = _smooth(rest, 1 << band)
            bands.append(rest - smooth)
            rest = smooth
        bands.append(rest)
        fused = (gains * torch.cat(bands, 1)).sum(1, keepdim=True)
        return fused + (fused.clamp(0.0, 1.0) - fused).detach()


class MixHead(nn.Module):
    """A mix of the two inputs, w A + (1 - w) B, with a weight w in [0, 1] per pixel that a small network draws.

    Source: ours. Nothing can be invented: every pixel of the result lies between its two inputs. The weight map has
    full resolution, and its logit is the network's map plus a learned multiple of A - B, so that the start is a soft
    maximum of the inputs. The logit is bounded, 5 tanh(x / 5): without that bound the sigmoid saturates within some
    hundred steps and no gradient is left.

    Args:
        spatial_dims: 2 or 3.
        channels: width of the features.
        return_weights: give the weight of the first input as a second channel.

    Example:
        >>> image = torch.rand(1, 2, 9, 7)
        >>> fused = MixHead(2, 8)(torch.rand(1, 8, 9, 7), image)
        >>> bool((fused >= image.amin(1)).all() and (fused <= image.amax(1)).all())
        True
    """

    __constants__ = ["bound", "return_weights"]

    def __init__(self, spatial_dims: int, channels: int, return_weights: bool = False) -> None:
        super().__init__()
        self.bound, self.return_weights = LOGIT_BOUND, return_weights
        self.refine = nn.Sequential(
            maps_conv(spatial_dims, channels, channels),
            nn.LeakyReLU(0.2, inplace=True),
            maps_conv(spatial_dims, channels, channels),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.conv = Conv[Conv.CONV, spatial_dims](channels, 1, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=FIRST_SPREAD)
        nn.init.zeros_(self.conv.bias)
        self.preference = nn.Parameter(torch.tensor([PREFERENCE]))  # of the brighter input

    def _refined(self, decoded: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            return refine(self.refine, decoded)
        return self.refine(decoded)

    def weights(self, decoded: Tensor, image: Tensor) -> Tensor:
        """Weight of the first input: (B, C, *S) and the inputs (B, 2, *S) -> (B, 1, *S) in [0, 1]."""
        refined = self._refined(decoded)
        conv = self.conv
        logit = conv(refined) if self.training else conv_to_one_channel(refined, conv.weight, conv.bias)
        logit = logit + self.preference * (image[:, :1] - image[:, 1:])
        return torch.sigmoid(self.bound * torch.tanh(logit / self.bound))

    def forward(self, decoded: Tensor, image: Tensor) -> Tensor:
        """(B, C, *S) and the inputs (B, 2, *S) -> (B, 1, *S) between the inputs, or (B, 2, *S) with the weights."""
        weights = self.weights(decoded, image)
        fused = mix(image, weights)
        return torch.cat([fused, weights.to(fused.dtype)], 1) if self.return_weights else fused


def mix(image: Tensor, weights: Tensor) -> Tensor:
    """Mix two images by the weights of the first, without leaving their range by rounding.

    Args:
        image: (B, 2, *S).
        weights: (B, 1, *S) in [0, 1].

    Returns:
        (B, 1, *S), each pixel in the closed interval between its two inputs.

    Example:
        >>> mix(torch.tensor([[[[0.2]], [[0.6]]]]), torch.tensor([[[[0.25]]]])).item()
        0.5
    """
    first, second = image[:, :1], image[:, 1:]
    fused = second + weights.to(image.dtype) * (first - second)
    return torch.minimum(torch.maximum(fused, torch.minimum(first, second)), torch.maximum(first, second))


def _smooth(image: Tensor, spacing: int) -> Tensor:
    """Binomial smoothing [1, 4, 6, 4, 1] / 16 along each axis with taps ``spacing`` apart; edges are repeated."""
    for axis in range(2, image.dim()):
        size, margin = image.shape[axis], 2 * spacing
        place = torch.arange(-margin, size + margin, device=image.device).clamp(0, size - 1)
        padded = image.index_select(axis, place)
        total = 0.375 * image
        for reach, weight in ((1, 0.25), (2, 0.0625)):
            before = padded.narrow(axis, margin - reach * spacing, size)
            after = padded.narrow(axis, margin + reach * spacing, size)
            total = total + weight * (before + after)
        image = total
    return image
