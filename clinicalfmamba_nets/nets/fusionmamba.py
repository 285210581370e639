"""FusionMamba (Xie et al.), a comparison network: a U-shape of 2D scans, fused stage by stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.dynamic_fusion import DFFMBlock, DVSSBlock
from clinicalfmamba_nets.blocks.mirroring import reflect_to_multiple
from clinicalfmamba_nets.functional.ranges import InputCheck

FORMS = ("code", "paper")


class PatchMerging(nn.Module):
    """Join 2 x 2 pixels, normalize them and map them to twice the width.

    Example:
        >>> PatchMerging(4)(torch.rand(1, 6, 8, 4)).shape
        torch.Size([1, 3, 4, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, C), even sizes -> (B, H / 2, W / 2, 2C)."""
        corners = [image[:, ::2, ::2], image[:, 1::2, ::2], image[:, ::2, 1::2], image[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(corners, -1)))  # (B, H / 2, W / 2, 2C)


class PatchExpanding(nn.Module):
    """Map each pixel to a block of pixels of less width and normalize them.

    Args:
        channels: width C.
        factor: pixels of the block along each axis.
        narrower: width C' of its pixels.

    Example:
        >>> PatchExpanding(8, 2, 4)(torch.rand(1, 3, 4, 8)).shape
        torch.Size([1, 6, 8, 4])
    """

    def __init__(self, channels: int, factor: int, narrower: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(channels, factor * factor * narrower, bias=False)
        self.norm = nn.LayerNorm(narrower)

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, f H, f W, C')."""
        batch, height, width, _ = image.shape
        blocks = self.expand(image).view(batch, height, width, self.factor, self.factor, -1)  # (B, H, W, f, f, C')
        pixels = blocks.transpose(2, 3).reshape(batch, height * self.factor, width * self.factor, -1)
        return self.norm(pixels)  # (B, f H, f W, C')


class FusionMamba(nn.Module):
    """FusionMamba: DVSS blocks in two encoders of common weights and in a decoder, DFFM on the skip connections.

    Source: "FusionMamba: Dynamic Feature Enhancement for Multimodal Image Fusion with Mamba", Xie et al.,
    arXiv 2404.09498. Paper and published code differ; ``form`` chooses: see :class:`DVSSBlock`, :class:`DFFMBlock` and
    :class:`CrossScanLayer`. The default is the code, whose numbers the paper prints. The bottleneck is the plain sum of
    both images, and twice each image is added to the result. The code's 164,538,645 trainable parameters contain a DFFM
    whose result is never used (331,445) and three convolutions that it never calls (387,744); those that are used are
    163,819,456, and only they are here. Layers are not dropped at random in training, as they are there (up to 0.1 of
    the time). Any size is taken: images are mirrored up to a multiple of 64. The image is limited to [0, 1] outside
    of training.

    Args:
        widths: of the four stages, each twice the one before.
        depths: DVSS blocks of each stage; the decoder has those of the second and the third stage exchanged.
        d_state: states per channel of the scans.
        form: ``code`` or ``paper``.

    Raises:
        ValueError: an unknown form; in `forward`, another shape.

    Example:
        >>> net = FusionMamba(widths=(8, 16, 32, 64), depths=(1, 1, 1, 1)).eval()
        >>> net(torch.rand(1, 2, 40, 33)).shape
        torch.Size([1, 1, 40, 33])
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (96, 192, 384, 768),
        depths: tuple[int, ...] = (2, 2, 9, 2),
        d_state: int = 16,
        form: str = "code",
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form: expected one of {', '.join(FORMS)}, found {form!r}")
        self.check_input = InputCheck()
        self.embed = nn.ModuleList([nn.Conv2d(1, widths[0], 4, stride=4) for _ in range(2)])
        self.embed_norm = nn.ModuleList([nn.LayerNorm(widths[0]) for _ in range(2)])
        self.encoder = nn.ModuleList(
            [_stage(width, depth, d_state, form) for width, depth in zip(widths, depths, strict=True)]
        )
        self.merging = nn.ModuleList([*(PatchMerging(width) for width in widths[:-1]), nn.Identity()])
        self.fusion = nn.ModuleList([DFFMBlock(width, d_state, form) for width in widths[:0:-1]])
        up, counts = widths[::-1], (depths[0], depths[2], depths[1], depths[3])
        stages = [_stage(width, depth, d_state, form) for width, depth in zip(up, counts, strict=True)]
        self.bottleneck, self.decoder = stages[0], nn.ModuleList(stages[1:])
        self.expanding = nn.ModuleList(PatchExpanding(width, 2, width // 2) for width in up[:-1])
        self.expand_out = PatchExpanding(widths[0], 4, widths[0] // 4)
        self.conv_out = nn.Conv2d(widths[0] // 4, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, H, W) in [0, 1] to (B, 1, H, W), in [0, 1] outside of training."""
        if image.dim() != 4 or image.shape[1] != 2:
            raise ValueError(f"image must be (B, 2, H, W), got shape {list(image.shape)}")
        if not torch.jit.is_scripting():
            self.check_input(image)
        padded = reflect_to_multiple(image, 64)
        first = self.embed_norm[0](self.embed[0](padded[:, :1]).permute(0, 2, 3, 1))  # (B, H' / 4, W' / 4, C)
        second = self.embed_norm[1](self.embed[1](padded[:, 1:]).permute(0, 2, 3, 1))
        fused = self.expand_out(self._decode(torch.cat([first, second])))  # (B, H', W', C / 4)
        drawn = self.conv_out(fused.permute(0, 3, 1, 2))[:, :, : image.shape[2], : image.shape[3]]  # (B, 1, H, W)
        drawn = drawn + 2 * image.sum(1, keepdim=True)
        return drawn if self.training else drawn.clamp(0, 1)

    def _decode(self, both: Tensor) -> Tensor:
        """Encode both images in one batch and decode their fusion: (2B, H, W, C) -> (B, H, W, C)."""
        inputs: list[Tensor] = []  # of each stage
        for stage, merging in zip(self.encoder, self.merging):  # noqa: B905  (TorchScript)
            inputs.append(both)
            both = merging(stage(both))
        first, second = both.chunk(2, 0)  # 2 x (B, H / 8, W / 8, 8C)
        fused = self.bottleneck(first + second)
        place = len(inputs)
        for block, expanding, stage in zip(self.fusion, self.expanding, self.decoder):  # noqa: B905
            place = place - 1
            first, second = inputs[place].chunk(2, 0)
            fused = stage(expanding(fused + block(first, second)))  # twice the size, half the width
        return fused


def _stage(channels: int, depth: int, d_state: int, form: str) -> nn.Sequential:
    return nn.Sequential(*(DVSSBlock(channels, d_state, form) for _ in range(depth)))
