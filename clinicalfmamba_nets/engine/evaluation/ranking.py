"""Several methods on the same pairs: average ranks, and paired tests with their p values held together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clinicalfmamba_nets.engine.evaluation.tables import ALONE, COLUMNS, PAPER_COLUMNS
from clinicalfmamba_nets.metrics import ALL_METRICS, LOWER_IS_BETTER, WITHOUT_DIRECTION
from clinicalfmamba_nets.metrics.conventions import CDDFUSE_COLUMNS

Row = Mapping[str, Any]

SIGNIFICANT = 0.05
TITLES = {name: title.split(", ")[0] for name, title in {**PAPER_COLUMNS, **COLUMNS}.items()} | ALONE


def direction(name: str) -> int:
    """1 where a higher score is better, -1 where a lower one is, 0 where neither is.

    Example:
        >>> direction("ssim_head_min"), direction("n_abf"), direction("entropy")
        (1, -1, 0)
    """
    if name in CDDFUSE_COLUMNS:
        return 1
    base = max((known for known in ALL_METRICS if name == known or name.startswith(f"{known}_")), key=len, default="")
    if not base or base in WITHOUT_DIRECTION:
        return 0
    return -1 if base in LOWER_IS_BETTER else 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values of several tests by Holm's step-down method.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = round(highest, 12)
    return adjusted


def paired_scores(rows: Sequence[Row], methods: Sequence[str], name: str) -> np.ndarray:
    """Scores of all methods on the pairs that each of them has a finite score of, (pairs, methods)."""
    table: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["network"] in methods and math.isfinite(row.get(name, math.nan)):
            table.setdefault((row["run"], row["case"]), {})[row["network"]] = row[name]
    whole = [[scores[method] for method in methods] for scores in table.values() if len(scores) == len(methods)]
    return np.array(whole, dtype=float).reshape(-1, len(methods))


def average_ranks(scores: np.ndarray, sign: int) -> list[float]:
    """Mean rank of each method, 1 for the best; ties share their ranks.

    Example:
        >>> average_ranks(np.array([[0.9, 0.5, 0.5], [0.8, 0.7, 0.1]]), 1)
        [1.0, 2.25, 2.75]
    """
    from scipy.stats import rankdata

    return rankdata(-sign * scores, axis=1).mean(axis=0).tolist()


def _p_value(first: np.ndarray, second: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    difference = first - second
    return 1.0 if not difference.any() else float(wilcoxon(difference).pvalue)


def compare_methods(rows: Sequence[Row], methods: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Compare methods by their scores on the same pairs.

    Args:
        rows: one per run, pair and method: `run`, `case`, `network` and the scores.
        methods: to compare; fewer than two give nothing.
        names: the metrics; those without a direction are left out.

    Returns:
        `metrics`: name -> `pairs` (number that all methods have), `ranks` (method -> mean rank), `tests` (one for each
        two methods: `first`, `second`, `median_difference`, `p` of Wilcoxon's signed-rank test, `p_holm`, held together
        over the tests of the metric); and `average_rank` (method -> mean over the metrics).
    """
    found: dict[str, Any] = {}
    for name in names if len(methods) > 1 else ():
        scores, sign = paired_scores(rows, methods, name), direction(name)
        if not sign or not len(scores):
            continue
        couples = list(itertools.combinations(range(len(methods)), 2))
        values = [_p_value(scores[:, one], scores[:, two]) for one, two in couples]
        tests = [
            {
                "first": methods[one],
                "second": methods[two],
                "median_difference": float(np.median(scores[:, one] - scores[:, two])),
                "p": p,
                "p_holm": adjusted,
            }
            for (one, two), p, adjusted in zip(couples, values, holm(values), strict=True)
        ]
        ranks = dict(zip(methods, average_ranks(scores, sign), strict=True))
        found[name] = {"pairs": len(scores), "ranks": ranks, "tests": tests}
    means = {method: float(np.mean([one["ranks"][method] for one in found.values()])) for method in methods if found}
    return {"metrics": found, "average_rank": means}


def ranking_text(comparison: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown: the mean ranks, and where the first method is better or worse than each other one.

    Args:
        comparison: see `compare_methods`, which holds the ranks and the tests of all methods one by one.
    """
    ranks, metrics = comparison["average_rank"], comparison["metrics"]
    if not ranks:
        return []
    count = min(one["pairs"] for one in metrics.values())
    order = "; ".join(f"{name} {ranks[name]:.2f}" for name in sorted(ranks, key=lambda name: ranks[name]))
    few = "; fewer than 6 pairs can show none" if count < 6 else ""
    first, *others = ranks
    return [
        f"Mean rank over {len(metrics)} metrics (1 is best), on the {count} or more pairs of all: {order}.",
        "",
        f"Differences of {first} with p below {SIGNIFICANT} (Wilcoxon, Holm over all methods{few}); the tests of every "
        "two methods are in summary.json:",
        "",
        f"| {first} against | better | worse | no difference shown |",
        "|---|---|---|---|",
        *(f"| {other} | {' | '.join(_verdicts(metrics, first, other))} |" for other in others),
    ]


def _verdicts(metrics: Mapping[str, Any], first: str, other: str) -> list[str]:
    """Names of the metrics by which the first method is better, worse, and not told apart."""
    names: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for name, entry in metrics.items():
        test = next(one for one in entry["tests"] if (one["first"], one["second"]) == (first, other))
        ahead = test["median_difference"] * direction(name) or entry["ranks"][other] - entry["ranks"][first]
        verdict = ((ahead > 0) - (ahead < 0)) * (test["p_holm"] < SIGNIFICANT)
        names[verdict].append(TITLES.get(name, name))
    return [", ".join(names[verdict]) or "-" for verdict in (1, -1, 0)]
