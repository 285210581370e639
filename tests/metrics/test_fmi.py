"""Feature mutual information against the definition, written out window by window, and its edge detector."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clinicalfmamba_nets.metrics import compute_fmi
from clinicalfmamba_nets.metrics.fmi import sobel_edges


def spread(density):
    """Standard deviation of the cell number 1..9 under a density."""
    mean = sum(cell * p for cell, p in enumerate(density, 1))
    return math.sqrt(max(sum(cell * cell * p for cell, p in enumerate(density, 1)) - mean**2, 0))


def joint_density(f, s):
    """Joint density of two densities, cell by cell, between independence and a Frechet bound."""
    correlation = np.corrcoef(f, s)[0, 1]
    f_sum, s_sum = np.cumsum(f), np.cumsum(s)

    def bound(i, j):
        if min(i, j) < 0:
            return 0.0
        return min(f_sum[i], s_sum[j]) if correlation >= 0 else max(f_sum[i] + s_sum[j] - 1, 0)

    cells = [(i, j) for i in range(9) for j in range(9)]
    covariance = sum(bound(i, j) - f_sum[i] * s_sum[j] for i, j in cells)
    deviations = spread(f) * spread(s)
    usable = abs(correlation) > 1e-12 and deviations > 1e-12 and covariance
    share = correlation / (covariance / deviations) if usable else 0.0
    for i, j in cells:
        extreme = bound(i, j) - bound(i - 1, j) - bound(i, j - 1) + bound(i - 1, j - 1)
        yield share * extreme + (1 - share) * f[i] * s[j]


def window_score(source, fused):
    """2 I / (H + H) of two windows given as lists of nine values, step by step."""
    if source == fused:
        return 1.0
    if len(set(source)) == 1 or len(set(fused)) == 1:
        return 0.0
    densities = []
    for values in (fused, source):
        stretched = [(value - min(values)) / (max(values) - min(values)) for value in values]
        densities.append([value / sum(stretched) for value in stretched])
    joint = -sum(p * math.log2(abs(p)) for p in joint_density(*densities) if p)
    entropies = sum(-p * math.log2(p) for density in densities for p in density if p)
    return 2 * (entropies - joint) / entropies if entropies else 0.0


def score_by_hand(source, fused):
    scores = []
    for row in range(1, source.shape[0] - 1):
        for column in range(1, source.shape[1] - 1):
            part = (slice(row - 1, row + 2), slice(column - 1, column + 2))
            scores.append(window_score(source[part].ravel("F").tolist(), fused[part].ravel("F").tolist()))
    return float(np.mean(scores))


def edges_by_hand(levels):
    """Sobel edges with MATLAB's automatic threshold and thinning, pixel by pixel."""
    padded = np.pad(levels, 1, mode="edge")
    rows, columns = levels.shape
    part = lambda i, j: padded[i : i + rows, j : j + columns]  # noqa: E731
    right = (part(0, 2) + 2 * part(1, 2) + part(2, 2) - part(0, 0) - 2 * part(1, 0) - part(2, 0)) / 8
    down = (part(2, 0) + 2 * part(2, 1) + part(2, 2) - part(0, 0) - 2 * part(0, 1) - part(0, 2)) / 8
    power = right**2 + down**2
    edges = np.zeros(levels.shape)
    for i in range(1, rows - 1):
        for j in range(1, columns - 1):
            here = power[i, j]
            sideways = abs(right[i, j]) >= abs(down[i, j]) and power[i, j - 1] <= here > power[i, j + 1]
            upright = abs(down[i, j]) >= abs(right[i, j]) and power[i - 1, j] <= here > power[i + 1, j]
            edges[i, j] = here > 4 * power.mean() and (sideways or upright)
    return edges


@pytest.mark.parametrize("feature", ["pixel", "gradient", "edge"])
def test_equals_the_definition(feature, triple):
    features = {"pixel": np.asarray, "gradient": lambda image: np.gradient(image, axis=1), "edge": edges_by_hand}
    images = [np.rint(image[12:40, 8:38] * 255) for image in triple.arrays()]
    fused, tissue, bone = (features[feature](image) for image in images)
    scores = compute_fmi(*(torch.from_numpy(image)[None, None] for image in images), data_range=255, feature=feature)
    assert scores.a.item() == pytest.approx(score_by_hand(tissue, fused), abs=1e-7)
    assert scores.b.item() == pytest.approx(score_by_hand(bone, fused), abs=1e-7)
    assert scores.value.item() == pytest.approx((scores.a.item() + scores.b.item()) / 2)


def test_edges_are_thin_and_where_the_step_is():
    step = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    step[..., 6:] = 1
    edges = sobel_edges(step)
    assert edges[0, 0, 1:-1].sum(dim=1).tolist() == [1.0] * 10
    assert edges[0, 0, 1:-1, 5:7].sum() == 10
