"""The ROC curve of a grading: area, its confidence interval over patients, and the comparison of two gradings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clinicalfmamba_nets.errors import input_error

DRAWS = 2000


class Comparison(NamedTuple):
    """Difference of two areas (second minus first), its interval, and the two-sided p value."""

    difference: float
    low: float
    high: float
    p: float


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels and scores as arrays of one length.

    Args:
        labels: 1 for the positive class, 0 for the other.
        scores: finite; higher means more positive.

    Raises:
        FusionInputError: other labels, other lengths, scores that are not finite, or one class alone.
    """
    truth, values = np.asarray(labels), np.asarray(scores, np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        found = f"{truth.shape} and {values.shape}"
        raise input_error("labels and scores", "one score for each label", found, "give both for the same cases")
    if not np.isin(truth, (0, 1)).all():
        raise input_error("labels", "0 or 1", f"{sorted(set(truth.tolist()))}", "give 1 for high grade, 0 for low")
    if not np.isfinite(values).all():
        raise input_error("scores", "finite numbers", "NaN or infinite ones", "look at the training's loss")
    for number, name in ((1, "positive"), (0, "negative")):
        if not (truth == number).any():
            raise input_error("labels", "cases of both classes", f"no {name} one", "evaluate on cases of both grades")
    return truth.astype(bool), values


def _wins(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (positives, negatives): 1 where the positive scores higher, 0.5 at a tie."""
    positive, negative = scores[truth][:, None], scores[~truth][None]
    return (positive > negative) + 0.5 * (positive == negative)


def compute_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the share of pairs of a positive and a negative that are in order, ties by half.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982).

    Args:
        labels: 1 or 0 for each case.
        scores: one for each case.

    Returns:
        In [0, 1].

    Raises:
        FusionInputError: see `checked`.

    Example:
        >>> compute_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
    """
    return float(_wins(*checked(labels, scores)).mean())


def roc_points(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of the ROC curve: false and true positive rates from (0, 0) to (1, 1).

    Example:
        >>> roc_points([0, 1], [0.2, 0.7])[1].tolist()
        [0.0, 1.0, 1.0]
    """
    truth, values = checked(labels, scores)
    levels = np.unique(values)[::-1]
    above = values[None] >= levels[:, None]  # (levels, cases)
    false, true = (above[:, chosen].mean(1) for chosen in (~truth, truth))
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def _resampled(wins: Sequence[NDArray[np.float64]], draws: int, seed: int) -> NDArray[np.float64]:
    """Return areas (gradings, draws) of bootstrap samples of patients, drawn in each class apart."""
    generator = np.random.default_rng(seed)
    positives, negatives = wins[0].shape
    times = [generator.multinomial(count, [1 / count] * count, draws) / count for count in (positives, negatives)]
    return np.stack([np.einsum("dp,pn,dn->d", times[0], one, times[1], optimize=True) for one in wins])


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the area; give one score for each patient, not for each slice.

    Args:
        labels: 1 or 0 for each patient.
        scores: one for each patient.
        level: of confidence.
        draws: samples; patients are drawn with replacement in each class apart, so that both are always there.
        seed: of the draws.

    Raises:
        FusionInputError: see `checked`.

    Example:
        >>> auc_interval([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.8])
        (1.0, 1.0)
    """
    areas = _resampled([_wins(*checked(labels, scores))], draws, seed)[0]
    low, high = np.quantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare_by_bootstrap(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """Compare two gradings of the same patients by paired bootstrap.

    The p value is twice the smaller share of samples on either side of no difference, with 1 added to both counts.

    Args:
        labels: 1 or 0 for each patient.
        first: scores of the first grading.
        second: scores of the second.
        level: of the interval.
        draws: samples.
        seed: of the draws.

    Raises:
        FusionInputError: see `checked`.
    """
    wins = [_wins(*checked(labels, scores)) for scores in (first, second)]
    areas = _resampled(wins, draws, seed)
    gain = areas[1] - areas[0]
    low, high = np.quantile(gain, [(1 - level) / 2, (1 + level) / 2])
    tail = min((gain <= 0).sum(), (gain >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (draws + 1))
    return Comparison(float(wins[1].mean() - wins[0].mean()), float(low), float(high), float(p))


def compare_by_delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Comparison:
    """Compare two gradings of the same patients by the test of DeLong.

    Source: DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics 44 (1988). Two gradings of equal order have no variance: then p is 1.

    Args:
        labels: 1 or 0 for each patient, at least 2 of each.
        first: scores of the first grading.
        second: scores of the second.
        level: of the interval.

    Raises:
        FusionInputError: see `checked`, or fewer than 2 patients of a class.
    """
    from scipy.stats import norm

    wins = np.stack([_wins(*checked(labels, scores)) for scores in (first, second)])
    if min(wins.shape[1:]) < 2:
        found = f"{wins.shape[1]} and {wins.shape[2]}"
        raise input_error("labels", "at least 2 patients of each class", found, "evaluate on more patients")
    gains = wins[1] - wins[0]  # (positives, negatives)
    variance = gains.mean(1).var(ddof=1) / gains.shape[0] + gains.mean(0).var(ddof=1) / gains.shape[1]
    difference, deviation = float(gains.mean()), math.sqrt(variance)
    reach = float(norm.ppf((1 + level) / 2)) * deviation
    if deviation == 0:
        return Comparison(difference, difference, difference, 1.0 if difference == 0 else 0.0)
    p = float(2 * norm.sf(abs(difference) / deviation))
    return Comparison(difference, difference - reach, difference + reach, p)
