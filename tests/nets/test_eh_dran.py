"""EH-DRAN: its size, its graph at any size, its fusion rules against numbers worked out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from clinicalfmamba_nets.nets import EHDRAN, SingleImageReconstruction
from clinicalfmamba_nets.nets.eh_dran import RULES, fuse_features, nuclear_norms, pooled_gate


def small(dims=2, **options):
    torch.manual_seed(0)
    return EHDRAN(spatial_dims=dims, features=4, **options).eval()


def test_parameters_are_those_that_the_published_graph_uses():
    live = sum(value.numel() for value in EHDRAN().parameters())
    unused = (192 * 64 + 64) + 2 * (64 * 64 * 9 + 64) + 4 * 128  # a 1x1 convolution, two 3x3, four norms
    assert (live, live + unused) == (414_081, 500_801)


def test_every_parameter_gets_a_gradient():
    network = small().train()
    network.reconstruct(torch.rand(2, 2, 12, 12)).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in network.parameters())


@pytest.mark.parametrize("spatial", [(16, 16), (15, 22), (1, 7), (8, 10, 6), (7, 5, 9)])
@pytest.mark.parametrize("rule", RULES)
def test_any_size_in_range_and_independent_of_the_batch(spatial, rule):
    network, image = small(len(spatial), rule=rule), torch.rand(2, 2, *spatial)
    with torch.no_grad():
        fused = network(image)
        torch.testing.assert_close(network(image[1:]), fused[1:], atol=1e-5, rtol=0)
    assert fused.shape == (2, 1, *spatial)
    assert fused.min() >= 0 and fused.max() <= 1


@pytest.mark.parametrize("rule", RULES)
def test_script_is_equal(rule):
    network, image = small(rule=rule), torch.rand(1, 2, 13, 10)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize("rule", ["nuclear", "average", "maximum", "l1"])
def test_an_image_with_itself_is_its_reconstruction(rule):
    network, image = small(rule=rule), torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        alone = SingleImageReconstruction(network)(image).clamp(0, 1)
        torch.testing.assert_close(network(image.expand(1, 2, 12, 12)), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 9, 5), (1, 2, 4, 7, 3)])
def test_nuclear_norms_are_those_of_numpy(shape):
    features = np.random.default_rng(0).normal(size=shape)
    flat = features.reshape(*shape[:3], -1)
    expected = [[np.linalg.norm(channel, "nuc") for channel in sample] for sample in flat]
    np.testing.assert_allclose(nuclear_norms(torch.from_numpy(features)), expected, rtol=1e-6)


def test_the_nuclear_rule_by_hand():
    # Softmax over two channels: first 1/2, 1/2 everywhere; second 3/4, 1/4. A constant c on 2 x 2 has the norm 2c.
    first = torch.zeros(1, 2, 2, 2)
    second = torch.stack([torch.full((2, 2), float(np.log(3))), torch.zeros(2, 2)])[None]
    share = 1.0**2 / (1.0**2 + 1.5**2)
    torch.testing.assert_close(fuse_features(first, second), (1 - share) * second)


def test_the_l1_rule_against_scipy():
    pair = np.random.default_rng(1).normal(size=(2, 3, 6, 7))
    inside = ndimage.uniform_filter(np.ones((6, 7)), 3, mode="constant")
    a, b = (ndimage.uniform_filter(np.abs(part).sum(0), 3, mode="constant") / inside for part in pair)
    expected = (a * pair[0] + b * pair[1]) / (a + b)
    fused = fuse_features(*torch.from_numpy(pair)[:, None], "l1")[0]
    np.testing.assert_allclose(fused, expected, rtol=1e-6)


def test_simple_rules():
    a, b = torch.tensor([[[[1.0]]]]), torch.tensor([[[[3.0]]]])
    assert [fuse_features(a, b, rule).item() for rule in ("add", "average", "maximum")] == [4, 2, 3]


def test_the_gate_averages_blocks_and_odd_ends():
    image = torch.tensor([[1.0, 3.0, -5.0], [5.0, 7.0, 1.0], [2.0, 4.0, 6.0]])[None, None]
    expected = torch.tensor([[4.0, 4.0, 0.0], [4.0, 4.0, 0.0], [3.0, 3.0, 6.0]])
    torch.testing.assert_close(pooled_gate(image)[0, 0], expected)


def test_the_derivatives_start_as_sobel():
    network = small(2)
    ramp = torch.arange(6.0).expand(1, 4, 6, 6)
    values = [derivative(ramp)[0, 0, 2, 2].item() for derivative in network.edges.sobel]
    assert values == [0, 8]


def test_refusals():
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3"):
        EHDRAN(spatial_dims=4)
    with pytest.raises(ValueError, match="expected one of nuclear"):
        EHDRAN(rule="median")
    with pytest.raises(ValueError, match="image must be"):
        small()(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="found median"):
        fuse_features(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), "median")
