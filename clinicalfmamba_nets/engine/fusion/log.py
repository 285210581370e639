"""Progress of an inference, and the check that every pair became a file of its own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import case_name, printable
from clinicalfmamba_nets.io.files import safe_name
from clinicalfmamba_nets.transforms.notes import split_notes


class FusionLog:
    """Tell each fused image as it is written, with the notes and warnings of its pair, and their number at the end.

    Args:
        output_dir: the folder that the images are written to, for the last line.

    Raises:
        FusionInputError: at the end, when there are fewer files than pairs.
    """

    def __init__(self, output_dir: str | os.PathLike) -> None:
        self.output_dir = Path(output_dir)
        self.logger = logging.getLogger("clinicalfmamba.inference")
        self.pairs = 0
        self.files: set[str] = set()
        self._clock = 0.0

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, an evaluator whose postprocessing saves."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.tell)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Start counting."""
        self._refuse_inputs(getattr(engine.state.dataloader.dataset, "data", []))
        self.pairs, self.files, self._clock = 0, set(), time.perf_counter()

    def _refuse_inputs(self, entries: Sequence[Any]) -> None:
        """Refuse to begin where a result would be written over an input of the run."""
        entries = [entry for entry in entries if isinstance(entry, Mapping)]
        results = {f"{safe_name(str(entry['case']))}_fused" for entry in entries if entry.get("case")}
        for path in (entry.get(key) for entry in entries for key in ("image", "image2")):
            place = Path(path) if isinstance(path, str | os.PathLike) else None
            if place and place.parent.resolve() == self.output_dir.resolve() and case_name(place) in results:
                found = "one of the inputs"
                raise input_error(printable(place), "a place beside the inputs", found, "set another output_dir")

    def tell(self, engine: Engine) -> None:
        """Count the pairs of a step, tell their files, and what was noted of each pair, warnings as such."""
        seconds, self._clock = time.perf_counter() - self._clock, time.perf_counter()
        total = len(engine.state.dataloader.dataset)
        for result in engine.state.output:
            self.pairs += 1
            saved = result["pred"].meta.get("saved_to")
            name = printable(Path(saved).name) if saved else f"pair {self.pairs}"
            for level, kind in ((logging.INFO, "notes"), (logging.WARNING, "warnings")):
                for text in split_notes(getattr(result.get("image"), "meta", {}).get(kind)):
                    self.logger.log(level, "%s: %s: %s", name, kind.removesuffix("s"), text)
            if saved is not None:
                self.files.add(saved)
                self.logger.info("%d/%d  %s  %.2f s", self.pairs, total, name, seconds)

    def finish(self, engine: Engine) -> None:
        """Tell how many images there are now."""
        if len(self.files) < self.pairs:
            found = f"{len(self.files)} files for {self.pairs} pairs"
            raise input_error(
                f"output_dir {self.output_dir}", "a file for each pair", found, "give each pair a case name"
            )
        self.logger.info("%d fused images in %s", len(self.files), printable(self.output_dir))
