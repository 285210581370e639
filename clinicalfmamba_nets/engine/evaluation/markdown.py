"""Put the tables of evaluations into a document, between two marks, so that no number is copied by hand.

python -m clinicalfmamba_nets.engine.evaluation.markdown README.md "CT-MRI, run 1=OUT"
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.files import atomic_file

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
TABLE = "table.md"


def replace_results(document: str, results: str) -> str:
    """Replace what lies between the two marks.

    Args:
        document: text with both marks, each once and in this order.
        results: what is to stand between them.

    Raises:
        ValueError: marks that are missing, doubled or in another order.

    Example:
        >>> replace_results("a <!-- results:begin --> old <!-- results:end --> b", "new").split()[-2:]
        ['-->', 'b']
    """
    if document.count(BEGIN) != 1 or document.count(END) != 1 or document.index(BEGIN) > document.index(END):
        raise ValueError(f"expected {BEGIN} and {END}, once each and in this order")
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{results.strip()}\n\n{END}{after}"


def write_results(document: str | os.PathLike, folders: Mapping[str, str | os.PathLike]) -> None:
    """Write the tables of evaluations into a document.

    Args:
        document: a Markdown file with both marks.
        folders: title -> output folder of an evaluation, which holds `table.md`.

    Raises:
        FusionInputError: a folder without a table, or a document without the marks.
    """
    target, parts = Path(document), []
    for title, folder in folders.items():
        table = Path(folder) / TABLE
        if not table.is_file():
            raise input_error(table, "the table of an evaluation", "no such file", "run clinicalfmamba evaluate first")
        parts.append(f"### {title}\n\n{table.read_text(encoding='utf-8').strip()}")
    try:
        text = replace_results(target.read_text(encoding="utf-8"), "\n\n".join(parts))
    except ValueError as error:
        raise input_error(target, f"the marks {BEGIN} and {END}", str(error), "add them") from error
    with atomic_file(target) as partial:
        partial.write_text(text, encoding="utf-8")


def main(words: Sequence[str]) -> int:
    """Run as a program; 2 for wrong arguments, 1 for a fault."""
    pairs = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    if len(words) < 2 or len(pairs) != len(words) - 1:
        print("error: expected DOCUMENT TITLE=FOLDER ...", file=sys.stderr)
        return 2
    try:
        write_results(words[0], pairs)
    except FusionInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
