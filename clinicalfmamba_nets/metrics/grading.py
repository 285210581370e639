"""Scores of a grading at a threshold, its calibration, and how slice scores become patient scores."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.metrics.roc import checked, compute_auc

POOLS: dict[str, Callable[..., Any]] = {"mean": np.mean, "max": np.max}
THRESHOLD = 0.5
Name = TypeVar("Name", bound=Hashable)


def grading_scores(labels: ArrayLike, scores: ArrayLike, threshold: float = THRESHOLD) -> dict[str, float]:
    """Return all scores of a grading.

    Args:
        labels: 1 for high grade, 0 for low, one for each case.
        scores: probability of high grade, in [0, 1].
        threshold: a case is graded high from here on.

    Returns:
        `auc`, `f1` (of high grade; 0 where none is found), `accuracy`, `sensitivity`, `specificity`, `brier`, and the
        confusion matrix as counts: `true_high`, `false_high`, `true_low`, `false_low`.

    Raises:
        FusionInputError: see `roc.checked`; or scores outside [0, 1].

    Example:
        >>> grading_scores([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3])["accuracy"]
        1.0
    """
    truth, values = checked(labels, scores)
    if values.min() < 0 or values.max() > 1:
        found = f"{values.min():g} to {values.max():g}"
        raise input_error("scores", "probabilities from 0 to 1", found, "give the sigmoid of the network's output")
    high = values >= threshold
    counts = {
        "true_high": int((high & truth).sum()),
        "false_high": int((high & ~truth).sum()),
        "true_low": int((~high & ~truth).sum()),
        "false_low": int((~high & truth).sum()),
    }
    hits, misses = counts["true_high"], counts["false_high"] + counts["false_low"]
    return {
        "auc": compute_auc(truth, values),
        "f1": 2 * hits / (2 * hits + misses) if hits + misses else 0.0,
        "accuracy": float((high == truth).mean()),
        "sensitivity": float(high[truth].mean()),
        "specificity": float((~high[~truth]).mean()),
        "brier": float(np.square(values - truth).mean()),
        **counts,
    }


def reliability(labels: ArrayLike, scores: ArrayLike, bins: int = 10) -> list[tuple[float, float, int]]:
    """Return the points of a reliability plot: mean score, share of high grade and number of cases of each full bin.

    Args:
        labels: 1 or 0 for each case.
        scores: probabilities.
        bins: of equal width over [0, 1].

    Example:
        >>> reliability([0, 1], [0.25, 0.75], 2)
        [(0.25, 0.0, 1), (0.75, 1.0, 1)]
    """
    truth, values = checked(labels, scores)
    places = np.minimum((values * bins).astype(int), bins - 1)
    chosen = [places == number for number in range(bins)]
    return [(float(values[one].mean()), float(truth[one].mean()), int(one.sum())) for one in chosen if one.any()]


def patient_scores(patients: Sequence[Name], scores: ArrayLike, how: str = "mean") -> dict[Name, float]:
    """Return one score for each patient from those of the slices.

    Args:
        patients: the patient of each slice.
        scores: of each slice.
        how: "mean", or "max", which one bright slice decides.

    Raises:
        FusionInputError: another way, or other lengths.

    Example:
        >>> patient_scores(["a", "b", "a"], [0.2, 0.9, 0.4], "max")
        {'a': 0.4, 'b': 0.9}
    """
    values = np.asarray(scores, np.float64)
    if how not in POOLS:
        raise input_error("patient score", f"one of {', '.join(POOLS)}", repr(how), "choose one of these")
    if values.shape != (len(patients),):
        found = f"{len(patients)} patients and scores of shape {values.shape}"
        raise input_error("slice scores", "one patient for each score", found, "give both for the same slices")
    groups: dict[Name, list[float]] = {}
    for patient, value in zip(patients, values.tolist(), strict=True):
        groups.setdefault(patient, []).append(value)
    return {patient: float(POOLS[how](group)) for patient, group in groups.items()}
