"""Curves of a training: a PNG and a CSV that are renewed every epoch, and TensorBoard."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from clinicalfmamba_nets.engine.run.ranks import is_main_process
from clinicalfmamba_nets.io.files import atomic_file

NOT_CURVES = ("epoch", "best", "seconds", "seconds_per_pair", "loading_share")
COLUMNS = 3


def _curves(history: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        for name, value in row.items():
            if name not in NOT_CURVES:
                curves.setdefault(name, []).append((row["epoch"], value))
    return curves


def plot_history(history: list[dict[str, Any]], path: str | os.PathLike) -> None:
    """Draw one panel for each loss term, metric and the learning rate over the epochs.

    Args:
        history: rows of :class:`TrainingProgress`.
        path: PNG file, written whole or not at all.

    Example:
        >>> import tempfile
        >>> plot_history([{"epoch": 1, "loss": 3.0}], Path(tempfile.mkdtemp()) / "curves.png")
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = _curves(history)
    rows = max(1, math.ceil(len(curves) / COLUMNS))
    figure = Figure(figsize=(4 * COLUMNS, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, (name, points) in zip(axes, curves.items(), strict=False):
        epochs, values = zip(*points, strict=True)
        axis.plot(epochs, values, marker="." if len(points) < 60 else None)
        axis.set(title=name, xlabel="epoch", yscale="log" if name == "lr" and min(values) > 0 else "linear")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png", dpi=90)


def write_history(history: list[dict[str, Any]], path: str | os.PathLike) -> None:
    """Write the rows of the history as CSV, with a column for every name that any epoch has."""
    names = list(dict.fromkeys(name for row in history for name in row))
    with atomic_file(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(history)


class CurvePlot:
    """Renew `curves.png` and `history.csv` after every epoch.

    Args:
        output_dir: where they lie; give this handler after :class:`TrainingProgress`.
    """

    def __init__(self, output_dir: str | os.PathLike) -> None:
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Draw after each epoch of `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.draw)

    def draw(self, engine: Engine) -> None:
        """Write both files."""
        if is_main_process():
            plot_history(engine.state.history, self.output_dir / "curves.png")
            write_history(engine.state.history, self.output_dir / "history.csv")


class TensorBoardLog:
    """Write every number of the history to TensorBoard, with the epoch as step.

    Args:
        output_dir: the event files go to its folder `tensorboard`; give this handler after :class:`TrainingProgress`.
    """

    def __init__(self, output_dir: str | os.PathLike) -> None:
        self.log_dir = Path(output_dir) / "tensorboard"
        self.writer: Any = None

    def attach(self, engine: Engine) -> None:
        """Write after each epoch of `engine`; close at its end."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def write(self, engine: Engine) -> None:
        """Write the row of the epoch; rows of a resumed training replace those after its checkpoint."""
        if not is_main_process():
            return
        row = engine.state.history[-1]
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.log_dir), purge_step=row["epoch"])
        for name, value in row.items():
            if name not in ("epoch", "best"):
                group = "validation" if name.startswith("val_") else "training"
                self.writer.add_scalar(f"{group}/{name.removeprefix('val_')}", value, row["epoch"])
        self.writer.flush()

    def close(self, engine: Engine) -> None:
        """Close the event file."""
        if self.writer is not None:
            self.writer.close()
