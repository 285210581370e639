"""The comparison networks: their published sizes, any image size, TorchScript, gradients, and that they learn."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets import nets
from clinicalfmamba_nets.losses import FusionLoss

# Small forms of each network.
SMALL = {
    "SwinFusion": {"channels": 12, "heads": 3, "depth": 2, "fusion_depths": (2,)},
    "MambaDFuse": {"channels": 8, "depth": 2, "fusion_depth": 2, "d_state": 8},
    "MRSCFusion": {"widths": (8, 8, 8, 8), "heads": 2, "depth": 2},
    "FusionMamba": {"widths": (8, 16, 32, 64), "depths": (1, 1, 1, 1), "d_state": 8},
}
# Parameters here, and those of the published graph that it never uses.
PUBLISHED = {
    "SwinFusion": (965_251, (30 + 9 * 30) + (30 + 9 * 30 * 30)),
    "MambaDFuse": (1_347_271, 0),
    # A 3x3 and a 1x1 convolution of each scale that the graph's description does not place.
    "MRSCFusion": (22_150_073, sum(9 * c * c + c + 2 * c * c + c for c in (64, 112, 160, 208))),
    # The DFFM of the first stage, and a 1x1 convolution of each of the others.
    "FusionMamba": (163_819_456, 331_445 + sum(c * c // 2 + c // 2 for c in (192, 384, 768))),
}
TOTALS = {"SwinFusion": 973_681, "MambaDFuse": 1_347_271, "MRSCFusion": 23_091_705, "FusionMamba": 164_538_645}


def small(name, **options):
    torch.manual_seed(0)
    return getattr(nets, name)(**{**SMALL[name], **options}).eval()


def pair(*size, batch=1):
    """Two smooth images with an edge each, (batch, 2, *size)."""
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, length) for length in size), indexing="ij")
    first = 0.2 + 0.6 * (rows > 0.4) * columns
    second = 0.8 * ((rows - 0.5).square() + (columns - 0.5).square() < 0.1) + 0.1 * rows
    return torch.stack([first, second]).expand(batch, -1, -1, -1).clone()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_the_published_graph_uses(name):
    with torch.device("meta"):
        live = sum(value.numel() for value in getattr(nets, name)().parameters())
    assert (live, live + PUBLISHED[name][1]) == (PUBLISHED[name][0], TOTALS[name])


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(16, 24), (15, 9), (3, 5), (1, 2)])
def test_any_size_in_range_and_independent_of_the_batch(name, size):
    network, image = small(name).double(), torch.rand(2, 2, *size, dtype=torch.float64)
    with torch.no_grad():
        fused = network(image)
        torch.testing.assert_close(network(image[1:]), fused[1:], atol=1e-9, rtol=0)
    assert fused.shape == (2, 1, *size)
    assert fused.min() >= 0 and fused.max() <= 1


@pytest.mark.parametrize("name", SMALL)
def test_padding_does_not_change_an_image_that_fits(name):
    network, image = small(name).train(), pair(16, 16)
    wider = torch.cat([image, image.flip(3)], 3)  # mirrored to twice the width, as the padding would
    with torch.no_grad():
        assert network(image).shape == (1, 1, 16, 16) and network(wider).shape == (1, 1, 16, 32)
        assert torch.isfinite(network(wider)).all()


@pytest.mark.parametrize("name", SMALL)
def test_script_is_equal(name):
    network, image = small(name).double(), torch.rand(1, 2, 13, 18, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    network = small(name).train()
    network(torch.rand(1, 2, 65, 70)).square().sum().backward()
    dead = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not dead


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_those_of_the_slope(name):
    network, image = small(name).double().train(), pair(9, 10).double()
    value = next(iter(network.parameters()))
    network(image).sum().backward()
    direction, step = torch.randn_like(value), 1e-5
    sums = []
    with torch.no_grad():
        for sign in (1, -2):
            value.add_(sign * step * direction)
            sums.append(network(image).sum().item())
    slope = (sums[0] - sums[1]) / (2 * step)
    assert slope == pytest.approx((value.grad * direction).sum().item(), rel=1e-4, abs=1e-7)


@pytest.mark.slow
def test_fusionmamba_begins_to_learn_one_pair():
    """It has no skip from its images to its result: 300 steps bring 59 to 14, where the average image has 7.7."""
    network, image, loss = small("FusionMamba").train(), pair(24, 24), FusionLoss()
    first = loss(network(image), image).item()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(network(image), image)
        value.backward()
        optimizer.step()
    assert value.item() < first / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SMALL) - {"FusionMamba"}))
def test_it_learns_one_pair_better_than_the_average_image(name):
    network, image, loss = small(name).train(), pair(24, 24), FusionLoss()
    average = loss(image.mean(1, keepdim=True), image).item()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        value = loss(network(image), image)
        value.backward()
        optimizer.step()
    assert value.item() < average


def test_mrsc_fusion_in_its_two_stages():
    network, image = small("MRSCFusion"), torch.rand(2, 2, 20, 33)
    with torch.no_grad():
        back = nets.SingleImageReconstruction(network)(image)
        torch.testing.assert_close(network.reconstruct(image[:1, 1:]), back[:1, 1:], atol=1e-5, rtol=0)
        stage = nets.MRSCFusionStage(network)
        torch.testing.assert_close(stage(image).clamp(0, 1), network(image), atol=1e-5, rtol=0)
    assert back.shape == image.shape
    assert [tuple(fused.shape) for fused, _, _ in stage.features] == [(2, 8, 64 // 2**n, 64 // 2**n) for n in range(4)]
    assert all(first.shape == fused.shape == second.shape for fused, first, second in stage.features)


@pytest.mark.parametrize("name", SMALL)
def test_other_shapes_are_refused(name):
    for shape in ((1, 3, 16, 16), (1, 2, 16), (1, 2, 4, 4, 4)):
        with pytest.raises(ValueError, match=r"image must be \(B, 2, H, W\), got shape"):
            small(name)(torch.rand(shape))


def test_fusionmamba_in_the_form_of_the_paper():
    network, image = small("FusionMamba", form="paper"), torch.rand(1, 2, 20, 70)
    with torch.no_grad():
        fused = network(image)
        assert fused.shape == (1, 1, 20, 70)
        torch.testing.assert_close(torch.jit.script(network)(image), fused, atol=2e-5, rtol=0)
    assert sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in small("FusionMamba").parameters())
    with pytest.raises(ValueError, match="form: expected one of code, paper, found 'both'"):
        small("FusionMamba", form="both")
