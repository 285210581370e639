"""What there is to tell about a pair, kept in its meta: one text of many lines, because batches pass on no lists."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

KINDS = ("notes", "warnings")  # harmless facts, and what changes the meaning of the picture


def join_notes(texts: Iterable[str | None]) -> str:
    r"""Return one text of several; empty ones are left out, a line break within one becomes a space.

    Example:
        >>> join_notes(["two contrasts; one is taken", "", "turned\nupright"])
        'two contrasts; one is taken\nturned upright'
    """
    return "\n".join(" ".join(str(text).split()) for text in texts if text)


def split_notes(text: str | None) -> list[str]:
    r"""Return the texts that `join_notes` has joined.

    Example:
        >>> split_notes("two contrasts; one is taken\nturned upright")
        ['two contrasts; one is taken', 'turned upright']
    """
    return [line for line in (text or "").split("\n") if line]


def add_notes(meta: MutableMapping[str, Any], kind: str, *texts: str | None) -> None:
    """Add texts to the "notes" or "warnings" of a pair's meta, each only once.

    Example:
        >>> meta = {"notes": "one"}
        >>> add_notes(meta, "notes", "two", "one", None)
        >>> split_notes(meta["notes"])
        ['one', 'two']
    """
    meta[kind] = join_notes(dict.fromkeys([*split_notes(meta.get(kind)), *split_notes(join_notes(texts))]))
