"""What the metrics refuse, what they answer with NaN and the reason, and what they warn of."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from clinicalfmamba_nets.errors import FusionInputError, FusionWarning
from clinicalfmamba_nets.metrics import (
    ALL_METRICS,
    PlateauErrorMetric,
    compute_all,
    compute_selection_score,
    score_pair,
)
from clinicalfmamba_nets.metrics.pair import PER_SOURCE

BASE = ["psnr", "ssim"]
DTYPES = {torch.uint8: 255, torch.int16: 4095, torch.uint16: 65535, torch.int32: 1023, torch.int64: 255}


def scaled(triple, factor, dtype=None):
    images = [(image * factor).round() if dtype else image * factor for image in triple]
    return [image.to(dtype) if dtype else image for image in images]


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_integers_need_a_range_and_score_as_floats_with_it(name, dtype, triple):
    images = scaled(triple, DTYPES[dtype], dtype)
    with pytest.raises(FusionInputError, match=f"data_range: expected .* give data_range={DTYPES[dtype]:g}"):
        ALL_METRICS[name](*images)
    found = ALL_METRICS[name](*images, data_range=DTYPES[dtype]).value
    torch.testing.assert_close(found, ALL_METRICS[name](*triple).value, atol=2e-2, rtol=2e-2, equal_nan=True)


@pytest.mark.parametrize("name", sorted(ALL_METRICS))
@pytest.mark.parametrize(("factor", "data_range"), [(255, None), (4095, None), (4095, 255), (65535, 4095)])
def test_values_beyond_the_range_are_refused(name, factor, data_range, triple):
    with pytest.raises(FusionInputError, match="image_[ab]: expected values from 0 to .*give data_range="):
        ALL_METRICS[name](*scaled(triple, factor), data_range=data_range)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "255", True])
def test_a_range_that_is_no_number_is_refused(bad, triple):
    with pytest.raises(FusionInputError, match="data_range must be above 0, got"):
        compute_all(*triple, data_range=bad)


def test_negative_and_unfinished_images_are_refused(triple):
    with pytest.raises(FusionInputError, match="image_a: expected values from 0 to 4095, found -1024 to .*shift"):
        compute_all(triple.fused * 4095, triple.image_a * 3000 - 1024, triple.image_b * 4095, data_range=4095)
    with pytest.raises(FusionInputError, match="fused: expected finite values, found NaN .*must be finite"):
        compute_all(triple.fused / 0, *triple[1:])
    with pytest.raises(FusionInputError, match="real numbers, found complex"):
        compute_all(triple.fused * 1j, *triple[1:])


@pytest.mark.parametrize(("factor", "data_range", "right"), [(1, 255, 1), (255, 4095, 255), (4095, 65535, 4095)])
def test_a_range_far_above_the_values_is_told(factor, data_range, right, triple):
    with pytest.warns(FusionWarning, match=f"% of data_range {data_range}: is that .* data_range={right}"):
        ALL_METRICS["psnr"](*scaled(triple, factor), data_range=data_range)
    with pytest.warns(FusionWarning, match="fused: the brightest value"):
        compute_all(triple.fused / 255, *triple[1:], names=BASE)


def test_a_fused_image_beside_its_range_is_told_or_refused(triple):
    with pytest.warns(FusionWarning, match="fused: values from .* are clipped to 0..1"):
        compute_all(2 * triple.fused - 0.5, *triple[1:], names=BASE)
    with pytest.raises(FusionInputError, match="fused: expected values from 0 to 1"):
        compute_all(255 * triple.fused, *triple[1:], names=BASE)


@pytest.mark.parametrize("shape", [(1, 1, 40, 40), (1, 1, 20, 20, 20)])
@pytest.mark.parametrize("name", sorted(ALL_METRICS))
@pytest.mark.parametrize("value", [0.0, 0.6])
def test_constant_pairs_are_told_by_every_metric(name, value, shape):
    flat = torch.full(shape, value)
    with pytest.warns(FusionWarning, match="image_a and image_b are constant"):
        score = ALL_METRICS[name](flat, flat, flat).value.item()
    assert math.isnan(score) or name not in PER_SOURCE - {"mi", "qabf"}


@pytest.mark.parametrize("name", ["fmi", "fmi_pixel", "fmi_gradient", "fsim", "fsim_published", "cc"])
def test_a_black_fused_image_shares_no_feature_with_anything(name, triple):
    with pytest.warns(FusionWarning, match=r"is undefined \(NaN\): fused is constant"):
        assert ALL_METRICS[name](triple.fused * 0, *triple[1:]).value.isnan()


def test_one_black_source_leaves_the_other_part(triple):
    scores, remarks = score_pair(triple.fused, triple.image_a, triple.image_b * 0)
    assert all(math.isnan(scores[f"{name}_b"]) for name in ("fmi", "fsim", "vif", "scd", "cc", "qabf"))
    assert all(math.isfinite(scores[f"{name}_a"]) for name in ("psnr", "ssim", "fmi", "fsim", "vif", "cc", "qabf"))
    assert any(text.startswith("image_b is constant: undefined (NaN): fmi") for text in remarks)


def test_twins_and_copies_are_told(triple):
    twins = score_pair(triple.fused, triple.image_a, triple.image_a.clone())
    assert math.isnan(twins[0]["scd"]) and math.isfinite(twins[0]["ssim"])
    assert twins[1][0] == "image_a and image_b are the same image: nothing was fused"
    assert "image_a and image_b are the same image: undefined (NaN): scd" in twins[1]
    copy = score_pair(triple.image_b, *triple[1:], names=["psnr", "scd"])
    assert copy[0]["psnr"] == math.inf and math.isfinite(copy[0]["scd"])
    assert copy[1] == ["fused is a copy of image_b: its PSNR is unbounded"]


def test_a_good_pair_has_no_remark(triple):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute_all(*triple)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 9), (5, 30), (10, 10), (16, 16), (30, 30, 4)])
def test_small_images_have_the_scores_that_fit_and_the_reason_for_the_others(size):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, *size, generator=generator)
    scores, remarks = score_pair(*images)
    large, _ = score_pair(*torch.rand(3, 1, 32, 32, generator=generator))
    assert set(scores) == set(large)
    assert math.isnan(scores["vif"]) and math.isfinite(scores["psnr"])
    assert any("VIF needs at least 17 pixels" in text and text.endswith("undefined (NaN): vif") for text in remarks)
    with pytest.raises(ValueError, match="at least 17"):
        ALL_METRICS["vif"](*images.unsqueeze(1))


def test_arguments_come_in_one_order_and_the_stacked_form_stays(triple):
    pair = torch.cat(triple[1:], dim=1)
    right = compute_all(*triple, names=BASE)
    planes = [image[0, 0] for image in triple]
    forms = [(triple.fused, pair), (triple.fused[0], pair[0]), planes, [plane.numpy() for plane in planes]]
    for form in forms:
        assert compute_all(*form, names=BASE) == pytest.approx(right)
    eight = [np.rint(plane.numpy() * 255).astype(np.uint16) for plane in planes]
    assert compute_all(*eight, names=BASE, data_range=255) == pytest.approx(right)


def test_ambiguous_arguments_are_named(triple):
    pair = torch.cat(triple[1:], dim=1)
    with pytest.raises(FusionInputError, match="image_b: expected the second source, found the number 255"):
        compute_all(triple.fused * 255, pair * 255, 255)
    with pytest.raises(FusionInputError, match=r"fused: expected one image .* found \(64, 64, 3\); give a volume"):
        compute_all(torch.rand(64, 64, 3), torch.rand(64, 64, 3), torch.rand(64, 64, 3))
    with pytest.raises(FusionInputError, match="image_b: expected the second source, found none"):
        compute_all(triple.fused, triple.image_a)


def test_names_are_a_list_with_something_in_it(triple):
    with pytest.raises(FusionInputError, match=r'metrics: expected a list of names, found the text .*metrics=."ssim".'):
        compute_all(*triple, names="ssim")
    with pytest.raises(FusionInputError, match="metrics: expected at least one name"):
        compute_all(*triple, names=[])
    with pytest.raises(FusionInputError, match="found 'sim'; did you mean ssim"):
        compute_all(*triple, names=["sim"])


@pytest.mark.parametrize("bad", [None, "mri.png", [[0.0], [0.0, 1.0]], {}], ids=str)
def test_what_holds_no_numbers_is_refused(bad, triple):
    for place, name in enumerate(("fused", "image_a")):
        images = [*triple]
        images[place] = bad
        with pytest.raises(FusionInputError, match=f"{name}: expected a tensor or an array of numbers, found a "):
            compute_all(*images, names=BASE)
        with pytest.raises(FusionInputError, match=f"{name}: expected a tensor or an array of numbers, found a "):
            ALL_METRICS["vif"](*images)


def test_a_picture_in_color_is_no_volume(triple):
    with pytest.raises(FusionInputError, match=r"fused: expected .*found \(1, 3, .*picture in color .*score its luma"):
        compute_all(*(image.expand(1, 3, -1, -1) for image in triple))


def test_names_and_ranges_of_another_kind_are_refused(triple):
    with pytest.raises(FusionInputError, match="metrics: expected a list of names, found 3"):
        compute_all(*triple, names=3)
    with pytest.raises(FusionInputError, match="data_range: expected a number, found"):
        compute_all(*triple, data_range=(0, 1))


@pytest.mark.parametrize("reduction", ["mean", "mean_batch", "none"])
def test_a_mean_over_no_score_is_none(reduction):
    metric = PlateauErrorMetric(reduction=reduction)
    metric(torch.full((2, 1, 24, 24), 0.4), torch.rand(2, 2, 24, 24))  # noise has no plateau
    assert metric.aggregate().isnan().all()


def test_the_selection_score_takes_arrays(triple):
    arrays = [image.numpy() for image in triple]
    assert torch.equal(compute_selection_score(*arrays).value, compute_selection_score(*triple).value)
