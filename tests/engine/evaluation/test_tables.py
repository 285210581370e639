"""The Markdown tables of an evaluation."""

from __future__ import annotations

from clinicalfmamba_nets.engine.evaluation.tables import markdown_table, summarize, terminal_table


def test_metrics_without_a_column_are_shown_where_no_others_were_asked_for():
    row = {"run": "run1", "case": "1", "network": "average", "cc": 0.5}
    assert "| average | 0.500 |" in markdown_table(summarize([row]))
    table = markdown_table(summarize([{**row, "ssim": 0.75}]))
    assert "| average | 0.750 |" in table and "0.500" not in table


def test_the_terminal_shows_no_part_of_a_metric_beside_the_whole():
    row = {"run": "run1", "case": "1", "network": "average", "fmi": 0.75, "fmi_a": 0.5, "fmi_b": 1.0, "mi": 0.25}
    assert terminal_table(summarize([row])).splitlines()[0].split() == ["network", "FMI", "mi"]
