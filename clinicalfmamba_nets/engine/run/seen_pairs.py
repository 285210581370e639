"""Which pairs a training has seen: kept with its checkpoint, asked for by a resumed training and an evaluation."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.engine.run.record import RUN_FILE

SHOWN = 5


def pair_name(entry: Mapping[str, Any]) -> str:
    """Name of a pair that stays when its folder is moved: the case and the names of both files.

    Example:
        >>> pair_name({"case": "7", "image": "a/mri.png", "image2": "a/ct.png"})
        '7 (mri.png, ct.png)'
    """
    files = [Path(str(entry[key])).name for key in ("image", "image2") if key in entry]
    return f"{entry.get('case', Path(files[0]).stem if files else '?')} ({', '.join(files)})"


def pair_names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of all pairs of a list, each once, in order."""
    return list(dict.fromkeys(pair_name(entry) for entry in entries))


def some_names(names: Iterable[str]) -> str:
    """Say some names in a row: the first few, and how many more there are.

    Example:
        >>> some_names(["a (x)", "b (y)"])
        'a, b'
    """
    cases = [name.rsplit(" (", 1)[0] for name in names]
    more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    return ", ".join(cases[:SHOWN]) + more


def other_list(before: Iterable[str], now: Iterable[str]) -> str | None:
    """Tell how a list of pairs differs from that of the training so far; None where it does not.

    Example:
        >>> other_list(["a (1.png, 2.png)", "b (1.png, 2.png)"], ["b (1.png, 2.png)"])
        'resumed on another datalist: 1 pair is gone (a), 0 are new'
    """
    first, second = list(before), list(now)
    gone, new = ([name for name in one if name not in set(other)] for one, other in ((first, second), (second, first)))
    if not gone and not new:
        return None if first == second else "resumed on another datalist: the same pairs in another order"
    parts = [_count(gone, "gone"), _count(new, "new")]
    return f"resumed on another datalist: {', '.join(parts).replace('pairs are new', 'are new')}"


def _count(names: list[str], word: str) -> str:
    some = f" ({some_names(names)})" if names else ""
    return f"{len(names)} {'pair is' if len(names) == 1 else 'pairs are'} {word}{some}"


def trained_pairs(weights: str | os.PathLike) -> set[str]:
    """Return the names of the pairs that weights were trained on, by the `run.json` beside them.

    Args:
        weights: a file of weights as a training leaves it.

    Returns:
        Names as of `pair_name`; empty where nothing is known.
    """
    try:
        report = json.loads((Path(weights).parent / RUN_FILE).read_text(encoding="utf-8"))
        return {str(name) for name in report["pairs"]["training"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
