"""The range of values: found for every dtype, checked with a message that names the right one."""

from __future__ import annotations

import warnings

import pytest
import torch

from clinicalfmamba_nets.errors import FusionInputError, FusionWarning
from clinicalfmamba_nets.functional.ranges import BatchCheck, check_range, nearest_range, value_limits


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.float16, torch.float64])
def test_limits_of_every_dtype(dtype):
    assert value_limits(torch.tensor([[7, 3], [90, 12]]).to(dtype)) == (3.0, 90.0)


def test_limits_of_nothing_and_of_nan():
    with pytest.raises(FusionInputError, match=r"at least one value, found shape \(0, 3\)"):
        value_limits(torch.zeros(0, 3))
    with pytest.raises(FusionInputError, match="mri: expected finite values, found NaN or infinity"):
        check_range("mri", torch.tensor([0.0, torch.nan]))


@pytest.mark.parametrize(
    ("high", "usual"), [(0.2, 1), (1.5, 255), (256, 1023), (3071, 4095), (9000, 65535), (1e6, 1e6)]
)
def test_the_nearest_range_is_named(high, usual):
    assert nearest_range(high) == usual
    if usual <= 65535 and high > 1:
        with pytest.raises(FusionInputError, match=f"values from 0 to 1, found 0 to .*data_range={usual:g}"):
            check_range("ct", torch.tensor([0.0, high]))


def test_slack_and_shares():
    assert check_range("ct", torch.tensor([-2.0, 257.0]), 255) == (-2 / 255, 257 / 255)
    with pytest.raises(FusionInputError, match="found -3 to 255; clip or shift"):
        check_range("ct", torch.tensor([-3.0, 255.0]), 255)


def test_a_batch_may_leave_the_range_by_a_quarter_and_predictions_are_warned_of_once():
    check, image = BatchCheck(), torch.rand(1, 2, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(image[:, :1], image * 1.2)
    with pytest.raises(FusionInputError, match="found 0 to 1.3; scale the images to 0..1 before the loss"):
        check(image[:, :1], torch.tensor([0.0, 1.3]))
    with pytest.warns(FusionWarning, match="pred: expected values from 0 to 1, found") as told:
        check(image * 90, image)
        check(image * 80, image)
    assert len(told) == 1
