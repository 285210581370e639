"""Scores of gradings against scipy, against documented values of scikit-learn, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.metrics.grading import grading_scores, patient_scores, reliability
from clinicalfmamba_nets.metrics.roc import (
    auc_interval,
    compare_by_bootstrap,
    compare_by_delong,
    compute_auc,
    roc_points,
)


def drawn(count=40, gain=1.0, seed=0):
    """Labels and two correlated gradings, the second better by `gain`."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    common = generator.normal(size=count)
    return labels, common + 0.5 * labels + 0.3 * generator.normal(size=count), common + (0.5 + gain) * labels


def test_auc_is_the_u_statistic_also_with_ties():
    generator = np.random.default_rng(1)
    labels, scores = generator.integers(0, 2, 60), generator.integers(0, 6, 60)
    u = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert compute_auc(labels, scores) == pytest.approx(u / (labels.sum() * (1 - labels).sum()))


def test_values_that_scikit_learn_documents():
    assert compute_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert grading_scores([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3])["brier"] == pytest.approx(0.0375)
    false, true = roc_points([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    assert (false.tolist(), true.tolist()) == ([0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1])


def test_the_area_under_the_points_is_the_auc():
    labels, scores, _ = drawn()
    scores = scores.round(1)
    false, true = roc_points(labels, scores)
    assert np.trapezoid(true, false) == pytest.approx(compute_auc(labels, scores))


def test_scores_at_a_threshold_by_hand():
    scores = grading_scores([1, 1, 1, 0, 0], [0.9, 0.6, 0.2, 0.5, 0.1])
    assert [scores[name] for name in ("true_high", "false_high", "true_low", "false_low")] == [2, 1, 1, 1]
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert (scores["sensitivity"], scores["specificity"]) == (pytest.approx(2 / 3), 0.5)
    assert scores["f1"] == pytest.approx(2 * (2 / 3) * (2 / 3) / (2 / 3 + 2 / 3))
    assert grading_scores([1, 0], [0.1, 0.2])["f1"] == 0


def test_the_interval_covers_as_often_as_it_says():
    truth = stats.norm.cdf(1 / np.sqrt(2))
    covered = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 30)
        low, high = auc_interval(labels, generator.normal(labels), draws=300)
        covered.append(low <= truth <= high)
    assert 0.88 <= np.mean(covered) <= 0.98


def test_the_bootstrap_agrees_with_a_plain_one():
    labels, scores, _ = drawn(30)
    generator, areas = np.random.default_rng(5), []
    classes = [np.flatnonzero(labels == value) for value in (0, 1)]
    for _ in range(2000):
        chosen = np.concatenate([generator.choice(one, one.size) for one in classes])
        areas.append(compute_auc(labels[chosen], scores[chosen]))
    np.testing.assert_allclose(auc_interval(labels, scores), np.quantile(areas, [0.025, 0.975]), atol=0.02)


def test_delong_against_the_formula_with_covariances():
    labels, first, second = drawn()
    truth = labels == 1
    parts = []
    for scores in (first, second):
        wins = (scores[truth][:, None] > scores[~truth]).astype(float)
        parts.append((wins.mean(1), wins.mean(0)))
    s10, s01 = (np.cov([part[number] for part in parts]) for number in (0, 1))
    variance = sum((s[0, 0] + s[1, 1] - 2 * s[0, 1]) / 20 for s in (s10, s01))
    difference = compute_auc(labels, second) - compute_auc(labels, first)
    found = compare_by_delong(labels, first, second)
    assert found.difference == pytest.approx(difference)
    assert found.p == pytest.approx(2 * stats.norm.sf(difference / np.sqrt(variance)))
    assert found.high - found.low == pytest.approx(2 * 1.959964 * np.sqrt(variance), rel=1e-5)


@pytest.mark.parametrize("compare", [compare_by_delong, compare_by_bootstrap])
def test_comparisons_see_a_gain_and_none(compare):
    labels, first, second = drawn(60, gain=1.5)
    found = compare(labels, first, second)
    assert found.p < 0.01 and 0 < found.low < found.difference < found.high
    assert compare(labels, first, first).p == 1
    assert compare(labels, first, drawn(60, gain=0.0)[2]).p > 0.05


def test_reliability_by_hand():
    points = reliability([0, 1, 1, 1], [0.05, 0.15, 0.12, 1.0])
    assert points == [(0.05, 0.0, 1), (pytest.approx(0.135), 1.0, 2), (1.0, 1.0, 1)]


def test_patient_scores():
    names, values = ["b", "a", "b", "b"], [0.1, 0.5, 0.2, 0.9]
    assert patient_scores(names, values) == {"b": pytest.approx(0.4), "a": 0.5}
    assert patient_scores(names, values, "max") == {"b": 0.9, "a": 0.5}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compute_auc([1, 1], [0.1, 0.2]), "cases of both classes, found no negative one"),
        (lambda: compute_auc([0, 2], [0.1, 0.2]), "labels: expected 0 or 1"),
        (lambda: compute_auc([0, 1], [0.1, np.nan]), "finite numbers"),
        (lambda: compute_auc([0, 1], [0.1]), "one score for each label"),
        (lambda: grading_scores([0, 1], [-2.0, 3.0]), "probabilities from 0 to 1, found -2 to 3"),
        (lambda: patient_scores(["a"], [0.1], "median"), "one of mean, max"),
        (lambda: patient_scores(["a"], [0.1, 0.2]), "one patient for each score"),
        (lambda: compare_by_delong([0, 1], [0.1, 0.2], [0.1, 0.2]), "at least 2 patients of each class"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(FusionInputError, match=message):
        call()
