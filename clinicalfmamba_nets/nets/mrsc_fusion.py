"""MRSCFusion, a comparison network: features of a nested auto-encoder, fused at four scales by attention and edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.gradient_dense import GradientDenseBlock
from clinicalfmamba_nets.blocks.mirroring import reflect_to_multiple
from clinicalfmamba_nets.blocks.window_attention import SwinLayer
from clinicalfmamba_nets.functional.ranges import InputCheck

WINDOW = 8


class _Conv(nn.Module):
    """A convolution with mirrored borders, then ReLU."""

    def __init__(self, channels: int, wider: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, wider, kernel_size, padding=kernel_size // 2, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))  # (B, wider, H, W)


def _light_block(channels: int, wider: int) -> nn.Sequential:
    """Half the width by 3 x 3, then the new width by 1 x 1."""
    return nn.Sequential(_Conv(channels, channels // 2, 3), _Conv(channels // 2, wider, 1))


class _ResidualSwin(nn.Module):
    """x + convolution of window-attention layers of x, x a convolution of the features."""

    def __init__(self, channels: int, heads: int, depth: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        shifts = [layer % 2 * WINDOW // 2 for layer in range(depth)]
        self.layers = nn.ModuleList([SwinLayer(channels, heads, shift, WINDOW, mlp_ratio=4) for shift in shifts])
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv_in(features)
        mixed = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        for layer in self.layers:
            mixed = layer(mixed, mixed)
        return x + self.conv_out(mixed.permute(0, 3, 1, 2))  # (B, C, H, W)


class _ScaleFusion(nn.Module):
    """Fuses the features of one scale: a global branch of window attention plus a local one of edges."""

    def __init__(self, channels: int, heads: int, depth: int) -> None:
        super().__init__()
        self.swin = nn.ModuleList([_ResidualSwin(channels, heads, depth) for _ in range(2)])
        self.swin_out = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.local = nn.ModuleList(
            [nn.Sequential(_Conv(channels, channels, 3), GradientDenseBlock(channels)) for _ in range(2)]
        )
        self.local_out = nn.Sequential(
            _Conv(2 * channels, channels, 1), _Conv(channels, channels, 3), _Conv(channels, channels, 3)
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Twice (B, C, H, W) -> (B, C, H, W)."""
        across = self.swin_out(torch.cat([self.swin[0](first), self.swin[1](second)], 1))  # (B, C, H, W)
        return across + self.local_out(torch.cat([self.local[0](first), self.local[1](second)], 1))  # (B, C, H, W)


class _NestedDecoder(nn.Module):
    """Joins four scales step by step: each node sees all nodes of its own scale and one of the coarser scale."""

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        a, b, c, d = widths
        self.node_11, self.node_21, self.node_31 = (
            _light_block(a + b, a),
            _light_block(b + c, b),
            _light_block(c + d, c),
        )
        self.node_12, self.node_22 = _light_block(2 * a + b, a), _light_block(2 * b + c, b)
        self.node_13 = _light_block(3 * a + b, a)
        self.conv_out = nn.Conv2d(a, 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """(B, C_i, H / 2^i, W / 2^i), i = 0 .. 3 -> (B, 1, H, W)."""
        fine, half, quarter, eighth = features[0], features[1], features[2], features[3]
        node_11 = self.node_11(torch.cat([fine, _doubled(half)], 1))  # (B, C_0, H, W)
        node_21 = self.node_21(torch.cat([half, _doubled(quarter)], 1))  # (B, C_1, H / 2, W / 2)
        node_31 = self.node_31(torch.cat([quarter, _doubled(eighth)], 1))  # (B, C_2, H / 4, W / 4)
        node_12 = self.node_12(torch.cat([fine, node_11, _doubled(node_21)], 1))  # (B, C_0, H, W)
        node_22 = self.node_22(torch.cat([half, node_21, _doubled(node_31)], 1))  # (B, C_1, H / 2, W / 2)
        node_13 = self.node_13(torch.cat([fine, node_11, node_12, _doubled(node_22)], 1))  # (B, C_0, H, W)
        return self.conv_out(node_13)  # (B, 1, H, W)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")  # (B, C, 2H, 2W)


class MRSCFusion(nn.Module):
    """MRSCFusion: an auto-encoder of single images, and a fusion of its features by window attention and edges.

    Source: "MRSCFusion: Joint Residual Swin Transformer and Multiscale CNN for Unsupervised Multimodal Medical Image
    Fusion", Xie et al., IEEE Trans. Instrum. Meas. 72 (2023) 5026917; its auto-encoder is that of "NestFuse",
    arXiv 2007.00328, 2,732,761 parameters. The published code's 23,091,705 parameters are the 22,150,073 of what is
    here plus 941,632: a 3 x 3 convolution C -> C and a 1 x 1 convolution 2C -> C for each scale, for which the
    descriptions of the graph name no place. The published graph takes 256 x 256 pixels; here any size is taken: images
    are mirrored up to a multiple of 64. The image is limited to [0, 1] outside of training.

    It is trained in two stages: the auto-encoder learns by `reconstruct` (`SingleImageReconstruction`), then the fusion
    learns while the auto-encoder stays as it is (`MRSCFusionStage`).

    Args:
        widths: of the four scales, each divisible by 2 and by the number of heads.
        heads: heads of each attention.
        depth: layers of window attention of each image and scale.

    Raises:
        ValueError: in `forward`, another shape.

    Example:
        >>> MRSCFusion(widths=(8, 8, 8, 8), heads=2, depth=1).eval()(torch.rand(1, 2, 9, 12)).shape
        torch.Size([1, 1, 9, 12])
    """

    def __init__(self, widths: tuple[int, int, int, int] = (64, 112, 160, 208), heads: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.multiple, self.check_input = WINDOW * 8, InputCheck()
        self.conv_in = _Conv(1, 16, 1)
        self.encoder = nn.ModuleList(
            [_light_block(before, width) for before, width in zip((16, *widths[:3]), widths, strict=True)]
        )
        self.fusion = nn.ModuleList([_ScaleFusion(width, heads, depth) for width in widths])
        self.decoder = _NestedDecoder(widths)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of single images (B, 1, H, W), sizes divisible by 64: (B, C_i, H / 2^i, W / 2^i)."""
        x, features = self.conv_in(image), []
        for scale, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if scale > 0 else x)  # (B, C_i, H / 2^i, W / 2^i)
            features.append(x)
        return features

    @torch.jit.export
    def reconstruct(self, image: Tensor) -> Tensor:
        """Return every channel of (B, C, H, W) as the auto-encoder gives it back, not limited."""
        height, width = image.shape[2], image.shape[3]
        padded = reflect_to_multiple(image, self.multiple).flatten(0, 1).unsqueeze(1)  # (B * C, 1, H', W')
        back = self.decoder(self.encode(padded))[:, :, :height, :width]  # (B * C, 1, H, W)
        return back.reshape(image.shape)  # (B, C, H, W)

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, H, W) in [0, 1] to (B, 1, H, W), in [0, 1] outside of training."""
        if image.dim() != 4 or image.shape[1] != 2:
            raise ValueError(f"image must be (B, 2, H, W), got shape {list(image.shape)}")
        if not torch.jit.is_scripting():
            self.check_input(image)
        height, width = image.shape[2], image.shape[3]
        fused = self.decoder(self.fuse_scales(self.sources(image)))[:, :, :height, :width]  # (B, 1, H, W)
        return fused if self.training else fused.clamp(0, 1)

    def sources(self, image: Tensor) -> list[Tensor]:
        """Return the features of both images of (B, 2, H, W), the first images' before the second: (2B, C_i, ...)."""
        return self.encode(reflect_to_multiple(image, self.multiple).transpose(0, 1).flatten(0, 1).unsqueeze(1))

    def fuse_scales(self, sources: list[Tensor]) -> list[Tensor]:
        """Fuse the features of each scale: (2B, C_i, H_i, W_i) -> (B, C_i, H_i, W_i)."""
        fused: list[Tensor] = []
        for scale, block in enumerate(self.fusion):
            first, second = sources[scale].chunk(2, 0)  # twice (B, C_i, H_i, W_i)
            fused.append(block(first, second))
        return fused


class MRSCFusionStage(nn.Module):
    """The second stage of MRSCFusion's training: the auto-encoder is frozen, the features are kept for the loss.

    Args:
        network: the network whose fusion is trained.

    Attributes:
        features: of the last call, for each scale: fused, first, second, each (B, C_i, H_i, W_i).

    Example:
        >>> stage = MRSCFusionStage(MRSCFusion(widths=(8, 8, 8, 8), heads=2, depth=1))
        >>> stage(torch.rand(1, 2, 64, 64)).shape, len(stage.features)
        (torch.Size([1, 1, 64, 64]), 4)
    """

    def __init__(self, network: MRSCFusion) -> None:
        super().__init__()
        self.network = network
        self.features: list[tuple[Tensor, Tensor, Tensor]] = []
        for part in (network.conv_in, network.encoder, network.decoder):
            part.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, H, W) to (B, 1, H, W), not limited."""
        with torch.no_grad():
            sources = self.network.sources(image)
        fused = self.network.fuse_scales(sources)
        batch = len(image)
        self.features = [(own, both[:batch], both[batch:]) for own, both in zip(fused, sources, strict=True)]
        return self.network.decoder(fused)[:, :, : image.shape[2], : image.shape[3]]  # (B, 1, H, W)
