"""`compute_all`, the table of metrics and the MONAI metric classes."""

from __future__ import annotations

import math

import pytest
import torch
from monai.metrics import CumulativeIterationMetric

from clinicalfmamba_nets import metrics
from clinicalfmamba_nets.metrics import ALL_METRICS, compute_all
from clinicalfmamba_nets.metrics.registry import OWN_REGION

CLASSES = {
    "psnr": metrics.PSNRMetric,
    "ssim": metrics.SSIMMetric,
    "ms_ssim": metrics.MultiScaleSSIMMetric,
    "fmi": metrics.FMIMetric,
    "fsim": metrics.FSIMMetric,
    "entropy": metrics.EntropyMetric,
    "entropy_float": metrics.FloatEntropyMetric,
    "vif": metrics.VIFMetric,
    "qabf": metrics.QabfMetric,
    "l_abf": metrics.LostEdgesMetric,
    "n_abf": metrics.FusionArtefactsMetric,
    "scd": metrics.SCDMetric,
    "mi": metrics.MutualInformationMetric,
    "cc": metrics.CorrelationMetric,
    "sd": metrics.StandardDeviationMetric,
    "sf": metrics.SpatialFrequencyMetric,
    "ag": metrics.AverageGradientMetric,
    "extrema": metrics.InventedExtremaMetric,
    "outside": metrics.OutsideMetric,
    "plateau_error": metrics.PlateauErrorMetric,
    "background_mean": metrics.BackgroundMeanMetric,
    "bone_mean": metrics.BoneMeanMetric,
    "calcification_contrast": metrics.CalcificationContrastMetric,
}


def test_compute_all_gives_every_part_in_frame_and_head(triple):
    image = torch.cat(triple[1:], dim=1)
    scores = compute_all(triple.fused, image)
    for name in ALL_METRICS:
        assert name in scores
        assert (f"{name}_head" in scores) == (name not in OWN_REGION)
    for name in ("psnr", "ssim", "ms_ssim", "fmi", "fsim", "vif", "qabf", "scd", "mi", "cc"):
        for region in ("", "_head"):
            lower = min(scores[f"{name}{region}_a"], scores[f"{name}{region}_b"])
            assert scores[f"{name}{region}_min"] == lower
    assert scores["ssim"] == pytest.approx((scores["ssim_a"] + scores["ssim_b"]) / 2)
    assert scores["ssim_head"] < scores["ssim"]


def test_compute_all_takes_one_pair_with_or_without_batch(triple):
    image = torch.cat(triple[1:], dim=1)
    names = ["ssim", "qabf"]
    assert compute_all(triple.fused[0], image[0], names=names) == compute_all(triple.fused, image, names=names)
    volume, volumes = triple.fused[..., :24, :24, None].expand(-1, -1, -1, -1, 12), image[..., :24, :24, None]
    volumes = volumes.expand(-1, -1, -1, -1, 12)
    assert compute_all(volume[0], volumes[0], names=names) == compute_all(volume, volumes, names=names)
    with pytest.raises(ValueError, match=r"two sources of one pair as \(2, \*spatial\), got \(3, 2, 64, 64\)"):
        compute_all(triple.fused.expand(3, -1, -1, -1), image.expand(3, -1, -1, -1))


def test_names_choose_and_are_checked(triple):
    image = torch.cat(triple[1:], dim=1)
    assert set(compute_all(triple.fused, image, names=["sd"], inside_head=False)) == {"sd"}
    without_ct = compute_all(triple.fused, image, names=["sd", "bone_mean"], with_ct=False, inside_head=False)
    assert set(without_ct) == {"sd"}
    with pytest.raises(ValueError, match="metrics: expected names among psnr, ssim.*found 'lpips'"):
        compute_all(triple.fused, image, names=["lpips"])


def test_direction_of_every_metric():
    assert metrics.is_better("psnr", 2, 1) and not metrics.is_better("psnr", 1, 2)
    assert metrics.is_better("extrema_head", 1, 2) and metrics.is_better("n_abf", 0, 1)
    assert metrics.is_better("fsim_published_head_min", 2, 1)
    assert not metrics.is_better("entropy_float", 2, 1) and not metrics.is_better("entropy_float", 1, 2)
    assert not metrics.is_better("ssim", math.nan, 1)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_classes_cumulate_what_the_functions_compute(name, triple):
    metric = CLASSES[name]()
    assert isinstance(metric, CumulativeIterationMetric)
    image = torch.cat(triple[1:], dim=1)
    metric(y_pred=triple.fused, y=image)
    metric(y_pred=[triple.image_b[0]], y=[image[0]])
    values = [ALL_METRICS[name](fused, *triple[1:]).value for fused in (triple.fused, triple.image_b)]
    cumulated = metric.aggregate(reduction="none")
    torch.testing.assert_close(cumulated, torch.cat(values).to(cumulated.dtype), equal_nan=True)
    metric.reset()
    with pytest.raises(ValueError, match="no image was scored yet"):
        metric.aggregate()


def test_class_parts_and_options(triple):
    image = torch.cat(triple[1:], dim=1) * 255
    inside = metrics.SSIMMetric(part="minimum", inside_head=True, data_range=255)
    inside(y_pred=triple.fused * 255, y=image)
    expected = compute_all(triple.fused, image / 255, names=["ssim"])["ssim_head_min"]
    assert inside.aggregate().item() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="part must be .* got 'worst'"):
        metrics.SSIMMetric(part="worst")
    with pytest.raises(ValueError, match="EntropyMetric has no score per source"):
        metrics.EntropyMetric(part="a")(y_pred=triple.fused, y=image / 255)
    with pytest.raises(ValueError, match=r"two sources as \(B, 2, \*spatial\), got \(1, 1, 64, 64\)"):
        metrics.SSIMMetric()(y_pred=triple.fused, y=triple.fused)
