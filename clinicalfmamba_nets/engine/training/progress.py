"""Progress of a training: a live line on a terminal, one line an epoch in a log, and the history of all epochs."""

from __future__ import annotations

import logging
import math
import statistics
import sys
import time
from typing import Any

import torch
from ignite.engine import Engine, Events

from clinicalfmamba_nets.engine.run.progress_bar import duration
from clinicalfmamba_nets.engine.run.ranks import is_main_process, mean_over_ranks
from clinicalfmamba_nets.engine.training.tracked_loss import TrackedLoss
from clinicalfmamba_nets.errors import input_error

LIVE_INTERVAL = 0.5  # seconds between two updates of the live line
FORECAST_STEP = 10  # after so many steps the time of the whole training is told
TIMES = ("seconds", "seconds_per_pair", "loading_share")


class TrainingProgress:
    """Collect loss terms, learning rate, speed and validation metrics of each epoch and tell them.

    The trainer's `state.history` is a list with one dictionary an epoch: epoch, loss, each loss term, lr, seconds,
    seconds_per_pair, loading_share (of the time of the steps, spent waiting for batches), and the validation metrics of
    the epochs that were validated. Give this handler after the validation handler and before those that read the
    history.

    Args:
        loss: the loss of the trainer, which keeps its latest terms.
        optimizer: the optimizer whose learning rate is told.
        evaluator: the validation engine.

    Raises:
        FusionInputError: while training, when the loss is not finite.
    """

    def __init__(self, loss: TrackedLoss, optimizer: torch.optim.Optimizer, evaluator: Engine | None = None) -> None:
        self.loss, self.optimizer, self.evaluator = loss, optimizer, evaluator
        self.logger = logging.getLogger("clinicalfmamba.training")
        self.live = sys.stderr.isatty() and is_main_process()
        self._sums: dict[str, float] = {}
        self._pairs = 0
        self._first, self._begun = -1, 0.0
        self._lr = self._started = self._shown = self._asked = self._waited = 0.0

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, a trainer."""
        engine.state.history = []
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self.get)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)

    def begin_epoch(self, engine: Engine) -> None:
        """Start the sums and the clock of an epoch."""
        self._sums, self._pairs, self._waited = {}, 0, 0.0
        self._lr = float(self.optimizer.param_groups[0]["lr"])
        self._started = time.perf_counter()
        if self._first < 0:  # the first epoch of this run: a resumed training counts its steps from here
            self._first, self._begun = engine.state.iteration, self._started

    def ask(self, engine: Engine) -> None:
        """Note when a batch was asked for."""
        self._asked = time.perf_counter()

    def get(self, engine: Engine) -> None:
        """Add the time until it came."""
        self._waited += time.perf_counter() - self._asked

    def step(self, engine: Engine) -> None:
        """Add the terms of a training step, and refresh the live line."""
        values = {name: float(value) for name, value in self.loss.latest.items()}
        if not math.isfinite(values["loss"]):
            step = f"epoch {engine.state.epoch}, step {engine.state.iteration}"
            remedy = "lower learning_rate and go on with --resume true"
            raise input_error(f"training loss at {step}", "a finite number", f"{values['loss']}", remedy)
        self._pairs += self.loss.pairs
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * self.loss.pairs
        if engine.state.iteration - self._first == FORECAST_STEP and is_main_process():
            self._forecast(engine)
        if self.live and time.perf_counter() - self._shown > LIVE_INTERVAL:
            self._show(engine)

    def _forecast(self, engine: Engine) -> None:
        """Tell how long the training will take, by the pace of its first steps; validations come on top."""
        pace = (time.perf_counter() - self._begun) / FORECAST_STEP
        steps = engine.state.epoch_length * engine.state.max_epochs - engine.state.iteration
        self._clear()
        text = "about %s for the %d steps that are left at %.2g s each, validations not counted"
        self.logger.info(text, duration(pace * steps), steps, pace)

    def end_epoch(self, engine: Engine) -> None:
        """Add the epoch to the history and tell it in one line."""
        seconds = time.perf_counter() - self._started
        means = mean_over_ranks({name: total / max(1, self._pairs) for name, total in self._sums.items()})
        trained = self._train_seconds(engine)
        speed = {"seconds": seconds, "seconds_per_pair": trained / max(1, self._pairs)}
        speed["loading_share"] = self._waited / trained
        row = {"epoch": engine.state.epoch, **means, "lr": self._lr, **speed, **self._validation(engine)}
        engine.state.history.append(row)
        if is_main_process():
            self._clear()
            self.logger.info(self.line(engine.state.history, engine.state.max_epochs))

    def _train_seconds(self, engine: Engine) -> float:
        return float(engine.state.times.get(Events.EPOCH_COMPLETED.name) or time.perf_counter() - self._started)

    def _validation(self, engine: Engine) -> dict[str, float]:
        """Return the metrics of this epoch's validation, or nothing when there was none."""
        if self.evaluator is None or self.evaluator.state.epoch != engine.state.epoch:
            return {}
        metrics = {f"val_{name}": float(value) for name, value in self.evaluator.state.metrics.items()}
        return metrics | {"best": float(self.evaluator.state.best_metric_epoch == engine.state.epoch)}

    @staticmethod
    def line(history: list[dict[str, Any]], epochs: int) -> str:
        """Return the line of the last epoch, with the time that is left at the median pace of the last ten."""
        row = history[-1]
        pace = [past["seconds"] for past in history[-10:]]
        left = duration(statistics.median(pace) * (epochs - row["epoch"]))
        named = {name: value for name, value in row.items() if name not in (*TIMES, "epoch", "lr", "best")}
        values = "  ".join(f"{name} {value:.4f}" for name, value in named.items())
        mark = "  best so far" if row.get("best") else ""
        speed = f"lr {row['lr']:.2e}  {row['seconds_per_pair']:.3g} s/pair  left {left}"
        return f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  {values}{mark}  {speed}"

    def _show(self, engine: Engine) -> None:
        self._shown = time.perf_counter()
        done = (engine.state.iteration - 1) % engine.state.epoch_length + 1
        pace = (self._shown - self._started) / done
        left = duration(pace * (engine.state.epoch_length - done))
        mean = self._sums["loss"] / self._pairs
        text = f"epoch {engine.state.epoch}: step {done}/{engine.state.epoch_length}  loss {mean:.4f}  left {left}"
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
