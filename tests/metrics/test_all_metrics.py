"""What every metric of the table must keep: identity, range and dtype invariance, regions, batches, messages."""

from __future__ import annotations

import math

import pytest
import torch

from clinicalfmamba_nets import metrics
from clinicalfmamba_nets.metrics import ALL_METRICS, remarks
from clinicalfmamba_nets.metrics.scores import head_region

PARTS = ("value", "a", "b")
IDENTITY = {
    "psnr": math.inf,
    "ssim": 1.0,
    "ms_ssim": 1.0,
    "fmi": 1.0,
    "fmi_pixel": 1.0,
    "fmi_gradient": 1.0,
    "fsim": 1.0,
    "fsim_published": 1.0,
    "vif": 2.0,
    "qabf": 0.9994 * 0.9879 / (1 + math.exp(-7.5)) / (1 + math.exp(-4.4)),
    "l_abf": 1 - 0.9994 * 0.9879 / (1 + math.exp(-7.5)) / (1 + math.exp(-4.4)),
    "n_abf": 0.0,
    "scd": math.nan,
    "cc": 1.0,
    "extrema": 0.0,
    "background_mean": 0.0,
    "outside": 0.0,
    "plateau_error": math.nan,
    "calcification_contrast": 1.0,
}
OWN_VALUE = {"entropy", "entropy_float", "mi", "sd", "sf", "ag", "bone_mean"}


def assert_scores_close(found, expected, tolerance):
    for part in PARTS:
        ours, theirs = getattr(found, part), getattr(expected, part)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance, equal_nan=True)


def test_every_metric_has_a_known_value_for_identical_images():
    assert set(IDENTITY) | OWN_VALUE == set(ALL_METRICS)


@pytest.mark.parametrize("name", sorted(IDENTITY))
def test_identity(name, triple):
    bone = triple.image_b
    with remarks.heard() as told:
        score = ALL_METRICS[name](bone, bone, bone).value.item()
    assert score == pytest.approx(IDENTITY[name], abs=2e-5, nan_ok=True)
    assert bool(told) == (math.isnan(score) and name not in remarks.OFTEN_ABSENT)


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
@pytest.mark.parametrize("data_range", [255.0, 4095.0])
def test_range_invariance(name, data_range, triple):
    scaled = [image * data_range for image in triple]
    assert_scores_close(ALL_METRICS[name](*scaled, data_range=data_range), ALL_METRICS[name](*triple), 1e-6)


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
def test_single_precision_scores_as_double(name, triple):
    single = [image.float() for image in triple]
    scores = ALL_METRICS[name](*single)
    assert scores.value.dtype == torch.float64
    assert_scores_close(scores, ALL_METRICS[name](*triple), 1e-6)


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
def test_batches_and_regions_score_as_single_calls(name, triple):
    compute = ALL_METRICS[name]
    images = [torch.cat([image, image.flip(3)]) for image in triple]
    swapped = [images[0], images[1].roll(1, 0), images[2]]
    head = head_region(*swapped[1:])
    both = compute(*swapped, regions=torch.cat([torch.ones_like(head), head], dim=1))
    assert both.value.shape == (2, 2)
    for row in range(2):
        single = [image[row : row + 1] for image in swapped]
        for column, region in enumerate((None, head[row : row + 1])):
            expected = compute(*single, regions=region)
            torch.testing.assert_close(
                both.value[row, column], expected.value[0, 0], atol=1e-6, rtol=1e-6, equal_nan=True
            )


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
def test_the_region_changes_what_is_scored(name, triple):
    """Spoil the fused image outside a region: the region's score must not move, that of the frame must."""
    if name in ("calcification_contrast", "bone_mean"):
        pytest.skip("these score the bone and the spots of the CT only; their own tests hold the region")
    region = torch.zeros_like(triple.fused, dtype=torch.bool)
    region[..., 12:52, 4:20] = True
    spoiled = triple.fused.clone()
    spoiled[..., 46:] = 1 - spoiled[..., 46:]
    compute = ALL_METRICS[name]
    if name not in ("fsim", "fsim_published", "ms_ssim", "vif", "fmi", "background_mean"):
        before = compute(*triple, regions=region).value
        torch.testing.assert_close(compute(spoiled, *triple[1:], regions=region).value, before, equal_nan=True)
    assert compute(spoiled, *triple[1:]).value.item() != pytest.approx(compute(*triple).value.item(), abs=1e-3)


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
def test_volumes_are_scored(name, triple):
    volumes = [image[..., 12:44, 12:44, None].expand(-1, -1, -1, -1, 20).contiguous() for image in triple]
    score = ALL_METRICS[name](*volumes).value
    assert score.shape == (1, 1)
    slice_wise = {"fmi", "fmi_pixel", "fmi_gradient", "fsim", "fsim_published", "qabf", "l_abf", "n_abf"}
    if name in slice_wise | {"psnr", "entropy", "entropy_float", "scd", "mi", "cc", "sd", "bone_mean"}:
        flat = ALL_METRICS[name](*(image[..., 12:44, 12:44] for image in triple)).value
        torch.testing.assert_close(score, flat, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
def test_bad_images_are_named(name, triple):
    compute = ALL_METRICS[name]
    with pytest.raises(ValueError, match=r"must agree in shape, got \[\(1, 1, 64, 64\), \(1, 1, 63, 64\)"):
        compute(triple.fused, triple.image_a[..., 1:, :], triple.image_b)
    with pytest.raises(ValueError, match=r"fused must be \(B, 1, H, W\).*got shape \(64, 64\)"):
        compute(*(image[0, 0] for image in triple))
    with pytest.raises(ValueError, match="must be finite"):
        compute(triple.fused * torch.nan, triple.image_a, triple.image_b)
    with pytest.raises(ValueError, match="data_range must be above 0, got 0"):
        compute(*triple, data_range=0)


def test_unknown_options_are_named(triple):
    with pytest.raises(ValueError, match="feature must be one of .* got 'dct'"):
        metrics.compute_fmi(*triple, feature="dct")
    with pytest.raises(ValueError, match="variant must be one of .* got 'piq'"):
        metrics.compute_fsim(*triple, variant="piq")
    with pytest.raises(ValueError, match=r"regions must be \(B, R, \(64, 64\)\)"):
        metrics.compute_psnr(*triple, regions=torch.ones(1, 1, 3, 3))
    with pytest.raises(ValueError, match=r"regions must be \(B, R, \(64, 64\)\), a bool tensor, got str"):
        metrics.compute_psnr(*triple, regions="head")
    with pytest.raises(ValueError, match=r"regions must be .*, true or false, got NaN"):
        metrics.compute_psnr(*triple, regions=torch.full((1, 1, 64, 64), torch.nan))


@pytest.mark.parametrize(
    "compute, size, message",
    [
        (metrics.compute_ssim, 5, "at least 6"),
        (metrics.compute_ms_ssim, 10, "at least 11"),
        (metrics.compute_vif, 16, "at least 17"),
    ],
)
def test_small_images_are_refused_with_the_limit(compute, size, message):
    image = torch.rand(1, 1, size, 40)
    with pytest.raises(ValueError, match=message):
        compute(image, image, image)
