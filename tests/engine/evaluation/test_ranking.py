"""Ranks and paired tests of methods against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from clinicalfmamba_nets.engine.evaluation.ranking import compare_methods, direction, holm, ranking_text


def rows_of(**scores):
    return [
        {"run": "r", "case": str(place), "network": method, name: value}
        for (method, name), values in ((key.split("__"), values) for key, values in scores.items())
        for place, value in enumerate(values)
    ]


def test_holm_by_hand():
    assert holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_ranks_and_p_values():
    generator = np.random.default_rng(0)
    base = generator.random(20)
    scores = {"a__ssim": base + 0.2, "b__ssim": base, "c__ssim": base + generator.normal(0, 0.1, 20)}
    found = compare_methods(rows_of(**scores), ["a", "b", "c"], ["ssim", "entropy"])
    assert list(found["metrics"]) == ["ssim"] and found["metrics"]["ssim"]["pairs"] == 20
    tests = {(one["first"], one["second"]): one for one in found["metrics"]["ssim"]["tests"]}
    expected = [wilcoxon(scores[f"{x}__ssim"] - scores[f"{y}__ssim"]).pvalue for x, y in tests]
    assert [one["p"] for one in tests.values()] == pytest.approx(expected)
    assert [one["p_holm"] for one in tests.values()] == pytest.approx(holm(expected))
    assert found["average_rank"]["a"] < found["average_rank"]["c"] and tests["a", "b"]["p_holm"] < 0.05
    lines = ranking_text(found)
    assert lines[0].startswith("Mean rank over 1 metrics (1 is best), on the 20 or more pairs of all: a 1.")
    assert "| b | SSIM | - | - |" in lines


def test_the_text_tells_of_each_method_where_the_first_is_better_worse_or_not_told_apart():
    rising = np.linspace(0.1, 0.9, 20)
    one_more = np.array([0.1] * 9 + [0.0] * 11)  # median of the differences 0, yet p below 0.05
    found = compare_methods(
        rows_of(
            **{"a__vif": rising, "a__n_abf": rising, "a__ssim_head_b": rising, "a__qabf": rising + one_more},
            **{"b__vif": rising - 0.1, "b__n_abf": rising - 0.1, "b__ssim_head_b": rising, "b__qabf": rising},
        ),
        ["a", "b"],
        ["ssim_head_b", "vif", "qabf", "n_abf"],
    )
    assert ranking_text(found)[-1] == "| b | VIF, Qabf | N_abf | SSIM in head to B |"
    assert len(ranking_text(found)) == 7, "the list of all tests is for summary.json"


def test_lower_is_better_where_it_is():
    found = compare_methods(rows_of(a__n_abf=[0.1, 0.2], b__n_abf=[0.3, 0.3]), ["a", "b"], ["n_abf"])
    assert found["metrics"]["n_abf"]["ranks"] == {"a": 1.0, "b": 2.0}
    assert "fewer than 6 pairs" in "\n".join(ranking_text(found))
    assert (direction("SSIM"), direction("extrema_head"), direction("sd"), direction("unknown")) == (1, -1, 0, 0)


def test_only_pairs_that_all_methods_have_count_and_equal_scores_are_no_difference():
    found = compare_methods(rows_of(a__ssim=[0.5, 0.6, float("nan")], b__ssim=[0.5, 0.6, 0.9]), ["a", "b"], ["ssim"])
    assert found["metrics"]["ssim"]["pairs"] == 2
    assert found["metrics"]["ssim"]["tests"][0]["p"] == 1 and found["average_rank"] == {"a": 1.5, "b": 1.5}
    assert compare_methods(rows_of(a__ssim=[0.5]), ["a"], ["ssim"]) == {"metrics": {}, "average_rank": {}}
    assert ranking_text({"metrics": {}, "average_rank": {}}) == []
