"""SwinFusion, a comparison network: attention within shifted windows, of each image and across both."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.mirroring import reflect_to_multiple
from clinicalfmamba_nets.blocks.window_attention import SwinLayer
from clinicalfmamba_nets.functional.ranges import InputCheck

WINDOW = 8


class _CrossGroup(nn.Module):
    """Layers within each image, then layers in which each image looks at the other."""

    def __init__(self, channels: int, heads: int, depth: int) -> None:
        super().__init__()
        self.within = nn.ModuleList([_layers(channels, heads, depth) for _ in range(2)])
        self.across = nn.ModuleList([_layers(channels, heads, depth) for _ in range(2)])

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Twice (B, H, W, C) -> the same."""
        for layer_a, layer_b in zip(self.within[0], self.within[1]):  # noqa: B905  (TorchScript)
            first, second = layer_a(first, first), layer_b(second, second)
        for layer_a, layer_b in zip(self.across[0], self.across[1]):  # noqa: B905  (TorchScript)
            normed_a, normed_b = layer_a.norm(first), layer_b.norm(second)
            first, second = layer_a(first, normed_b), layer_b(second, normed_a)
        return first, second


class SwinFusion(nn.Module):
    """SwinFusion: convolutions, window attention in each image, across both, and in what comes of them.

    Source: "SwinFusion: Cross-domain Long-range Learning for General Image Fusion via Swin Transformer", Ma et al.,
    IEEE/CAA J. Autom. Sinica 2022, in the published code's form: one pair of convolutions reads both images, and one
    normalization precedes every group of layers. The paper's 0.97 M parameters are 973,681 with the 8,430 of two
    convolutions that its graph never uses; those that are used are 965,251, and only they are here. The published
    training drops whole layers at random (up to 0.1 of the time); this network does not. Any size is taken: images
    are mirrored up to a multiple of the window. The image is limited to [0, 1] outside of training.

    Args:
        channels: width C of the features, divisible by the number of heads and by 4.
        heads: heads of each attention.
        depth: layers in each image, and in the reconstruction.
        fusion_depths: layers within and across the images, for each of the fusion's groups.

    Raises:
        ValueError: in `forward`, another shape.

    Example:
        >>> SwinFusion(channels=12, heads=3, depth=1, fusion_depths=(1,)).eval()(torch.rand(1, 2, 9, 12)).shape
        torch.Size([1, 1, 9, 12])
    """

    def __init__(
        self, channels: int = 60, heads: int = 6, depth: int = 4, fusion_depths: tuple[int, ...] = (2, 2)
    ) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.window, self.check_input = WINDOW, InputCheck()
        self.conv_in = nn.Conv2d(1, half, 3, padding=1)
        self.conv_wide = nn.Conv2d(half, channels, 3, padding=1)
        self.embed_norm = nn.LayerNorm(channels)
        self.encoders = nn.ModuleList([_layers(channels, heads, depth) for _ in range(2)])
        self.encoder_norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.fusion = nn.ModuleList([_CrossGroup(channels, heads, layers) for layers in fusion_depths])
        self.fusion_norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.conv_fusion = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = _layers(channels, heads, depth)
        self.decoder_norm = nn.LayerNorm(channels)
        self.conv_out = nn.Sequential(
            nn.Conv2d(channels, half, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(half, quarter, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(quarter, 1, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, H, W) in [0, 1] to (B, 1, H, W), in [0, 1] outside of training."""
        if image.dim() != 4 or image.shape[1] != 2:
            raise ValueError(f"image must be (B, 2, H, W), got shape {list(image.shape)}")
        if not torch.jit.is_scripting():
            self.check_input(image)
        batch, height, width = image.shape[0], image.shape[2], image.shape[3]
        images = reflect_to_multiple(image, self.window).transpose(0, 1).flatten(0, 1).unsqueeze(1)  # (2B, 1, H', W')
        shallow = F.leaky_relu(self.conv_wide(F.leaky_relu(self.conv_in(images), 0.2)), 0.2)  # (2B, C, H', W')
        features = self.embed_norm(shallow.permute(0, 2, 3, 1))  # (2B, H', W', C)
        first, second = features.split([batch, batch])
        first, second = self._fuse(*self._encode(first, second))
        joined = torch.cat([first, second], -1).permute(0, 3, 1, 2)  # (B, 2C, H', W')
        fused = F.leaky_relu(self.conv_fusion(joined), 0.2).permute(0, 2, 3, 1)  # (B, H', W', C)
        fused = self.embed_norm(fused)
        for layer in self.decoder:
            fused = layer(fused, fused)
        fused = self.conv_out(self.decoder_norm(fused).permute(0, 3, 1, 2))  # (B, 1, H', W')
        fused = fused[:, :, :height, :width]  # (B, 1, H, W)
        return fused if self.training else fused.clamp(0, 1)

    def _encode(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Layers within each image: twice (B, H, W, C) -> the same."""
        for layer_a, layer_b in zip(self.encoders[0], self.encoders[1]):  # noqa: B905  (TorchScript)
            first, second = layer_a(first, first), layer_b(second, second)
        return self.encoder_norms[0](first), self.encoder_norms[1](second)

    def _fuse(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Groups of layers within and across: twice (B, H, W, C) -> the same."""
        first, second = self.embed_norm(first), self.embed_norm(second)
        for group in self.fusion:
            first, second = group(first, second)
        return self.fusion_norms[0](first), self.fusion_norms[1](second)


def _layers(channels: int, heads: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList([SwinLayer(channels, heads, layer % 2 * WINDOW // 2, WINDOW) for layer in range(depth)])
