"""What a network says of images that are not in [0, 1]: once, in its own forward alone, never in a recorded graph."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

from clinicalfmamba_nets import nets
from clinicalfmamba_nets.errors import FusionWarning

SMALL = {"features": 4, "dim": 16, "depth": 1, "d_state": 4}
NETWORKS = {
    "2d": lambda: nets.clinicalfmamba_2d(**SMALL, decoder_depth=1),
    "2d mix": lambda: nets.clinicalfmamba_2d(**SMALL, decoder_depth=1, head="mix"),
    "3d": lambda: nets.clinicalfmamba_3d(**SMALL),
    "average": nets.AverageFusion,
    "maximum": nets.MaximumFusion,
    "ehdran": lambda: nets.EHDRAN(features=4),
    "fusionmamba": lambda: nets.FusionMamba(widths=(8, 16, 32, 64), depths=(1, 1, 1, 1), d_state=2),
    "mambadfuse": lambda: nets.MambaDFuse(channels=8, d_state=2, depth=1, fusion_depth=1),
    "mrsc_fusion": lambda: nets.MRSCFusion(widths=(8, 8, 8, 8), heads=2, depth=1),
    "swin_fusion": lambda: nets.SwinFusion(channels=8, heads=2, depth=1, fusion_depths=(1,)),
}


def _pair(name: str) -> torch.Tensor:
    shape = (1, 2, 12, 13, 9) if name == "3d" else (1, 2, 24, 19)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_images_in_0_to_255_are_told_once_and_those_of_a_training_not(name) -> None:
    net, image = NETWORKS[name]().eval(), _pair(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FusionWarning)
        net(image)
        net(1.2 * image - 0.1)  # a training's augmentation
    with pytest.warns(FusionWarning) as told:
        net(255 * image)
        net(255 * image)
    assert len(told) == 1 and told[0].filename == __file__
    assert "image: expected values from 0 to 1, found 0." in str(told[0].message)
    assert "divide by 255 if that is white" in str(told[0].message)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: 2 * image - 1, r"found -\d.*; scale them"),
        (lambda image: 2000 * image - 1000, r"found -99.* to 99.*; scale them"),
        (lambda image: 3000 * image, "divide by 4095"),
        (lambda image: image / 0, "found NaN or infinity; scale them"),
        (lambda image: image.masked_fill(image > 0.9, torch.nan), "found NaN or infinity"),
    ],
)
@torch.no_grad()
def test_the_remedy_fits_the_values(change, words) -> None:
    with pytest.warns(FusionWarning, match=words):
        nets.AverageFusion()(change(_pair("average")))


@torch.no_grad()
def test_half_precision_copies_transforms_and_empty_batches_pass() -> None:
    net, image = nets.AverageFusion(), _pair("average")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FusionWarning)
        net(image.bfloat16())
        net(image[:0])
        net(image.to("meta"))
        torch.vmap(net)(torch.stack([image, 255 * image]))  # whose values cannot be looked at
    with pytest.warns(FusionWarning):
        copy.deepcopy(net)(255 * image.half())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_recorded_graphs_hold_nothing_of_it() -> None:
    net, image = NETWORKS["2d"]().eval(), 255 * _pair("2d")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FusionWarning)
        scripted = torch.jit.script(net)
        scripted(image)
        graphs = [scripted.graph, torch.jit.trace(net, image, check_trace=False).graph]
        graphs.append(torch.export.export(net, (image,)).graph)
    assert not any("aminmax" in str(graph) or "check_input" in str(graph) for graph in graphs)
