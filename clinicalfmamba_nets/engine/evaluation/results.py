"""The files of an evaluation: statistics, table, comparison of methods, and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.engine.evaluation.comparison import REFERENCE, TRAP
from clinicalfmamba_nets.engine.evaluation.plots import BOX_METRICS, write_box_plot
from clinicalfmamba_nets.engine.evaluation.provenance import Provenance
from clinicalfmamba_nets.engine.evaluation.ranking import compare_methods, ranking_text
from clinicalfmamba_nets.engine.evaluation.tables import (
    COLUMNS,
    PAPER_COLUMNS,
    Summary,
    markdown_table,
    metric_names,
    summarize,
    without_infinity,
)
from clinicalfmamba_nets.engine.pictures.contact_sheet import write_contact_sheet
from clinicalfmamba_nets.engine.run.record import machine_facts, write_json
from clinicalfmamba_nets.io.files import atomic_file
from clinicalfmamba_nets.metrics.conventions import CDDFUSE_COLUMNS

RANKED = (*PAPER_COLUMNS, *COLUMNS, *CDDFUSE_COLUMNS)


def write_evaluation(
    output: Path,
    rows: Sequence[Mapping[str, Any]],
    sheets: Mapping[str, tuple[list[Any], list[str]]],
    origin: Provenance,
    settings: Mapping[str, Any],
    failures: Sequence[Mapping[str, str]],
    published: bool = False,
) -> Summary:
    """Write `summary.json`, `table.md`, the contact sheets and the box plot of an evaluation.

    Args:
        output: folder of the results.
        rows: one per run, pair and network: `run`, `case`, `network` and the scores.
        sheets: suffix of a contact sheet's name -> its rows and titles.
        origin: weights and data.
        settings: `task` and what else was asked for.
        failures: `run`, `case`, `network` and `error` of what could not be scored.
        published: add the rows that the paper prints.

    Returns:
        The statistics, see `tables.summarize`.
    """
    summary = summarize(rows)
    methods = [name for name in summary if name != REFERENCE and not name.startswith(TRAP)]
    comparison = compare_methods(rows, methods, [name for name in RANKED if name in metric_names(rows)])
    facts = {"weights": origin.weights, "data": origin.data, "trained_on": origin.seen, "system": machine_facts()}
    content = {"settings": {**settings, **facts}, "failures": list(failures)}
    content |= {"networks": summary, "comparison": comparison}
    write_json(without_infinity(content), output / "summary.json")
    lines = origin.lines() + _left_out(failures) + _remarked(rows)
    table = markdown_table(summary, str(settings["task"]), published, lines, ranking_text(comparison))
    with atomic_file(output / "table.md") as partial:
        partial.write_text(table, encoding="utf-8")
    shown = [name for name in (*BOX_METRICS, *CDDFUSE_COLUMNS, *PAPER_COLUMNS) if any(name in row for row in rows)][:8]
    if shown:
        write_box_plot(rows, output / "box_plot.png", shown, origin.short())
    for suffix, (pictures, titles) in sheets.items():
        if pictures:
            write_contact_sheet(pictures, titles, output / f"contact_sheet{suffix}.png", origin.short())
    return summary


def _remarked(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was noticed of the images of each network, and of how many."""
    counts: dict[str, Counter] = {}
    for row in rows:
        if row.get("remarks") and not row["network"].startswith(TRAP):
            counts.setdefault(row["network"], Counter()).update(row["remarks"].split("; "))
    pairs = Counter(row["network"] for row in rows)
    lines = []
    for network, found in counts.items():
        texts = [f"{text} ({many} of {pairs[network]} pairs)" for text, many in found.most_common(5)]
        lines.append(f"**{network}: {'; '.join(texts)}.**")
    return lines


def _left_out(failures: Sequence[Mapping[str, str]]) -> list[str]:
    if not failures:
        return []
    who = dict.fromkeys(" of ".join(filter(None, (one["case"], one["network"]))) for one in failures)
    return [f"**Not scored: {', '.join(who)}; the reasons are in summary.json.**"]
