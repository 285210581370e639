"""Terms whose sources are computed once: against the plain forms, by hand, and their gradients."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.functional.gradients import sobel_gradients
from clinicalfmamba_nets.losses import information_fidelity
from clinicalfmamba_nets.losses.box_fidelity import BoxFidelity
from clinicalfmamba_nets.losses.edges import SourceEdges, SourceTexture, edge_overshoot, edge_preservation
from clinicalfmamba_nets.losses.lone_structures import LoneStructures


def pair(size: int = 32, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Two smooth images, (1, 2, size, size)."""
    coarse = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def test_edges_at_once_are_the_two_terms():
    image = pair()
    fused = image.mean(1, keepdim=True)
    kept, over = SourceEdges(image)(fused)
    assert kept == edge_preservation(fused, image) and over == edge_overshoot(fused, image)


def test_box_fidelity_goes_with_the_gaussian_one():
    image = pair(64)
    shares = torch.linspace(0, 1, 6)
    lost, fidelity = [], []
    for share in shares:
        fused = share * image[:, :1] + (1 - share) * image[:, 1:]
        lost.append(BoxFidelity(image)(fused)[0].item())
        fidelity.append(1 - information_fidelity(fused, image).clamp_min(1e-3).sqrt().mean().item())
    assert torch.corrcoef(torch.tensor([lost, fidelity]))[0, 1] > 0.95


@pytest.mark.parametrize("step", [0.0, 0.1])
def test_structure_is_lost_by_noise_alone(step):
    image = pair(64)[:, :1].expand(1, 2, 64, 64)
    noise = step * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    information, structure = BoxFidelity(image)(image[:, :1] + noise)
    assert (structure.item() > 0.05) is (step > 0) and (information.item() > 0.2) is (step > 0)


@pytest.mark.parametrize("size", [(15, 32), (32, 8)])
def test_box_fidelity_needs_16_pixels(size):
    with pytest.raises(ValueError, match="at least 16 pixels"):
        BoxFidelity(torch.zeros(1, 2, *size))


@pytest.mark.parametrize("source", [0, 1])
@pytest.mark.parametrize("height", [-0.3, 0.3])
def test_a_lone_structure_is_wanted_of_either_source(source, height):
    image = torch.full((1, 2, 96, 96), 0.5)
    image[0, source, 40:56, 40:56] += height
    lacking = LoneStructures(image)
    assert lacking(image[:, source : source + 1]) == 0
    assert lacking(image[:, 1 - source : 2 - source]) > 0.001
    half = image.mean(1, keepdim=True)
    assert 0 < lacking(half) < lacking(image[:, 1 - source : 2 - source])


def test_what_both_show_is_not_lone():
    image = torch.full((1, 2, 96, 96), 0.5)
    image[0, 0, 40:56, 40:56], image[0, 1, 40:56, 40:56] = 0.9, 0.2  # one brighter, one darker: either may be shown
    assert LoneStructures(image)(torch.full((1, 1, 96, 96), 0.5)) == 0


def test_a_mesh_that_sobel_does_not_see_by_hand():
    image = torch.full((1, 2, 16, 16), 0.5)
    mesh = image[:, :1] + 0.1 * (torch.arange(16) % 2 - 0.5)
    assert sobel_gradients(mesh, "replicate")[..., 1:-1].abs().max() < 1e-6  # all but the border
    assert SourceTexture(image)(mesh).item() == pytest.approx(0.2 / (1 / 255) / 2, rel=1e-4)  # of two axes one
    assert SourceTexture(mesh.expand(1, 2, 16, 16))(mesh) == 0


@pytest.mark.parametrize("term", [lambda x: lambda f: sum(BoxFidelity(x)(f)), LoneStructures, SourceTexture])
def test_the_gradients_are_those_of_differences(term):
    image = pair(16, 3, torch.float64)
    fused = (0.3 * image[:, :1] + 0.7 * image[:, 1:]).add(0.02 * torch.rand_like(image[:, :1])).requires_grad_(True)
    assert torch.autograd.gradcheck(term(image), (fused,), eps=1e-7, atol=1e-5, rtol=1e-3, nondet_tol=0, fast_mode=True)
