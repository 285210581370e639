"""Pictures of an evaluation: a contact sheet of fused images and a box plot of the scores."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from clinicalfmamba_nets.io.files import atomic_file

BOX_METRICS = ("ssim", "ssim_head_min", "fmi", "vif", "qabf", "scd", "n_abf", "extrema_head")


def write_box_plot(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    metrics: Sequence[str] = BOX_METRICS,
    foot: str = "",
) -> None:
    """Draw one panel for each metric with a box over the pairs for each network, all runs together.

    Args:
        rows: one per run, pair and network, see `tables.summarize`.
        path: the PNG file, written whole or not at all.
        metrics: the panels; those that no row holds are left out.
        foot: words below them.

    Raises:
        ValueError: if no row holds any of the metrics.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [name for name in metrics if any(name in row for row in rows)]
    if not shown:
        raise ValueError(f"a box plot needs rows with one of {list(metrics)}, got none")
    networks = list(dict.fromkeys(row["network"] for row in rows))
    columns = min(4, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.4 * columns, (1.2 + 0.28 * len(networks)) * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis, name in zip(axes, shown, strict=False):
        scores = [[row[name] for row in rows if row["network"] == network and name in row] for network in networks]
        kept = [[value for value in values if math.isfinite(value)] for values in scores]
        axis.boxplot(kept, orientation="horizontal", tick_labels=networks, showmeans=True, flierprops={"markersize": 3})
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3, axis="x")
    axes[0].invert_yaxis()
    if foot:
        figure.supxlabel(foot, fontsize=6)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110, metadata={"Software": None})
