"""Put the tables of evaluations into a document, between two marks, so that no number is copied by hand.

python -m clinicalfmamba_nets.engine.evaluation.markdown [--short] README.md "CT-MRI, run 1=OUT"
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clinicalfmamba_nets.engine.evaluation.ranking import direction
from clinicalfmamba_nets.engine.evaluation.tables import COLUMNS, MAIN
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.files import atomic_file

MARKS = "<!-- {}:begin -->", "<!-- {}:end -->"
BEGIN, END = (mark.format("results") for mark in MARKS)
TABLE = "table.md"
WORSE = "SSIM in head, worse source"
NAMES = {title: name for name, title in COLUMNS.items()}
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def replace_results(document: str, results: str, name: str = "results") -> str:
    """Replace what lies between the two marks.

    Args:
        document: text with both marks, each once and in this order.
        results: what is to stand between them.
        name: word of the marks.

    Raises:
        ValueError: marks that are missing, doubled or in another order.

    Example:
        >>> replace_results("a <!-- results:begin --> old <!-- results:end --> b", "new").split()[-2:]
        ['-->', 'b']
    """
    begin, end = (mark.format(name) for mark in MARKS)
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise ValueError(f"expected {begin} and {end}, once each and in this order")
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n\n{results.strip()}\n\n{end}{after}"


def short_table(table: str) -> str:
    """Keep of an evaluation's tables the columns that tell good from bad, means alone, the best of each in bold.

    Args:
        table: text of `table.md`.

    Returns:
        One table; "" where the text has none of these columns.

    Example:
        >>> print(short_table("| network | VIF | bone |\\n|---|---|---|\\n| a | 0.5 ± 0.1 | 1 |"))
        | network | VIF |
        |---|---|
        | a | 0.5 |
    """
    wanted = ("network", *(COLUMNS[name] for name in MAIN if name in COLUMNS))
    scores = [part for part in re.split(r"\n\s*\n", table) if part.startswith("| network |")][-1:]  # ranks stay away
    lines = "".join(scores).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    places = [place for place, title in enumerate(rows[0] if rows else []) if title in wanted]
    kept = [[row[place].split(" ± ")[0] for place in places] for row in rows]
    for column, title in enumerate(kept[0] if len(kept) > 3 else []):
        _embolden(kept[2:], column, direction(NAMES.get(title, "")))
    kept[:1] = [[WORSE if title == COLUMNS["ssim_head_min"] else title for title in row] for row in kept[:1]]
    return "\n".join("|---" * len(row) + "|" if row[0] == "---" else f"| {' | '.join(row)} |" for row in kept)


def _embolden(rows: list[list[str]], column: int, sign: int) -> None:
    """Set the best values of a column in bold where they are not those of all rows."""
    values = [sign * float(row[column]) if sign and NUMBER.fullmatch(row[column]) else -math.inf for row in rows]
    best = max(values)
    if best > -math.inf and min(values) < best:
        for row, value in zip(rows, values, strict=True):
            row[column] = f"**{row[column]}**" if value == best else row[column]


def write_results(document: str | os.PathLike, folders: Mapping[str, str | os.PathLike], short: bool = False) -> None:
    """Write the tables of evaluations into a document.

    Args:
        document: a Markdown file with both marks.
        folders: title -> output folder of an evaluation, which holds `table.md`.
        short: write the columns that tell good from bad alone.

    Raises:
        FusionInputError: a folder without a table, or a document without the marks.
    """
    target, parts = Path(document), []
    for title, folder in folders.items():
        table = Path(folder) / TABLE
        if not table.is_file():
            raise input_error(table, "the table of an evaluation", "no such file", "run clinicalfmamba evaluate first")
        text = table.read_text(encoding="utf-8").strip()
        parts.append(f"### {title}\n\n{short_table(text) if short else text}")
    try:
        text = replace_results(target.read_text(encoding="utf-8"), "\n\n".join(parts))
    except ValueError as error:
        raise input_error(target, f"the marks {BEGIN} and {END}", str(error), "add them") from error
    with atomic_file(target) as partial:
        partial.write_text(text, encoding="utf-8")


def main(words: Sequence[str]) -> int:
    """Run as a program; 2 for wrong arguments, 1 for a fault."""
    short, words = "--short" in words, [word for word in words if word != "--short"]
    pairs = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    if len(words) < 2 or len(pairs) != len(words) - 1:
        print("error: expected [--short] DOCUMENT TITLE=FOLDER ...", file=sys.stderr)
        return 2
    try:
        write_results(words[0], pairs, short)
    except FusionInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
