"""`run.json` of a training: its settings, data, machine, duration and best epoch, for the model card."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from clinicalfmamba_nets import __version__
from clinicalfmamba_nets.engine.run.ranks import is_main_process
from clinicalfmamba_nets.engine.run.record import RUN_FILE, machine_facts, write_json
from clinicalfmamba_nets.engine.run.seen_pairs import pair_names


class TrainingReport:
    """Renew `run.json` after every epoch of a training.

    Args:
        output_dir: where it lies; give this handler after :class:`TrainingProgress`.
        settings: plain settings of the run.
        cases: the entries of the data list that the network learns from; their names are kept.
        val_cases: the entries that it is validated on.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        settings: dict[str, Any],
        cases: list[dict[str, Any]],
        val_cases: list[dict[str, Any]],
    ) -> None:
        self.path = Path(output_dir) / RUN_FILE
        self.settings = settings
        self.cases = {"training": _names(cases), "validation": _names(val_cases)}
        self.pairs = {"training": pair_names(cases), "validation": pair_names(val_cases)}

    def attach(self, engine: Engine) -> None:
        """Write after each epoch of `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def write(self, engine: Engine) -> None:
        """Write the file, whole or not at all."""
        if not is_main_process():
            return
        history = engine.state.history
        best = [row for row in history if row.get("best")]
        content = {
            "version": __version__,
            "system": machine_facts(),
            "settings": self.settings,
            "cases": self.cases,
            "pairs": self.pairs,
            "parameters": sum(value.numel() for value in engine.network.parameters()),
            "epochs": {"done": engine.state.epoch, "planned": engine.state.max_epochs},
            "seconds": round(sum(row["seconds"] for row in history), 1),
            "loading_share": round(statistics.mean(row.get("loading_share", 0.0) for row in history), 4),
            "best": best[-1] if best else history[-1],
            "last": history[-1],
        }
        write_json(content, self.path)


def _names(entries: list[dict[str, Any]]) -> list[str]:
    return [str(entry.get("case", Path(str(entry["image"])).stem)) for entry in entries]
