"""The metrics that this project defines: bone, calcification, background, invented extrema."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from clinicalfmamba_nets import metrics
from clinicalfmamba_nets.metrics.background import far_from
from clinicalfmamba_nets.metrics.calcification import find_calcifications


def head(size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """An MRI of even tissue and a CT with skull and one calcification of radius 3, (1, 1, size, size) each."""
    rows, columns = np.mgrid[0:size, 0:size] - size / 2
    radius = np.hypot(rows, columns)
    mri = 0.5 * (radius < size * 0.35)
    ct = 0.3 * (radius < size * 0.35) + 1.0 * ((radius >= size * 0.35) & (radius < size * 0.42))
    ct[np.hypot(rows - 6, columns + 8) <= 3] = 0.95
    return torch.from_numpy(mri)[None, None], torch.from_numpy(ct)[None, None]


def test_bone_mean():
    mri, ct = head()
    bone = ct > 0.8
    assert metrics.compute_bone_mean(ct, mri, ct).value.item() == pytest.approx(ct[bone].mean().item(), abs=2e-3)
    assert metrics.compute_bone_mean((mri + ct) / 2, mri, ct).value.item() < 0.6
    assert metrics.compute_bone_mean(mri, mri, ct * 0.5).value.isnan()


def test_calcification_contrast_follows_the_spot():
    mri, ct = head()
    spots = find_calcifications(ct[0, 0].numpy())
    assert spots.sum() == (np.hypot(*(np.mgrid[0:96, 0:96] - np.array([54, 40])[:, None, None])) <= 3).sum()
    assert metrics.compute_calcification_contrast(mri, mri, ct).value.item() == pytest.approx(0, abs=1e-9)
    assert metrics.compute_calcification_contrast((mri + ct) / 2, mri, ct).value.item() == pytest.approx(0.5, abs=0.01)
    assert metrics.compute_calcification_contrast(1 - ct, mri, ct).value.item() == pytest.approx(0, abs=1e-9)
    right = torch.zeros_like(ct, dtype=torch.bool)
    right[..., 48:] = True
    assert metrics.compute_calcification_contrast(ct, mri, ct, regions=right).value.isnan()


def test_large_and_outer_spots_are_no_calcification():
    _, ct = head()
    ct[..., 54, 40] = 0.95
    ct[..., 30:46, 40:56] = 0.95
    ct[..., 2:5, 2:5] = 0.95
    spots = find_calcifications(ct[0, 0].numpy())
    assert not spots[30:46, 40:56].any() and not spots[2:5, 2:5].any() and spots[54, 40]


@pytest.mark.parametrize("shape", [(23, 31), (9, 10, 11)])
def test_far_from_equals_a_distance_transform(shape):
    region = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0)) > 0.98
    expected = ndimage.distance_transform_edt(~region[0, 0].numpy()) > 3
    np.testing.assert_array_equal(far_from(region, 3)[0, 0].numpy(), expected)


def test_background_mean_sees_a_faint_veil_and_spares_the_rim():
    mri, ct = head()
    fused = torch.maximum(mri, ct)
    assert metrics.compute_background_mean(fused, mri, ct).value.item() == 0
    assert metrics.compute_background_mean(fused + 0.4 / 255, mri, ct).value.item() == pytest.approx(0.4)
    rim = ~far_from(fused > 8 / 255, 3)
    assert metrics.compute_background_mean(torch.where(rim, 1.0, 0.0).double(), mri, ct).value.item() == 0
    assert metrics.compute_background_mean(mri / 2 + 0.5, mri / 2 + 0.5, ct).value.isnan()


def ring(inner: float, outer: float, depth: float) -> torch.Tensor:
    rows, columns = np.mgrid[0:64, 0:64] - 32
    radius = np.hypot(rows, columns)
    return torch.from_numpy(np.where((radius > inner) & (radius < outer), -depth, 0.0))[None, None]


def test_an_invented_dark_ring_counts_and_a_copied_one_does_not():
    bright = torch.full((1, 1, 64, 64), 0.7, dtype=torch.float64)
    flat = torch.full((1, 1, 64, 64), 0.3, dtype=torch.float64)
    ringed = bright + ring(8, 12, 0.3)
    percent = 100 * (ring(8, 12, 0.3) < 0).double().mean().item()
    # the ring itself, and the corners that it cuts off the bright core
    assert percent <= metrics.compute_extrema(ringed, bright, flat).value.item() < 1.2 * percent
    assert metrics.compute_extrema(ringed, ringed, flat).value.item() == 0
    inverted = metrics.compute_extrema(1 - ringed, bright, flat).value.item()
    assert percent <= inverted < 1.2 * percent
    assert metrics.compute_extrema(1 - ringed, ringed, flat).value.item() > 0.4 * percent
    assert metrics.compute_extrema(bright + ring(8, 12, 9 / 255), bright, flat).value.item() == 0


def test_a_wide_structure_and_a_shift_of_two_pixels_are_no_extremum():
    bright = torch.full((1, 1, 64, 64), 0.7, dtype=torch.float64)
    assert metrics.compute_extrema(bright + ring(-1, 14, 0.3), bright, bright).value.item() < 0.2
    ringed = bright + ring(8, 12, 0.3)
    assert metrics.compute_extrema(ringed.roll(2, 3), ringed, bright).value.item() == 0
    assert metrics.compute_extrema(ringed.roll(6, 3), ringed, bright).value.item() > 1


def test_an_average_invents_less_than_noise(triple):
    noise = 0.1 * torch.randn(triple.fused.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    average = (triple.image_a + triple.image_b) / 2
    smooth = metrics.compute_extrema(average, *triple[1:]).value
    assert metrics.compute_extrema(average + noise, *triple[1:]).value > 2 * smooth


def test_plateau_error_sees_a_hollow_bone_and_ignores_texture():
    bone = torch.zeros(1, 1, 40, 40)
    bone[..., 8:32, 8:32] = 1.0
    dark = torch.full_like(bone, 0.1)
    hollow = bone.clone()
    hollow[..., 14:26, 14:26] = 0.6
    flat = torch.zeros_like(bone, dtype=torch.bool)
    flat[..., 10:30, 10:30] = True  # two pixels from the rim all windows of 5 are inside
    expected = (1 - hollow)[flat].mean().item()
    assert metrics.compute_plateau_error(hollow, dark, bone).value.item() == pytest.approx(expected, abs=1e-3)
    assert metrics.compute_plateau_error(bone, dark, bone).value.item() == 0
    textured = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    assert metrics.compute_plateau_error(textured, dark, textured).value.isnan()


@pytest.mark.parametrize(("level", "share"), [(0.5, 0.0), (0.803, 0.0), (0.82, 1.0), (0.18, 1.0)])
def test_outside_counts_what_neither_source_holds_beyond_rounding(level, share):
    dark, bright = (torch.full((1, 1, 6, 6), value, dtype=torch.float64) for value in (0.2, 0.8))
    fused = torch.full_like(dark, level)
    assert metrics.compute_outside(fused, bright, dark).value.item() == share


def test_selection_score_adds_up_and_takes_pairs_without_plateau(triple):
    fused, a, b = triple
    parts = {name: metrics.ALL_METRICS[name](fused, a, b).value.item() for name in ("qabf", "vif", "ssim", "n_abf")}
    flat = metrics.compute_plateau_error(fused, a, b).value.nan_to_num(0).item()
    expected = parts["qabf"] + parts["vif"] / 2 + parts["ssim"] - parts["n_abf"] - flat
    assert metrics.compute_selection_score(fused, a, b).value.item() == pytest.approx(expected, abs=1e-9)
    assert metrics.compute_selection_score(a, a, a).value.isfinite().all()
