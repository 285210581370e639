"""ClinicalFMamba: fuse two medical images with a CNN encoder, selective scans and cross-modal channel attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from clinicalfmamba_nets.blocks.channel_attention import CrossModalChannelAttention
from clinicalfmamba_nets.blocks.decoder import UpsampleConv
from clinicalfmamba_nets.blocks.dilated_gated_conv import DilatedGatedConv
from clinicalfmamba_nets.blocks.fusion_mamba import FusionMambaBlock
from clinicalfmamba_nets.blocks.heads import GainHead, MixHead, SigmoidHead
from clinicalfmamba_nets.blocks.hooks import watched
from clinicalfmamba_nets.blocks.layout import select, with_channels_last
from clinicalfmamba_nets.blocks.mamba import MambaBlock
from clinicalfmamba_nets.blocks.token_swap import TokenSwap
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.ranges import InputCheck
from clinicalfmamba_nets.nets.official import OFFICIAL_SCANS, official_block
from clinicalfmamba_nets.ops import convolves_maps, recording, scan_orders
from clinicalfmamba_nets.ops.scan_orders import FOUR_DIRECTIONS, PLANAR, TRI_PLANE

# scan: (paths of the single blocks, paths of the Fusion Mamba, spatial dimensions)
SCANS = {
    "four_directions": (FOUR_DIRECTIONS, FOUR_DIRECTIONS, 2),
    "tri_plane": (TRI_PLANE, TRI_PLANE, 3),
    "planar": (PLANAR, PLANAR, 3),
    **OFFICIAL_SCANS,
}
DILATIONS = (1, 3, 5)
HEADS = ("sigmoid", "gain", "mix")


class ClinicalFMamba(nn.Module):
    """Fuse two images of one anatomy on one grid into one image.

    Source: "ClinicalFMamba: Advancing Clinical Assessment using Mamba-based Multimodal Neuroimaging Fusion",
    arXiv 2508.03008, figure 1. The options default to the published 2D code with the three downsamplings of the paper;
    :func:`clinicalfmamba_3d` has those of the 3D network, whose scan is the tri-plane scan of the paper rather than
    the published code's (its reversed direction is added in reversed order). Two deliberate differences from that
    code: the encoder sees both images in one batch (so its batch statistics are common to them), and there are no
    parameters without a gradient.

    Args:
        spatial_dims: 2 or 3.
        num_down: downsamplings by 2 between the image and the tokens, 2 or 3.
        features: channels C0 at full resolution.
        dim: channels C of the tokens.
        depth: single Mamba blocks per image.
        decoder_depth: Mamba blocks in front of the decoder's convolutions.
        d_state: states per channel of the scans.
        scan: ``four_directions`` (2D), ``tri_plane``, ``planar`` (3D, the ablation without the 3D scan), ``official``
            or ``official_restored`` (3D, for imported checkpoints); None chooses the first of its dimension.
        token_swap: exchange channels between the images, twice.
        fusion_mamba: the cross scans and the linear map to the latent; without them the tokens are averaged.
        pyramid: of the dilated gated convolutions: ``shared``, ``separate`` or ``none``.
        cmca: cross-modal channel attention on the shallow features.
        cmca_kernel: its kernel size, 1 as in the code or 3 as in the paper.
        decoder_act: MONAI's name of the decoder's activation.
        decoder_orders: order of normalization (N) and activation (A) in each upsampling step.
        norm: MONAI's name of the normalization in encoder and decoder.
        head: ``sigmoid`` (published); ``gain``: the image is the sum of the inputs, each times a learned gain map;
            ``mix``: each pixel is a weighted mean of the two inputs, so it never leaves their range.
        return_weights: of ``mix``: the output has a second channel, the weight of the first image in [0, 1].
        channels_last: on a CPU, keep the channels of a pixel next to each other in memory: faster, and rounded
            differently (by 5e-5 in the tokens behind the cross scans, 5e-6 in the image).

    Raises:
        ValueError: options that contradict each other.

    Example:
        >>> net = ClinicalFMamba(spatial_dims=2, features=8, dim=32, depth=1, decoder_depth=1).eval()
        >>> net(torch.rand(1, 2, 40, 33)).shape
        torch.Size([1, 1, 40, 33])
    """

    __constants__ = ["token_swap", "fusion_mamba", "cmca", "channels_last"]

    def __init__(
        self,
        spatial_dims: int = 2,
        num_down: int = 3,
        *,
        features: int = 32,
        dim: int = 128,
        depth: int = 5,
        decoder_depth: int = 3,
        d_state: int = 8,
        scan: str | None = None,
        token_swap: bool = True,
        fusion_mamba: bool = True,
        pyramid: str = "shared",
        cmca: bool = True,
        cmca_kernel: int = 1,
        decoder_act: str | tuple = "relu",
        decoder_orders: tuple[str, ...] = ("NA", "AN", "N"),
        norm: str | tuple = "batch",
        head: str = "sigmoid",
        return_weights: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        scan = scan or {2: "four_directions", 3: "tri_plane"}.get(spatial_dims, "")
        _check_options(spatial_dims, num_down, scan, head, return_weights)
        _check_numbers(features=(features, 1), dim=(dim, 2), d_state=(d_state, 1))
        _check_numbers(depth=(depth, 0), decoder_depth=(decoder_depth, 0), cmca_kernel=(cmca_kernel, 1))
        if cmca_kernel % 2 == 0:
            raise ValueError(f"cmca_kernel: expected an odd number, found {cmca_kernel}")
        conv = Conv[Conv.CONV, spatial_dims]
        self.single_paths, self.cross_paths, _ = SCANS[scan]
        self.row_major = ["01" if spatial_dims == 2 else "012"]
        self.spatial_dims, self.stride = spatial_dims, 2**num_down
        self.token_swap, self.fusion_mamba, self.cmca = token_swap, fusion_mamba, cmca
        self.channels_last = channels_last
        self.check_input = InputCheck()

        widths = [features, dim // 2, dim]
        self.conv_in = conv(1, features, 3, padding=1)
        stages: list[nn.Module] = [conv(features, features, 2, stride=2)] if num_down == 3 else []
        for level, (width, dilation) in enumerate(zip(widths, DILATIONS, strict=True)):
            if level > 0:
                stages.append(conv(widths[level - 1], width, 2, stride=2))
            stages.append(DilatedGatedConv(spatial_dims, width, dilation, pyramid, norm))
        self.encoder = nn.Sequential(*stages)
        directions = len(self.single_paths)
        self.mamba_blocks = nn.ModuleList(
            official_block(scan, dim, d_state) if scan in OFFICIAL_SCANS else MambaBlock(dim, directions, d_state, 2)
            for _ in range(depth)
        )
        self.swap = TokenSwap(dim) if token_swap else nn.Identity()
        self.cross = FusionMambaBlock(dim, len(self.cross_paths), d_state) if fusion_mamba else nn.Identity()
        self.latent = nn.Linear(dim, dim) if fusion_mamba else nn.Identity()

        self.decoder_blocks = nn.ModuleList(MambaBlock(dim, 1, d_state, inner_norm=False) for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(dim) if decoder_depth > 0 else nn.Identity()
        steps = [(dim, dim // 2), (dim // 2, features), (features, features)][:num_down]
        self.upsampling = nn.Sequential(
            *(
                UpsampleConv(spatial_dims, width, narrower, order, decoder_act, norm)
                for (width, narrower), order in zip(steps, decoder_orders, strict=False)
            )
        )
        self.channel_attention = (
            CrossModalChannelAttention(spatial_dims, features, cmca_kernel) if cmca else nn.Identity()
        )
        self.head = _make_head(head, spatial_dims, features, return_weights)

    def forward(self, image: Tensor) -> Tensor:
        """Fuse a batch of image pairs.

        Args:
            image: (B, 2, *S) in [0, 1], channel 0 the anatomical image (MRI); every size from 2^num_down up.

        Returns:
            The fused images, (B, 1, *S) in [0, 1]; with ``return_weights`` (B, 2, *S), weights of the MRI second.

        Raises:
            ValueError: no tensor, not two channels, not ``spatial_dims`` sizes above 0, or no floating-point values.
        """
        if not isinstance(image, Tensor):
            raise ValueError(f"image: expected a tensor (B, 2, *S), found {type(image)}; torch.as_tensor makes one")
        if image.dim() != self.spatial_dims + 2 or image.shape[1] != 2:
            raise ValueError(f"image: expected (B, 2, *S) with {self.spatial_dims} sizes, found {image.shape}")
        if min(image.shape[2:]) < 1:
            raise ValueError(f"image: expected sizes of at least 1, found {image.shape}")
        if not image.is_floating_point():
            raise ValueError(
                f"image: expected floating-point values in [0, 1], found {image.dtype}; divide by its white"
            )
        if not torch.jit.is_scripting():
            self.check_input(image)
        return self.head(self._features(image), image)

    def _features(self, image: Tensor) -> Tensor:
        """Decoded features with what the images exchange: (B, 2, *S) -> (B, C0, *S); all else is freed on return."""
        channels_last = self.channels_last and image.device.type == "cpu" and self._keeps_order(image)
        batch, images = image.shape[0], torch.cat([image[:, 0], image[:, 1]])  # (2B, *S), MRI first
        shallow = self.conv_in(with_channels_last(images) if channels_last else images.unsqueeze(1))  # (2B, C0, *S)
        f_x, f_y = shallow.split([batch, batch])
        deep = self.encoder(self._pad(shallow))  # (2B, C, *S / stride)
        grid = deep.shape[2:]
        tokens = deep.flatten(2).transpose(1, 2).contiguous()  # (2B, L, C)
        tokens = tokens.unflatten(0, [2, batch])  # (2, B, L, C)
        fused = self._mix(tokens, grid)  # (B, L, C)
        fused = fused.transpose(1, 2) if channels_last else fused.transpose(1, 2).contiguous()
        decoded = self.upsampling(fused.unflatten(2, grid))  # (B, C0, *S padded)
        decoded = self._crop(decoded, shallow.shape[2:])  # (B, C0, *S)
        if self.cmca:
            decoded = self.channel_attention(decoded, f_x, f_y, self._owns_decoded())
        return decoded

    def _owns_decoded(self) -> bool:
        """Whether nobody else reads the decoded maps: neither a gradient nor a hook."""
        if torch.jit.is_scripting():
            return False
        if torch.is_grad_enabled() or recording():
            return False
        return not any(map(watched, [*self.upsampling.modules(), self.channel_attention]))

    def _keeps_order(self, image: Tensor) -> bool:
        """Whether channels may come last: in a recorded graph, only where the kernels for such maps are in it."""
        if torch.jit.is_scripting():
            return True
        return not recording() or convolves_maps(image.new_empty([1, 16] + [1] * self.spatial_dims))

    def _mix(self, tokens: Tensor, grid: list[int]) -> Tensor:
        """Single blocks, token swap, Fusion Mamba and the decoder's blocks: (2, B, L, C) -> (B, L, C)."""
        single = scan_orders(grid, self.single_paths, tokens.device)  # (K, L)
        cross = scan_orders(grid, self.cross_paths, tokens.device)
        row_major = scan_orders(grid, self.row_major, tokens.device)  # (1, L)
        residual = tokens
        for block in self.mamba_blocks:
            tokens = block(tokens, single)
        if self.token_swap:
            tokens, residual = self.swap(tokens, residual, row_major)
            tokens, residual = self.swap(tokens, residual, row_major)
        if self.fusion_mamba:
            tokens = self.cross(tokens, cross)
        fused = self.latent(tokens.mean(0)).unsqueeze(0)  # (1, B, L, C)
        for block in self.decoder_blocks:
            fused = block(fused, row_major)
        return self.decoder_norm(fused[0])

    def _pad(self, features: Tensor) -> Tensor:
        """Repeat the last row, column (and slice) up to a multiple of the stride."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript drops only a branch that stands alone)
            if torch.compiler.is_exporting():  # bounds of symbolic sizes survive this, and choosing rows is slow
                sides: list[int] = []
                for axis in range(features.dim() - 1, 1, -1):
                    sides += [0, -features.shape[axis] % self.stride]
                return F.pad(features, sides, mode="replicate")
        for axis in range(2, features.dim()):
            size = features.shape[axis]
            if torch.jit.is_tracing():  # several times faster than to choose rows; of every size, 0 among them
                missing = (size + self.stride - 1) // self.stride * self.stride - size
                sizes = list(features.shape)
                sizes[axis] = missing
                features = torch.cat([features, features.narrow(axis, size - 1, 1).expand(sizes)], axis)
            elif recording() or size % self.stride != 0:
                padded = (size + self.stride - 1) // self.stride * self.stride
                rows = torch.arange(padded, device=features.device).clamp(max=size - 1)
                features = select(features, axis, rows)
        return features

    def _crop(self, features: Tensor, shape: list[int]) -> Tensor:
        """Cut what :meth:`_pad` added."""
        for axis in range(2, features.dim()):
            size = shape[axis - 2]
            if torch.jit.is_tracing():
                features = features.narrow(axis, 0, size)  # no copy where nothing was added
            elif recording() or features.shape[axis] != size:
                features = select(features, axis, torch.arange(size, device=features.device))
        return features


def clinicalfmamba_2d(**options) -> ClinicalFMamba:
    """The 2D network of the paper: three downsamplings, for images of about 256 x 256 pixels.

    The weights that come with the bundle ``fusion_2d`` (``models/model.pt`` and the other tasks') are those of
    ``head="mix"``: ``clinicalfmamba_2d(head="mix").load_state_dict(torch.load("models/model.pt"))``. Those of version
    0.1 are of ``head="gain"``.

    Args:
        options: passed on to :class:`ClinicalFMamba`; ``num_down=2`` is the published code's form for 128 x 128.

    Returns:
        The network with random weights.

    Example:
        >>> sum(p.numel() for p in clinicalfmamba_2d().parameters())
        3168961
    """
    return ClinicalFMamba(**{"spatial_dims": 2, **options})


def clinicalfmamba_3d(**options) -> ClinicalFMamba:
    """The 3D network of the paper: tri-plane scan, no token swap, a decoder without Mamba, no pyramid convolutions.

    The weights that come with the bundle ``fusion_3d`` (``models/model.pt``) are those of ``head="mix"``.

    Args:
        options: passed on to :class:`ClinicalFMamba`.

    Returns:
        The network with random weights.

    Example:
        >>> clinicalfmamba_3d(dim=32, depth=1).spatial_dims
        3
    """
    published = {
        "spatial_dims": 3,
        "decoder_depth": 0,
        "token_swap": False,
        "pyramid": "none",
        "decoder_act": ("leakyrelu", {"negative_slope": 0.2}),
        "decoder_orders": ("NA", "NA", "N"),
    }
    return ClinicalFMamba(**{**published, **options})


def _make_head(name: str, spatial_dims: int, features: int, return_weights: bool) -> nn.Module:
    if name == "mix":
        return MixHead(spatial_dims, features, return_weights)
    return (SigmoidHead if name == "sigmoid" else GainHead)(spatial_dims, features)


def _check_numbers(**options: tuple[object, int]) -> None:
    """Refuse an option that is no whole number of at least the one beside it."""
    for name, (value, least) in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: expected a whole number of at least {least}, found {value!r}")


def _check_options(spatial_dims: int, num_down: int, scan: str, head: str, return_weights: bool) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims: expected 2 or 3, found {spatial_dims}")
    if num_down not in (2, 3):
        raise ValueError(f"num_down: expected 2 or 3, found {num_down}")
    fitting = [name for name, entry in SCANS.items() if entry[2] == spatial_dims]
    if scan not in fitting:
        raise ValueError(f"scan: expected one of {', '.join(fitting)} for {spatial_dims}D, found {scan!r}")
    if head not in HEADS:
        raise ValueError(f"head: expected one of {', '.join(HEADS)}, found {head!r}")
    if return_weights and head != "mix":
        remedy = "leave the weight map out, or choose weights of head mix"
        raise input_error("return_weights", "head mix", f"head {head}", remedy)
