"""Histograms, entropy and mutual information: numbers against scikit-image and scipy, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.measure import shannon_entropy
from skimage.metrics import normalized_mutual_information

from clinicalfmamba_nets.functional.histograms import entropy, histogram, joint_histogram, mutual_information, to_levels


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two correlated images of 256 levels."""
    generator = torch.Generator().manual_seed(seed)
    image_a = torch.rand(32, 32, generator=generator)
    image_b = (0.7 * image_a + 0.3 * torch.rand(32, 32, generator=generator)).clamp(0, 1)
    return to_levels(image_a) / 255, to_levels(image_b) / 255


def test_levels_round_and_clip():
    assert to_levels(torch.tensor([0.49 / 255, 0.51 / 255, 2.0, -1.0])).tolist() == [0, 1, 255, 0]
    assert histogram(torch.tensor([0.0, 1.0, 1.0]), levels=4).tolist() == [1, 0, 0, 2]


def test_entropy_equals_scikit_image():
    image, _ = images()
    assert entropy(histogram(image)).item() == pytest.approx(shannon_entropy(image.numpy()))
    assert entropy(torch.zeros(4)).item() == 0


def test_mutual_information_equals_scikit_image():
    image_a, image_b = images()
    levels_a, levels_b = to_levels(image_a).numpy(), to_levels(image_b).numpy()
    edges = [np.arange(257) - 0.5] * 2
    counts = np.histogram2d(levels_a.ravel(), levels_b.ravel(), bins=edges)[0]
    np.testing.assert_array_equal(joint_histogram(image_a, image_b).numpy(), counts)
    bits = stats.entropy(counts.sum(0), base=2) + stats.entropy(counts.sum(1), base=2)
    bits -= stats.entropy(counts.ravel(), base=2)
    assert mutual_information(image_a, image_b).item() == pytest.approx(bits)
    coarse = (image_a * 255 / 16).floor() / 15, (image_b * 255 / 16).floor() / 15
    expected = normalized_mutual_information(*[np.rint(image.numpy() * 15) for image in coarse], bins=16)
    marginals = sum(entropy(histogram(image, 16)).item() for image in coarse)
    ours = marginals / (marginals - mutual_information(*coarse, levels=16).item())
    assert ours == pytest.approx(expected, abs=1e-6)


def test_information_of_an_image_about_itself_is_its_entropy():
    image, _ = images()
    assert mutual_information(image, image).item() == pytest.approx(entropy(histogram(image)).item())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at least 2 levels, got 1"):
        to_levels(torch.zeros(3), levels=1)
    with pytest.raises(ValueError, match=r"agree in shape, got \(2,\) and \(3,\)"):
        joint_histogram(torch.zeros(2), torch.zeros(3))
