"""Luma and chroma: numbers against scikit-image, the round trip, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr

from clinicalfmamba_nets.functional.colour import displayed_rgb, rgb_to_ycbcr, ycbcr_to_rgb


def test_equals_scikit_image_up_to_video_range():
    image = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    video = rgb2ycbcr(image.numpy(), channel_axis=1)
    full = np.stack([(video[:, 0] - 16) / 219, (video[:, 1] - 16) / 224, (video[:, 2] - 16) / 224], axis=1)
    np.testing.assert_allclose(rgb_to_ycbcr(image).numpy(), full, atol=1e-4)


def test_round_trip_and_range():
    image = torch.rand(1, 3, 7, 3, 2, dtype=torch.float64)
    split = rgb_to_ycbcr(image)
    assert split.min() >= 0 and split.max() <= 1
    torch.testing.assert_close(ycbcr_to_rgb(split), image)


def test_grey_has_neutral_chroma():
    split = rgb_to_ycbcr(torch.full((1, 3, 2, 2), 0.3))
    torch.testing.assert_close(split[:, 0], torch.full((1, 2, 2), 0.3))
    torch.testing.assert_close(split[:, 1:], torch.full((1, 2, 2, 2), 0.5))


def test_other_channel_counts_are_refused():
    for convert in (rgb_to_ycbcr, ycbcr_to_rgb):
        with pytest.raises(ValueError, match=r"expected shape \(B, 3, \*spatial\), found \(1, 4, 2, 2\)"):
            convert(torch.zeros(1, 4, 2, 2))


def test_a_displayed_color_exists_and_keeps_its_luma():
    image = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    shown = displayed_rgb(image)
    assert shown.min() >= 0 and shown.max() <= 1
    torch.testing.assert_close(rgb_to_ycbcr(shown)[:, 0], image[:, 0], atol=2e-6, rtol=0)
    exists = (ycbcr_to_rgb(image).clamp(0, 1) == ycbcr_to_rgb(image)).all(1, keepdim=True).expand_as(image)
    assert 0.05 < exists.float().mean() < 0.95
    torch.testing.assert_close(shown[exists], ycbcr_to_rgb(image)[exists], atol=2e-6, rtol=0)
