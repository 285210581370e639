"""The smooth edge measures and the differentiable VIF against the metrics, their bounds and their gradients."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.losses.edges import edge_overshoot, edge_preservation
from clinicalfmamba_nets.losses.information import information_fidelity
from clinicalfmamba_nets.metrics import compute_qabf, compute_vif


def blobs(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images in [0, 1], in float64."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(shape[0], shape[1], *[max(4, size // 6) for size in shape[2:]], generator=generator)
    mode = "bilinear" if len(shape) == 4 else "trilinear"
    return torch.nn.functional.interpolate(coarse.double(), shape[2:], mode=mode, align_corners=False)


@pytest.mark.parametrize("shape", [(2, 2, 48, 40), (1, 2, 24, 20, 18)])
def test_a_copy_of_both_sources_is_best_and_an_inverted_one_worst(shape):
    source = blobs(*shape)[:, :1]
    image = source.expand(-1, 2, *source.shape[2:])
    assert edge_preservation(source, image) > 0.75 > edge_preservation(1 - source, image)
    assert edge_preservation(1 - source, image) < 0.05
    assert edge_overshoot(source, image) == 0
    assert torch.allclose(information_fidelity(source, image), torch.ones(shape[0], 2), atol=2e-3)


def test_the_order_of_images_is_that_of_qabf():
    first, second = blobs(1, 1, 64, 64), blobs(1, 1, 64, 64, seed=3)
    image = torch.cat([first, second], 1)
    fused = [image.mean(1, keepdim=True), image.amax(1, keepdim=True), 0.2 * first + 0.8 * second]
    smooth = [edge_preservation(one, image).item() for one in fused]
    exact = [compute_qabf(one, first, second).value.item() for one in fused]
    assert sorted(range(3), key=smooth.__getitem__) == sorted(range(3), key=exact.__getitem__)


def test_information_is_the_metric():
    first, second = blobs(1, 1, 64, 56), blobs(1, 1, 64, 56, seed=5)
    fused = torch.maximum(first, second)
    scores = compute_vif(fused, first, second)
    found = information_fidelity(fused, torch.cat([first, second], 1))[0]
    assert found[0].item() == pytest.approx(scores.a.item(), abs=2e-3)
    assert found[1].item() == pytest.approx(scores.b.item(), abs=2e-3)


def test_sharpening_overshoots_and_smoothing_does_not():
    image = blobs(1, 2, 40, 40)
    sharp = (image[:, :1] - 0.5) * 2 + 0.5
    assert edge_overshoot(sharp, image[:, :1].expand(1, 2, 40, 40)) > 0.5
    assert edge_overshoot((image[:, :1] - 0.5) / 2 + 0.5, image[:, :1].expand(1, 2, 40, 40)) == 0


@pytest.mark.parametrize("term", [edge_preservation, edge_overshoot])
def test_gradients_are_those_of_differences(term):
    image = blobs(1, 2, 7, 8)
    fused = (0.4 * image[:, :1] + 0.6 * image[:, 1:] + 0.05 * torch.rand(1, 1, 7, 8).double()).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: term(x, image), (fused,), eps=1e-7, atol=1e-4, rtol=1e-3)


def test_the_gradient_of_information_climbs_and_is_finite_on_flat_images():
    image = blobs(1, 2, 32, 32).float()
    fused = image.mean(1, keepdim=True).requires_grad_(True)
    before = information_fidelity(fused, image).sum()
    (slope,) = torch.autograd.grad(before, fused)
    after = information_fidelity(fused.detach() + 1e-3 * slope / slope.abs().max(), image).sum()
    assert after > before
    flat = torch.full((1, 1, 32, 32), 0.3, requires_grad=True)
    for term in (lambda x: information_fidelity(x, image).sum(), lambda x: edge_preservation(x, image * 0)):
        assert torch.isfinite(torch.autograd.grad(term(flat), flat)[0]).all()


def test_a_small_image_is_refused():
    with pytest.raises(ValueError, match="at least 17 pixels"):
        information_fidelity(torch.rand(1, 1, 16, 40), torch.rand(1, 2, 16, 40))
