"""Progress bar of one long fusion: live on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import Any


def fusing_bar(count: int, unit: str, slow: int) -> Any:
    """Open a bar on stderr.

    Args:
        count: number of steps.
        unit: what a step is, such as "slice".
        slow: in a log, fewer steps than this are not worth a line.

    Returns:
        The bar, a context manager with `update()`.

    Example:
        >>> with fusing_bar(2, "slice", slow=50) as bar:
        ...     _ = bar.update(2)
    """
    from tqdm import tqdm

    live = sys.stderr.isatty()
    return tqdm(
        total=count, desc="fusing", unit=unit, mininterval=0.2 if live else 10, disable=not live and count < slow
    )


def duration(seconds: float) -> str:
    """Return a duration for reading.

    Example:
        >>> duration(75), duration(7260)
        ('1 min 15 s', '2 h 1 min')
    """
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
