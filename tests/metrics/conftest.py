"""Images for the metric tests, computed from formulas so that every machine has the same pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor


class Triple(NamedTuple):
    """A fused image and its sources, each (1, 1, H, W) float64 in [0, 1] with 256 levels."""

    fused: Tensor
    image_a: Tensor
    image_b: Tensor

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three images as (H, W) arrays."""
        return tuple(image[0, 0].numpy() for image in self)


def make_triple(height: int, width: int) -> Triple:
    """A soft-tissue-like source, a bone-like source with a bright spot, and a blend of the two, black around a disc."""
    rows, columns = np.mgrid[0:height, 0:width].astype(float)
    radius = np.hypot((rows - height / 2) / height, (columns - width / 2) / width)
    inside = radius < 0.42
    tissue = (0.5 + 0.3 * np.sin(columns / 5) * np.cos(rows / 7) + 0.2 * np.sin(rows * columns / 900)) * inside
    bone = 1.0 * ((radius > 0.36) & inside) + 0.3 * (radius <= 0.36)
    spot = np.hypot(rows - height * 0.45, columns - width * 0.55) < 3
    bone = np.where(spot, 0.95, bone * (1 + 0.1 * np.cos(columns / 3)).clip(0, 1))
    blend = 0.45 * tissue + 0.55 * np.maximum(bone, tissue * 0.8)
    return Triple(
        *(torch.from_numpy(np.rint(image.clip(0, 1) * 255) / 255)[None, None] for image in (blend, tissue, bone))
    )


@pytest.fixture(scope="session")
def triple() -> Triple:
    """64 x 64 pixels."""
    return make_triple(64, 64)


@pytest.fixture(scope="session")
def large_triple() -> Triple:
    """192 x 180 pixels: enough for five scales."""
    return make_triple(192, 180)
