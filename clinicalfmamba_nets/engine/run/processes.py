"""One run shared by the processes that `torchrun` started: each case in one of them, one report of all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from clinicalfmamba_nets.engine.run.launcher import interruptible, launched_rank, meet
from clinicalfmamba_nets.engine.run.record import RunReport

_Case = TypeVar("_Case")
_LONGEST_WAIT = timedelta(days=30)  # for the slowest process


def process_rank() -> tuple[int, int]:
    """Return the rank of this process and the number of processes: (0, 1) where it was started alone.

    Raises:
        FusionInputError: the variables of torchrun are set by half, or hold nonsense.

    Example:
        >>> process_rank()
        (0, 1)
    """
    return launched_rank()[:2]


@contextlib.contextmanager
def joined_processes() -> Iterator[None]:
    """Join the processes of a run, each with a GPU of its own where there are any; of no effect in a single one.

    Raises:
        FusionInputError: the others do not come within minutes.
    """
    own = launched_rank()
    if own.processes == 1:
        yield
        return
    import torch.distributed as dist

    _take_own_gpu(own.local_rank)
    meet(own, _LONGEST_WAIT)
    try:
        yield
    except Exception:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()  # not after Ctrl-C: it would wait for the others


def _take_own_gpu(local: int) -> None:
    """Show this process one GPU alone; torch reads the variable when it first looks for GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else []
    if names:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[local % len(names)]
    elif visible is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(local)


def own_cases(cases: Sequence[_Case]) -> list[tuple[int, _Case]]:
    """Return the cases of this process with their numbers, from 1, in the whole list."""
    rank, count = process_rank()
    return list(enumerate(cases, 1))[rank::count]


def merge_reports(report: RunReport, cases: Sequence[str]) -> None:
    """Put the outcomes of all processes into the report of each, in the order of the cases.

    Args:
        report: of this process; its settings hold `weights`, a dictionary.
        cases: names of the whole list.
    """
    if process_rank()[1] == 1:
        return
    from clinicalfmamba_nets.engine.run.ranks import gather_objects

    order = {case: number for number, case in enumerate(cases)}
    own = report.outputs, report.details, report.settings["weights"]
    parts = interruptible(lambda: gather_objects(own))
    report.outputs = sorted((result for part in parts for result in part[0]), key=lambda result: order[result.case])
    for _, details, weights in parts:
        report.details.update(details)
        report.settings["weights"].update(weights)
