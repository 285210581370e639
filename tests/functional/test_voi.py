"""Windows by name and number, curves and back, and samples that meet every row."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.functional.voi import (
    HEAD_CURVE,
    apply_curve,
    invert_curve,
    linear_knots,
    parse_voi,
    percentile,
    sample_values,
)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("brain", (0, 80)),
        ("Stroke", (15, 55)),
        ("subdural", (-32.5, 182.5)),
        ("soft", (-150, 250)),
        ("bone", (-800, 2000)),
        ("45 / 90", (0, 90)),
        ("-600/1500", (-1350, 150)),
        ("0-15", (0, 15)),
        ("suv 0-6", (0, 6)),
        ("-4.5 - 9", (-4.5, 9)),
        ("p1/p99", (1, 99)),
    ],
)
def test_windows_are_read(text, limits):
    assert parse_voi(text)[1:3] == limits


@pytest.mark.parametrize("text", ["brian", "40/0", "40/-80", "p99/p1", "p1/p101", "6-0", "", "40", "nan/80", "40/80/2"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(ValueError, match="auto, brain, stroke"):
        parse_voi(text)


def test_the_head_curve_is_monotone_and_comes_back():
    knots = torch.tensor(HEAD_CURVE, dtype=torch.float64)
    values = torch.linspace(-1000, 1500, 2501, dtype=torch.float64)
    mapped = apply_curve(values, knots)
    assert bool((mapped.diff() > 0).all())
    assert apply_curve(torch.tensor([0.0, 80.0]), knots).tolist() == pytest.approx([1 / 6, 2 / 3])
    assert torch.allclose(invert_curve(mapped, knots), values, atol=1e-9)
    assert apply_curve(torch.tensor([-3024.0, 30000.0]), knots).tolist() == [0, 1]


def test_a_straight_line_is_a_curve():
    values = torch.linspace(-50, 150, 101, dtype=torch.float64)
    assert torch.allclose(apply_curve(values, linear_knots(0, 80)), (values / 80).clamp(0, 1))


def test_samples_meet_all_columns():
    image = torch.arange(64 * 96).reshape(64, 96)
    sample = sample_values(image, most=200)
    assert 90 < len(sample) <= 200 and len(set((sample % 96).tolist())) > 60
    assert torch.equal(sample_values(image), image.flatten())


def test_one_hot_value_is_no_percentile():
    values = torch.cat([torch.arange(999.0), torch.tensor([32767.0])])
    assert percentile(values, 99.9) == 998 and percentile(values, 0) == 0 and percentile(values, 100) == 32767
