"""Checkpoints that are whole or not there, and trainings that go on exactly where they stopped."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from clinicalfmamba_nets.engine.run.ranks import gather_objects, is_main_process, own_index
from clinicalfmamba_nets.engine.run.seen_pairs import other_list, pair_names
from clinicalfmamba_nets.engine.run.weights import damaged_part
from clinicalfmamba_nets.engine.training.averaging import WeightAverage
from clinicalfmamba_nets.engine.training.random_state import capture_random_state, restore_random_state
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import atomic_file

CHECKPOINT_NAME = "checkpoint.pt"
WEIGHTS_NAME = "model.pt"
# A resumed training may have another end; anything else in the settings changes what it computes.
FREE_SETTINGS = ("epochs",)
SCHEDULE_SETTINGS = ("T_max", "eta_min", "base_lrs")
_held: dict[Path, int] = {}  # folders that this process trains in, and the handles of their locks


def hold_folder(folder: Path) -> None:
    """Keep other processes from training in a folder; where the system has no locks nothing is kept.

    Raises:
        FusionInputError: another run works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    leave_folder(folder)  # of a training of this process that never ended
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        remedy = "wait for its end, or name another folder"
        raise input_error(folder, "a folder in which no other run works", "one that does", remedy) from error
    except OSError:  # a network file system without locks
        os.close(handle)
        return
    _held[folder.resolve()] = handle


def leave_folder(folder: Path) -> None:
    """Let other processes train in a folder again."""
    handle = _held.pop(folder.resolve(), None)
    if handle is not None:
        os.close(handle)


def save_atomic(content: Any, path: str | os.PathLike) -> None:
    """Save with `torch.save` into a temporary file of the same folder, then give it its name in one step."""
    with atomic_file(path) as partial:
        torch.save(content, partial)


def plain_state_dict(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights as contiguous tensors in main memory, under the bare network's names."""
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}


class TrainingCheckpoint:
    """Save after every epoch, keep the best weights, and resume.

    `checkpoint.pt` holds what the next epoch depends on: weights, optimizer, schedule, average, epoch, the best value
    of the key metric, the history of :class:`TrainingProgress`, and the random states of every process; it is readable
    with `weights_only=True`.
    `model.pt` is the raw state_dict of the best validated epoch (of the last one where nothing is validated).
    Give this handler last, so that the validation and the schedule of the epoch are in the file.

    Args:
        output_dir: where both files lie.
        network: the bare network.
        optimizer: its optimizer.
        scheduler: its learning rate schedule.
        transform: the transforms of the training data, whose random states are kept.
        average: the weight average whose module is validated and kept.
        evaluator: the validation engine with the key metric; without it the last epoch counts as the best.
        resume: continue from `checkpoint.pt` where there is one; otherwise earlier files are set aside as `previous_*`.
        settings: plain settings of the run; one that differs from the checkpoint's is told in a warning.
        cases: entries of the training list; a resumed training on another list is told in a warning.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        *,
        transform: Any = None,
        average: WeightAverage | None = None,
        evaluator: Engine | None = None,
        resume: bool = False,
        settings: dict[str, Any] | None = None,
        cases: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.output_dir = Path(output_dir)
        self.network, self.optimizer, self.scheduler = network, optimizer, scheduler
        self.transform, self.evaluator = transform, evaluator
        self.average = average or WeightAverage(network)
        self.resume = resume
        self.settings = settings or {}
        self.pairs = pair_names(cases)
        self.logger = logging.getLogger("clinicalfmamba.training")

    def attach(self, engine: Engine) -> None:
        """Load at the start of `engine` and save after each of its epochs."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.check_last_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, lambda _: leave_folder(self.output_dir))
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.leave)

    def leave(self, engine: Engine, error: BaseException) -> None:
        """Let other processes train in the folder again, and raise what ended the training: ignite leaves it to us."""
        leave_folder(self.output_dir)
        raise error

    @property
    def path(self) -> Path:
        """The file that a resumed training starts from."""
        return self.output_dir / CHECKPOINT_NAME

    def start(self, engine: Engine) -> None:
        """Load the checkpoint, or set the files of an earlier training aside; two trainings would mix their files."""
        if is_main_process():
            hold_folder(self.output_dir)
        if self.resume and self.path.is_file():
            self._load(engine)
        elif is_main_process():
            if self.resume:
                self.logger.info("nothing to resume in %s: the training starts at epoch 1", self.output_dir)
            for file in (self.path, self.output_dir / WEIGHTS_NAME):
                if file.is_file():
                    aside = file.with_name(f"previous_{file.name}")
                    os.replace(file, aside)
                    self.logger.warning("kept the earlier %s as %s", file, aside.name)

    def _load(self, engine: Engine) -> None:
        try:
            if damaged := damaged_part(self.path):
                raise ValueError(f"{damaged} damaged")
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self._load_schedule(saved["scheduler"])
            self.average.load_state_dict(saved["average"])
            own = saved["random_states"][own_index(saved["random_states"])]
            restore_random_state(own, self.transform)
        except Exception as error:
            found = " ".join(str(error).split())[:160]
            remedy = "resume with the settings of that training, or start anew with --resume false"
            raise input_error(self.path, "a checkpoint of this network and optimizer", found, remedy) from error
        if engine.scaler is not None and saved["scaler"] is not None:
            engine.scaler.load_state_dict(saved["scaler"])
        engine.state.history = saved["history"]
        engine.state.epoch = saved["epoch"]
        engine.state.iteration = saved["epoch"] * engine.state.epoch_length
        if self.evaluator is not None:
            self.evaluator.state.best_metric = saved["best_metric"]
            self.evaluator.state.best_metric_epoch = saved["best_epoch"]
        if is_main_process():
            self._compare_settings(saved["settings"])
            other = other_list(saved["pairs"], self.pairs) if self.pairs and saved.get("pairs") else None
            if other is not None:
                self.logger.warning(other)
            self.logger.info("resumed %s after epoch %d of %d", self.path, saved["epoch"], engine.state.max_epochs)
            if not (self.output_dir / WEIGHTS_NAME).is_file():
                self._begin_anew()

    def _begin_anew(self) -> None:
        """Write the weights that were resumed where those of the best epoch are gone, and look for the best anew."""
        file = self.output_dir / WEIGHTS_NAME
        save_atomic(plain_state_dict(self.average.module), file)
        if self.evaluator is not None:
            self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = -1, -1
        self.logger.warning("%s was gone: it holds the resumed weights until an epoch is validated", file)

    def _load_schedule(self, saved: dict[str, Any]) -> None:
        """Take over the place in the schedule; its length and ends, and the learning rate, stay as they are now set."""
        own = self.scheduler.state_dict()
        self.scheduler.load_state_dict({**saved, **{name: own[name] for name in SCHEDULE_SETTINGS if name in own}})
        for group, new, old in zip(self.optimizer.param_groups, own["base_lrs"], saved["base_lrs"], strict=True):
            if new != old:
                group["lr"], group["initial_lr"] = group["lr"] * new / old, new

    def _compare_settings(self, saved: dict[str, Any]) -> None:
        for name in sorted(self.settings.keys() - FREE_SETTINGS):
            if name in saved and saved[name] != _plain(self.settings[name]):
                self.logger.warning("resumed with another %s: %s, was %s", name, self.settings[name], saved[name])

    def _is_best(self, engine: Engine) -> bool:
        return self.evaluator is None or self.evaluator.state.best_metric_epoch in (-1, engine.state.epoch)

    def check_last_step(self, engine: Engine) -> None:
        """Refuse weights that the last step of an epoch has spoiled, before they are validated.

        Raises:
            FusionInputError: weights that are not finite.
        """
        if engine.state.iteration % engine.state.epoch_length == 0:
            self._check_finite(engine)

    def _check_finite(self, engine: Engine) -> None:
        if not all(value.isfinite().all() for value in self.network.state_dict().values()):
            remedy = "lower learning_rate and go on with --resume true"
            raise input_error(f"weights after epoch {engine.state.epoch}", "finite numbers", "NaN or infinity", remedy)

    def save(self, engine: Engine) -> None:
        """Write both files; every process of a distributed training takes part, the first one writes.

        Raises:
            FusionInputError: weights that are not finite; the files of the epoch before stay.
        """
        random_states = gather_objects(capture_random_state(self.transform))
        if not is_main_process():
            return
        self._check_finite(engine)
        if self._is_best(engine):
            save_atomic(plain_state_dict(self.average.module), self.output_dir / WEIGHTS_NAME)
        best = self.evaluator.state if self.evaluator is not None else None
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": self.average.state_dict(),
            "scaler": engine.scaler.state_dict() if engine.scaler is not None else None,
            "epoch": engine.state.epoch,
            "best_metric": best.best_metric if best else -1,
            "best_epoch": best.best_metric_epoch if best else engine.state.epoch,
            "history": engine.state.history,
            "random_states": random_states,
            "pairs": self.pairs,
            "settings": {name: _plain(value) for name, value in self.settings.items()},
        }
        save_atomic(content, self.path)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
