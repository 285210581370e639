"""Import of checkpoints that the published ClinicalFMamba code has written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from clinicalfmamba_nets.nets.clinicalfmamba import ClinicalFMamba, clinicalfmamba_2d, clinicalfmamba_3d

# Tensors of the published graph that no output depends on.
_DEAD = re.compile(
    r"mambaenc\.(layernorm1|shallow_fusion[12])\."
    r"|recon\.(conv_in|cross_channel_excitation\.block\.\d+)\."
    r"|recon\.mambab\.\d+\.block\.norm\."
)
_DIRECTIONS = ("", "_b", "_c", "_d", "_e", "_f", "_g", "_h")
_UNUSED_DIRECTION = re.compile(r"\.block\.(A|D|conv1d|x_proj|dt_proj)_[b-h](_log|\.|$)")
# Decoder: position in the published Sequential -> part of our upsampling step.
_DECODER_2D = {1: "0.conv", 2: "0.after.0", 5: "1.conv", 7: "1.after.1", 9: "2.conv", 10: "2.after.0"}
_DECODER_3D = {1: "0.conv", 2: "0.after.0", 5: "1.conv", 6: "1.after.0", 9: "2.conv", 10: "2.after.0"}
_GATED_CONV = {
    "norm1": "norm1",
    "norm2": "norm2",
    "norm3": "norm3",
    "norm4": "pyramid.0",
    "conv_proj1": "conv3",
    "conv_proj2": "conv1",
    "conv_expand": "dilated",
    "conv_pyramid": "pyramid.2.conv",
}


def from_official_state_dict(
    state_dict: Mapping[str, Tensor], spatial_dims: int, scan: str | None = None
) -> ClinicalFMamba:
    """Build the network of a published checkpoint, with its weights.

    Source: the published code (commit 0ceaaf1). Tensors that its graph never uses are dropped by name. The number of
    downsamplings follows from the decoder's tensors and the depth from the numbered layers.

    Args:
        state_dict: of the published ``MambaFuse`` network (a ``module.`` prefix is removed).
        spatial_dims: 2 or 3.
        scan: in 3D ``official`` (default: the reversed direction added in reversed order, as published) or
            ``official_restored`` (that direction put back in place).

    Returns:
        A :class:`ClinicalFMamba` in evaluation mode, without ``channels_last``: it rounds as the published code does.

    Raises:
        ValueError: a tensor is missing, unknown, or has another shape; the message names it.

    Example:
        >>> from_official_state_dict({}, spatial_dims=2)
        Traceback (most recent call last):
        ...
        ValueError: published checkpoint: expected tensor 'recon.recon_conv.1.weight', found none
    """
    source = _Source(state_dict)
    decoder = _DECODER_2D if spatial_dims == 2 else _DECODER_3D
    num_down = 3 if f"recon.recon_conv.{max(decoder)}.weight" in source.tensors else 2
    depth = source.count(r"mambaenc\.x_mamba_layers\.(\d+)\.")
    source.take("recon.recon_conv.1.weight", keep=True)
    if spatial_dims == 2:
        decoder_depth = source.count(r"recon\.mambab\.(\d+)\.")
        net = clinicalfmamba_2d(num_down=num_down, depth=depth, decoder_depth=decoder_depth, channels_last=False)
    else:
        net = clinicalfmamba_3d(depth=depth, scan=scan or "official", channels_last=False)
    converted: dict[str, Tensor] = {}
    for name, value in _convert(source, net, num_down, decoder):
        converted[name] = value
    source.check_empty(num_down)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in converted.items()}
    for name in sorted(shapes.keys() | found.keys()):
        ours, theirs = shapes.get(name, "none"), found.get(name, "none")
        if ours != theirs:
            raise ValueError(f"published checkpoint: expected shape {ours} for {name!r}, found {theirs}")
    net.load_state_dict(converted)
    return net.eval()


class _Source:
    """The published tensors that are still to be used."""

    def __init__(self, state_dict: Mapping[str, Tensor]) -> None:
        self.tensors = {name.removeprefix("module."): torch.as_tensor(value) for name, value in state_dict.items()}

    def take(self, name: str, keep: bool = False) -> Tensor:
        if name not in self.tensors:
            raise ValueError(f"published checkpoint: expected tensor {name!r}, found none")
        return self.tensors[name] if keep else self.tensors.pop(name)

    def module(self, source: str, target: str) -> Iterator[tuple[str, Tensor]]:
        """All tensors below one published module, under our name."""
        names = [name for name in self.tensors if name.startswith(source + ".")]
        if not names:
            raise ValueError(f"published checkpoint: expected tensors below {source!r}, found none")
        for name in names:
            yield target + name.removeprefix(source), self.take(name)

    def count(self, pattern: str) -> int:
        found = [int(match[1]) for name in self.tensors if (match := re.match(pattern, name))]
        return max(found, default=-1) + 1

    def check_empty(self, num_down: int) -> None:
        for name in self.tensors:
            unused = num_down == 2 and name.startswith("mambaenc.downsample1.")
            if not (unused or _DEAD.match(name) or _UNUSED_DIRECTION.search(name)):
                raise ValueError(f"published checkpoint: unknown tensor {name!r}")


def _convert(
    source: _Source, net: ClinicalFMamba, num_down: int, decoder: dict[int, str]
) -> Iterator[tuple[str, Tensor]]:
    """Pairs of our name and the tensor."""
    yield from source.module("mambaenc.conv_in", "conv_in")
    position = 0
    for level in (1, 2, 3):
        if level > 1 or num_down == 3:
            yield from source.module(f"mambaenc.downsample{level}.conv", f"encoder.{position}")
            position += 1
        for theirs, ours in _GATED_CONV.items():
            if net.spatial_dims == 2 or theirs not in ("norm4", "conv_pyramid"):
                yield from source.module(f"mambaenc.dgc{level}.{theirs}", f"encoder.{position}.{ours}")
        position += 1
    for i in range(len(net.mamba_blocks)):
        layers = [f"mambaenc.{image}_mamba_layers.{i}" for image in "xy"]
        yield from _norm(source, [f"{layer}.norm" for layer in layers], f"mamba_blocks.{i}.norm")
        yield from _mamba(source, [f"{layer}.block" for layer in layers], f"mamba_blocks.{i}.mamba", net.single_paths)
    if net.token_swap:
        yield from _norm(source, ["mambaenc.channel_mix.norm1", "mambaenc.channel_mix.norm2"], "swap.norm")
        mixers = ["mambaenc.channel_mix.I1encoder", "mambaenc.channel_mix.I2encoder"]
        yield from _mamba(source, mixers, "swap.mamba", net.row_major, inner_norm=False)
    cross = [f"mambaenc.{image}_cross_mamba" for image in "xy"]
    yield from _norm(source, [f"{block}.norm0" for block in cross], "cross.norm")
    yield from _norm(source, [f"{block}.norm1" for block in cross], "cross.guide_norm")
    yield from _mamba(source, [f"{block}.block" for block in cross], "cross.mamba", net.cross_paths, cross=True)
    yield from source.module("mambaenc.out_proj", "latent")
    for i in range(len(net.decoder_blocks)):
        yield from _norm(source, [f"recon.mambab.{i}.norm"], f"decoder_blocks.{i}.norm")
        target = f"decoder_blocks.{i}.mamba"
        yield from _mamba(source, [f"recon.mambab.{i}.block"], target, net.row_major, inner_norm=False)
    if len(net.decoder_blocks) > 0:
        yield from source.module("recon.layernorm", "decoder_norm")
    for position, ours in decoder.items():
        if int(ours[0]) < num_down:
            yield from source.module(f"recon.recon_conv.{position}", f"upsampling.{ours}")
    yield from source.module("recon.cross_channel_excitation.convin", "channel_attention.reference")
    yield from source.module("recon.cross_channel_excitation.convin2", "channel_attention.query")
    yield from source.module("recon.recon_conv2", "head.conv")


def _norm(source: _Source, modules: list[str], target: str) -> Iterator[tuple[str, Tensor]]:
    """One normalization per stream -> a stacked one."""
    for leaf in ("weight", "bias"):
        yield f"{target}.{leaf}", torch.stack([source.take(f"{module}.{leaf}") for module in modules])


def _mamba(
    source: _Source, modules: list[str], target: str, paths: list[str], inner_norm: bool = True, cross: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """One published Mamba per stream, its directions told by suffixes -> a stacked :class:`DirectionalMamba`."""
    suffixes = _DIRECTIONS[: len(paths)]

    def stacked(pattern: str) -> Tensor:  # (S, K, ...)
        return torch.stack([torch.stack([source.take(f"{m}.{pattern.format(s)}") for s in suffixes]) for m in modules])

    yield f"{target}.conv_weight", stacked("conv1d{}.weight").squeeze(3)
    yield f"{target}.conv_bias", stacked("conv1d{}.bias")
    yield f"{target}.x_proj", stacked("x_proj{}.weight")
    yield f"{target}.dt_weight", stacked("dt_proj{}.weight")
    yield f"{target}.dt_bias", stacked("dt_proj{}.bias")
    yield f"{target}.A_log", stacked("A{}_log")
    yield f"{target}.D", stacked("D{}")
    shared = {"in_proj": "in_proj", "out_proj": "out_proj", **({"in_proj_b": "guide_proj"} if cross else {})}
    for theirs, ours in shared.items():
        yield f"{target}.{ours}.weight", torch.stack([source.take(f"{module}.{theirs}.weight") for module in modules])
    if inner_norm:
        yield from _norm(source, [f"{module}.norm" for module in modules], f"{target}.norm")
