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
