"""EH-DRAN, a comparison network: an auto-encoder of single images; a rule without weights fuses its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clinicalfmamba_nets.blocks.gradient_dense import sobel_kernel
from clinicalfmamba_nets.functional.ranges import InputCheck

RULES = ("nuclear", "add", "average", "maximum", "l1")
_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def pooled_gate(image: Tensor) -> Tensor:
    """ReLU of the image averaged over blocks of 2 pixels, spread over the blocks again.

    Args:
        image: (B, C, *spatial), 2D or 3D, of any size: the blocks at an odd end are 1 pixel wide there.

    Returns:
        (B, C, *spatial), at least 0.

    Example:
        >>> pooled_gate(torch.tensor([0.0, 1.0, 4.0]).view(1, 1, 1, 3)).flatten()
        tensor([0.5000, 0.5000, 4.0000])
    """
    if image.dim() == 4:
        coarse = functional.avg_pool2d(image, 2, ceil_mode=True)
    else:
        coarse = functional.avg_pool3d(image, 2, ceil_mode=True)
    for axis in range(2, image.dim()):
        coarse = coarse.repeat_interleave(2, dim=axis).narrow(axis, 0, image.shape[axis])
    return functional.relu(coarse)


def nuclear_norms(features: Tensor) -> Tensor:
    """Sum of the singular values of every channel; a volume is laid out as a matrix along its first axis.

    Args:
        features: (B, C, *spatial), 2D or 3D.

    Returns:
        (B, C), float64.

    Example:
        >>> nuclear_norms(torch.eye(3)[None, None])
        tensor([[3.]], dtype=torch.float64)
    """
    matrix = features.flatten(3).double()  # (B, C, H, W) or (B, C, H, W * D)
    if matrix.shape[2] > matrix.shape[3]:
        matrix = matrix.transpose(2, 3)
    squares = torch.linalg.eigvalsh(matrix @ matrix.transpose(2, 3))  # (B, C, shorter side)
    return squares.clamp(min=0).sqrt().sum(-1)


def fuse_features(first: Tensor, second: Tensor, rule: str = "nuclear") -> Tensor:
    """Fuse the features of two images.

    - ``nuclear``: softmax over the channels, nuclear norm of each channel, the largest of each image squared = weight.
    - ``add``, ``average``, ``maximum``: pixel by pixel.
    - ``l1``: weights from the sum of the absolute values over the channels, averaged over 3 pixels on each axis.

    Source: "Edge-Enhanced Dilated Residual Attention Network for Multimodal Medical Image Fusion", arXiv 2411.11799
    (``nuclear``; one weight for the whole map); "DenseFuse", arXiv 1804.08361 (``l1``).

    Args:
        first: (B, C, *spatial).
        second: the same shape.
        rule: one of `RULES`.

    Returns:
        (B, C, *spatial).

    Raises:
        ValueError: another rule.

    Example:
        >>> fuse_features(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), "average").max()
        tensor(0.5000)
    """
    if rule == "add":
        return first + second
    if rule == "average":
        return (first + second) / 2
    if rule == "maximum":
        return torch.maximum(first, second)
    if rule == "nuclear":
        a = nuclear_norms(first.softmax(1)).amax(1).square()
        b = nuclear_norms(second.softmax(1)).amax(1).square()
        share = (a / (a + b)).to(first.dtype).reshape([-1] + [1] * (first.dim() - 1))
    elif rule == "l1":
        share = _activity_share(first, second)
    else:
        raise ValueError("rule: expected nuclear, add, average, maximum or l1, found " + rule)
    return share * first + (1 - share) * second


def _activity_share(first: Tensor, second: Tensor) -> Tensor:
    activity = torch.stack([first.abs().sum(1), second.abs().sum(1)], 1)  # (B, 2, *spatial)
    if first.dim() == 4:
        activity = functional.avg_pool2d(activity, 3, 1, 1, count_include_pad=False)
    else:
        activity = functional.avg_pool3d(activity, 3, 1, 1, count_include_pad=False)
    total = activity.sum(1, keepdim=True)
    return torch.where(total > 0, activity[:, :1] / total.clamp(min=1e-12), torch.full_like(total, 0.5))


class _Pyramid(nn.Module):
    """Three dilated convolutions joined, then attention by one 3x3 convolution applied once, twice and three times."""

    def __init__(self, spatial_dims: int, features: int) -> None:
        super().__init__()
        conv = _CONV[spatial_dims]
        self.dilated = nn.ModuleList([conv(features, features, 3, padding=rate, dilation=rate) for rate in (1, 3, 5)])
        self.reduce = conv(3 * features, features, 1)
        self.norm = _NORM[spatial_dims](features)
        self.shared = conv(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([dilated(x) for dilated in self.dilated], 1)  # (B, 3 * features, *spatial)
        x = self.norm(self.reduce(joined))  # (B, features, *spatial)
        once = self.shared(x)
        twice = self.shared(once)
        return self.norm(x + pooled_gate(x) * (once + twice + self.shared(twice)))


class _Edges(nn.Module):
    """A dense block beside depthwise derivatives that start as Sobel's and are trained."""

    def __init__(self, spatial_dims: int, features: int, dropout_prob: float) -> None:
        super().__init__()
        conv = _CONV[spatial_dims]
        self.grow = conv(features, features, 3, padding=1)
        self.dense = conv(2 * features, 2 * features, 3, padding=1)
        self.dense_out = conv(2 * features, features, 1)
        self.sobel = nn.ModuleList(
            [conv(features, features, 3, padding=1, groups=features, bias=False) for _ in range(spatial_dims)]
        )
        self.sobel_out = conv(features, features, 1)
        self.dropout = nn.Dropout(dropout_prob)
        with torch.no_grad():
            for axis, weight in enumerate(self.sobel.parameters()):
                weight.copy_(sobel_kernel(spatial_dims, axis).expand_as(weight))

    def forward(self, x: Tensor) -> Tensor:
        grown = torch.cat([x, functional.leaky_relu(self.grow(x), 0.2)], 1)  # (B, 2 * features, *spatial)
        dense = self.dropout(functional.leaky_relu(self.dense(grown), 0.2))
        edges = torch.zeros_like(x)
        for derivative in self.sobel:
            edges = edges + derivative(x).abs()
        return self.dropout(self.dense_out(dense) + self.sobel_out(edges))


class EHDRAN(nn.Module):
    """EH-DRAN: fuse two images by the features of an auto-encoder that is trained on single images.

    Source: "Edge-Enhanced Dilated Residual Attention Network for Multimodal Medical Image Fusion", Zhou et al., BIBM
    2024, arXiv 2411.11799. The paper's 0.50 M parameters are 500,801 with the tensors that its graph never uses; those
    that are used are 414,081, and only they are here. The 3D form is the same graph with 3D operators. Any size is
    taken, where the original needs even ones; the fused image is limited to [0, 1].

    It is trained in two stages: the auto-encoder learns by `reconstruct`; the fusion has nothing to learn.

    Args:
        spatial_dims: 2 or 3.
        features: channels of the features.
        rule: how features are fused, one of `RULES`.
        dropout_prob: in the edge branch.

    Raises:
        ValueError: another number of spatial dimensions or another rule; in `forward`, another shape.

    Example:
        >>> EHDRAN(features=4).eval()(torch.rand(1, 2, 9, 12)).shape
        torch.Size([1, 1, 9, 12])
    """

    def __init__(
        self, spatial_dims: int = 2, features: int = 64, rule: str = "nuclear", dropout_prob: float = 0.2
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims!r}")
        if rule not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}, found {rule!r}")
        conv = _CONV[spatial_dims]
        self.spatial_dims, self.rule, self.check_input = spatial_dims, rule, InputCheck()
        self.conv_in = conv(1, features, 1)
        self.pyramid = _Pyramid(spatial_dims, features)
        self.edges = _Edges(spatial_dims, features, dropout_prob)
        self.decoder = nn.Sequential(
            conv(features, features, 3, padding=1),
            nn.LeakyReLU(0.2),
            conv(features, max(1, features // 2), 3, padding=1),
            nn.LeakyReLU(0.2),
            conv(max(1, features // 2), 1, 3, padding=1),
        )

    def encode(self, image: Tensor) -> Tensor:
        """Return the features (B, features, *spatial) of single images (B, 1, *spatial)."""
        shallow = self.conv_in(image)  # (B, features, *spatial)
        x = image + pooled_gate(image) * shallow
        return pooled_gate(x) * self.pyramid(x) + x + self.edges(shallow)

    @torch.jit.export
    def reconstruct(self, image: Tensor) -> Tensor:
        """Return every channel as the auto-encoder gives it back.

        Args:
            image: (B, C, *spatial) in [0, 1]; the channels are single images.

        Returns:
            (B, C, *spatial), not limited.
        """
        single = image.flatten(0, 1).unsqueeze(1)  # (B * C, 1, *spatial)
        return self.decoder(self.encode(single)).reshape(image.shape)

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, *spatial) in [0, 1] to (B, 1, *spatial) in [0, 1]."""
        if image.dim() != self.spatial_dims + 2 or image.shape[1] != 2:
            raise ValueError(f"image must be (B, 2, {self.spatial_dims} axes), got shape {list(image.shape)}")
        if not torch.jit.is_scripting():
            self.check_input(image)
        features = self.encode(image.transpose(0, 1).flatten(0, 1).unsqueeze(1))  # (2 * B, features, *spatial)
        first, second = features.chunk(2, 0)
        return self.decoder(fuse_features(first, second, self.rule)).clamp(0, 1)
