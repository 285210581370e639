"""One run shared by the processes that `torchrun` started: each case in one of them, one report of all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from clinicalfmamba_nets.engine.run.record import RunReport

_Case = TypeVar("_Case")
_LONGEST_WAIT = timedelta(days=30)  # for the slowest process


def process_place() -> tuple[int, int]:
    """Return the rank of this process and the number of processes: (0, 1) where it was started alone.

    Example:
        >>> process_place()
        (0, 1)
    """
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def joined_processes() -> Iterator[None]:
    """Join the processes of a run, each with a GPU of its own where there are any; of no effect in a single one."""
    if process_place()[1] == 1:
        yield
        return
    import torch.distributed as dist

    _take_own_gpu()
    dist.init_process_group("gloo", timeout=_LONGEST_WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _take_own_gpu() -> None:
    """Show this process one GPU alone; torch reads the variable when it first looks for GPUs."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else []
    if names:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[local % len(names)]
    elif visible is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(local)


def own_cases(cases: Sequence[_Case]) -> list[tuple[int, _Case]]:
    """Return the cases of this process with their numbers, from 1, in the whole list."""
    rank, count = process_place()
    return list(enumerate(cases, 1))[rank::count]


def merge_reports(report: RunReport, cases: Sequence[str]) -> None:
    """Put the outcomes of all processes into the report of each, in the order of the cases.

    Args:
        report: of this process; its settings hold `weights`, a dictionary.
        cases: names of the whole list.
    """
    if process_place()[1] == 1:
        return
    from clinicalfmamba_nets.engine.run.ranks import gather_objects

    order = {case: number for number, case in enumerate(cases)}
    parts = gather_objects((report.outputs, report.details, report.settings["weights"]))
    report.outputs = sorted((result for part in parts for result in part[0]), key=lambda result: order[result.case])
    for _, details, weights in parts:
        report.details.update(details)
        report.settings["weights"].update(weights)
