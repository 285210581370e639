"""Test sets drawn by seed: single slices at random as in the paper, or whole cases so that no head is on both sides."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def random_splits(items: Iterable[Item], test_size: int, runs: int = 3, seed: int = 0) -> list[list[Item]]:
    """Draw disjoint random test sets.

    Source: "ClinicalFMamba", section 3.1: pairs held out at random, three runs with different test sets.

    Args:
        items: what to draw from; the order does not matter.
        test_size: number of items in each test set; fewer where `items` would not leave one set for training.
        runs: number of test sets.
        seed: of the draw.

    Returns:
        One sorted test set for each run; the training set of a run is everything else.

    Raises:
        ValueError: fewer items than runs + 1.

    Example:
        >>> [len(test) for test in random_splits(range(100), 30)]
        [25, 25, 25]
    """
    pool = sorted(items)  # type: ignore[type-var]
    size = min(test_size, len(pool) // (runs + 1))
    if size < 1:
        raise ValueError(f"random splits: expected more than {runs} items, found {len(pool)}")
    random.Random(seed).shuffle(pool)
    return [sorted(pool[run * size : (run + 1) * size]) for run in range(runs)]  # type: ignore[type-var]


def case_splits(
    items: Iterable[Item],
    case_of: Callable[[Item], Hashable],
    linked: Sequence[Collection[Hashable]] = (),
    runs: int = 3,
    seed: int = 0,
) -> list[list[Item]]:
    """Share whole cases out to test sets of about equal size: every case is in the test set of exactly one run.

    Args:
        items: what to share out; the order does not matter.
        case_of: gives the case of an item.
        linked: groups of cases that are one patient or go together; the first group is in the first run, so that
            data sets which share it can be trained on together.
        runs: number of test sets.
        seed: decides between cases of equal size.

    Returns:
        One sorted test set for each run; the training set of a run is everything else.

    Raises:
        ValueError: fewer groups of cases than runs.

    Example:
        >>> case_splits([11, 12, 21, 31], lambda item: item // 10, runs=2)
        [[11, 12], [21, 31]]
    """
    group_of = {case: index for index, group in enumerate(linked) for case in group}
    groups: dict[Hashable, list[Item]] = {}
    for item in sorted(items):  # type: ignore[type-var]
        groups.setdefault(
            ("linked", group_of[case_of(item)]) if case_of(item) in group_of else case_of(item), []
        ).append(item)
    if len(groups) < runs:
        raise ValueError(f"case splits: expected at least {runs} separate cases, found {len(groups)}")
    order = sorted(groups, key=str)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda key: (key != ("linked", 0), -len(groups[key])))
    tests: list[list[Item]] = [[] for _ in range(runs)]
    for key in order:
        min(tests, key=len).extend(groups[key])
    return [sorted(test) for test in tests]  # type: ignore[type-var]
