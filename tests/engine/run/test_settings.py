"""Each setting out of its range is refused by its name, with what was expected and the nearest right value."""

from __future__ import annotations

import json
import math

import pytest

from clinicalfmamba_nets.engine.run.settings import RULES, check_settings, rotation_prob
from clinicalfmamba_nets.errors import FusionInputError

WRONG = [
    ("epochs", 0, "1"),
    ("epochs", -3, "1"),
    ("epochs", 2.5, "2"),
    ("epochs", True, "1"),
    ("schedule_epochs", 0, "1"),
    ("batch_size", -2, "1"),
    ("val_interval", 0, "1"),
    ("num_workers", -1, "0"),
    ("phantoms", -1, "0"),
    ("seed", -5, "0"),
    ("features", 0, "1"),
    ("dim", 1, "2"),
    ("learning_rate", -1, "0.0005"),
    ("learning_rate", math.nan, "0.0005"),
    ("learning_rate", math.inf, "0.0005"),
    ("learning_rate", 5, "1.0"),
    ("minimum_learning_rate", -1e-7, "0.0005"),
    ("ema_decay", 1.0, "0.999"),
    ("ema_decay", 1.5, "0.999"),
    ("ema_decay", -0.1, "0.0"),
    ("contrast_prob", 1.1, "1.0"),
    ("cache_rate", -1, "0.0"),
    ("val_fraction", 0.9, "0.5"),
    ("val_fraction", 0, "0.1"),
    ("val_fraction", math.nan, "0.1"),
    ("least_shown", 1, "0.1"),
    ("patch_size", [], r"\[256, 256\]"),
    ("patch_size", [32], r"\[32, 32\]"),
    ("patch_size", [32, 32, 32], r"\[32, 32\]"),
    ("patch_size", [0, 64], r"\[8, 64\]"),
    ("patch_size", [33.5, 64], r"\[34, 64\]"),
    ("patch_size", 48, r"\[48, 48\]"),
    ("val_size", [96, -1, 96], r"\[96, 8, 96\]"),
    ("preparation", "natve", "native"),
    ("section", "test", "testing"),
    ("spatial_dims", 4, "2"),
    ("runs", [], r"\['run1'\]"),
    ("runs", "run2", r"\['run2'\]"),
    ("hold_out", 1, "False"),
]


@pytest.mark.parametrize(("name", "value", "nearest"), WRONG, ids=str)
def test_wrong_values_are_refused_with_the_nearest_right_one(name, value, nearest):
    with pytest.raises(FusionInputError, match=f"^{name}: expected .*the nearest right value is {name}={nearest}$"):
        check_settings(**{name: value})


def test_the_nearest_value_is_right_itself():
    for name, rule in RULES.items():
        for value in (None, -1, 0, 0.5, 7, 1e9, math.nan, "x", "", [], [1], {}, True):
            assert rule.is_right(value) or rule.is_right(rule.nearest(value)), (name, value)


@pytest.mark.parametrize("dims", [2, 3])
def test_patches_have_as_many_sizes_as_axes_and_need_not_be_square(dims):
    check_settings(dims, patch_size=[33, 17, 20][:dims])
    with pytest.raises(FusionInputError, match=f"patch_size: expected a list of {dims} whole numbers"):
        check_settings(dims, patch_size=[32] * (5 - dims))
    assert rotation_prob([32, 32]) == 0.5 and rotation_prob([33, 17]) == 0
    assert rotation_prob([32, 48, 32], 0, 2) == 0.5 and rotation_prob([32, 48, 32], 0, 1) == 0


def test_settings_that_are_wrong_together():
    check_settings(epochs=10, schedule_epochs=10, learning_rate=1e-3, minimum_learning_rate=1e-3)
    with pytest.raises(FusionInputError, match="schedule_epochs: expected at least the 10 .*schedule_epochs=10"):
        check_settings(epochs=10, schedule_epochs=9)
    with pytest.raises(FusionInputError, match="minimum_learning_rate: expected at most the learning_rate 0.001"):
        check_settings(learning_rate=1e-3, minimum_learning_rate=0.1)


@pytest.mark.parametrize(
    ("metrics", "told"), [("ssim", "a list of names"), ([], "at least one"), (["sim"], "mean ssim")]
)
def test_metrics_and_devices_are_checked_by_their_own_lists(metrics, told):
    with pytest.raises(FusionInputError, match=f"metrics: .*{told}"):
        check_settings(metrics=metrics)
    with pytest.raises(FusionInputError, match="device 'gpu7'"):
        check_settings(device="gpu7")


@pytest.mark.parametrize("bundle", ["fusion_2d", "fusion_3d", "glioma_grading"])
def test_every_training_and_inference_checks_its_numbers(checkout, bundle):
    folder = checkout / "bundles" / bundle / "configs"
    for file in (*sorted(folder.glob("train*.json")), folder / "inference.json"):
        config = json.loads(file.read_text())
        numbers = {name for name, value in config.items() if isinstance(value, int | float | list)}
        numbers -= {"imports", "initialize", "run", "spatial_dims", "slice_step", "handlers", "loading"}
        assert numbers <= set(config["checks"]), file
        assert "$@checks" in config["initialize"]
        assert set(config["checks"]) - {"_target_", "patch_dims", "device"} <= set(RULES) | {"patch_size", "brats_size"}
