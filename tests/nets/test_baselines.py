"""Fusion without learning: numbers against numpy and scipy, shapes, ranges, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from clinicalfmamba_nets.nets.baselines import (
    AverageFusion,
    GuidedFilterFusion,
    LaplacianPyramidFusion,
    MaximumFusion,
)

ALL = [AverageFusion, MaximumFusion, LaplacianPyramidFusion, GuidedFilterFusion]


def pair(*spatial: int) -> torch.Tensor:
    """Two smooth random images with a black border, (1, 2, *spatial)."""
    noise = np.random.default_rng(0).random((2, *spatial))
    smooth = np.stack([ndimage.gaussian_filter(image, 1.5) for image in noise])
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy(smooth).float()[None]


@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize("spatial", [(32, 32), (37, 50), (5, 61), (1, 2), (17, 12, 9), (16, 16, 16)])
def test_shape_range_and_no_parameters(network, spatial):
    net = network(spatial_dims=len(spatial))
    image = torch.rand(2, 2, *spatial, generator=torch.Generator().manual_seed(0))
    fused = net(image)
    assert fused.shape == (2, 1, *spatial) and fused.dtype == image.dtype
    assert fused.min() >= 0 and fused.max() <= 1 and torch.isfinite(fused).all()
    assert sum(parameter.numel() for parameter in net.parameters()) == 0 and not net.state_dict()
    torch.testing.assert_close(net(image[1:]), fused[1:])


@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize("dims", [2, 3])
def test_two_equal_sources_come_back(network, dims):
    image = pair(*[20] * dims)[:, :1]
    torch.testing.assert_close(
        network(spatial_dims=dims)(image.expand(-1, 2, *image.shape[2:])), image, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("network", ALL)
def test_order_of_the_sources_does_not_matter(network):
    image = pair(33, 40)
    torch.testing.assert_close(network()(image.flip(1)), network()(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", ALL)
def test_black_stays_black(network):
    assert network()(torch.zeros(1, 2, 40, 40)).abs().max() <= 1e-6


def reduce_by_hand(image):
    window = np.array([1, 4, 6, 4, 1]) / 16
    for axis in (0, 1):
        image = ndimage.correlate1d(image, window, axis=axis, mode="mirror")
    return image[::2, ::2]


def expand_by_hand(image, shape):
    spread = np.zeros(shape)
    spread[::2, ::2] = 4 * image
    window = np.array([1, 4, 6, 4, 1]) / 16
    for axis in (0, 1):
        spread = ndimage.correlate1d(spread, window, axis=axis, mode="mirror")
    return spread


@pytest.mark.parametrize("base", ["mean", "max"])
def test_laplacian_pyramid_equals_scipy(base):
    image = pair(45, 64).double()
    image_a, image_b = image[0].numpy()
    details = []
    for _ in range(4):
        coarse = reduce_by_hand(image_a), reduce_by_hand(image_b)
        both = image_a - expand_by_hand(coarse[0], image_a.shape), image_b - expand_by_hand(coarse[1], image_b.shape)
        details.append(np.where(abs(both[0]) >= abs(both[1]), *both))
        image_a, image_b = coarse
    fused = np.maximum(image_a, image_b) if base == "max" else (image_a + image_b) / 2
    for detail in details[::-1]:
        fused = expand_by_hand(fused, detail.shape) + detail
    ours = LaplacianPyramidFusion(base=base)(image)[0, 0].numpy()
    np.testing.assert_allclose(ours, fused.clip(0, 1), atol=1e-7)


def box(image, radius):
    return ndimage.uniform_filter(image, 2 * radius + 1, mode="mirror")


def guided_by_hand(guide, weight, radius, eps):
    slope = box(guide * weight, radius) - box(guide, radius) * box(weight, radius)
    slope = slope / (box(guide**2, radius) - box(guide, radius) ** 2 + eps)
    offset = box(weight, radius) - slope * box(guide, radius)
    return (box(slope, radius) * guide + box(offset, radius)).clip(0, 1)


def test_guided_filter_equals_scipy():
    image = pair(120, 128).double()
    saliencies = []
    for source in image[0].numpy():
        laplacian = ndimage.convolve(source, np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]]), mode="mirror")
        saliencies.append(ndimage.gaussian_filter(abs(laplacian), 5, radius=5, mode="mirror"))
    image_a, image_b = image[0].numpy()
    chosen = (saliencies[0] > saliencies[1]).astype(float)
    fused = 0
    for radius, eps, layers in (
        (45, 0.3, (box(image_a, 15), box(image_b, 15))),
        (7, 1e-6, (image_a - box(image_a, 15), image_b - box(image_b, 15))),
    ):
        weight_a = guided_by_hand(image_a, chosen, radius, eps)
        weight_b = guided_by_hand(image_b, 1 - chosen, radius, eps)
        fused = fused + (weight_a * layers[0] + weight_b * layers[1]) / (weight_a + weight_b)
    np.testing.assert_allclose(GuidedFilterFusion()(image)[0, 0].numpy(), fused.clip(0, 1), atol=1e-4)


def test_flat_bone_is_taken_from_the_brighter_source():
    image = torch.zeros(1, 2, 64, 64)
    image[:, 0] = 0.1
    image[:, 1] = 1.0
    assert GuidedFilterFusion()(image)[0, 0, 32, 32] > 0.99


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"image must be \(B, 2, H, W\), got shape \(1, 3, 8, 8\)"):
        AverageFusion()(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"image must be \(B, 2, H, W, D\)"):
        MaximumFusion(spatial_dims=3)(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 4"):
        AverageFusion(spatial_dims=4)
    with pytest.raises(ValueError, match="base must be 'mean' or 'max', got 'median'"):
        LaplacianPyramidFusion(base="median")
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        LaplacianPyramidFusion(levels=0)
