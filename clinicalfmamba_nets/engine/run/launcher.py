"""What `torchrun` tells a process by environment variables, and how the processes of a run first meet."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from clinicalfmamba_nets.errors import input_error

MEETING_TIME = timedelta(minutes=5)  # within which all processes must have come
_TELL_AFTER = 3.0  # seconds of waiting
_REMEDY = "start all processes by torchrun, or unset RANK and WORLD_SIZE to run alone"
_Result = TypeVar("_Result")


class ProcessRank(NamedTuple):
    """One process among those of a run."""

    rank: int
    processes: int
    local_rank: int


def launched_rank() -> ProcessRank:
    """Read RANK, WORLD_SIZE and LOCAL_RANK; an empty variable is one that is not set.

    Raises:
        FusionInputError: a variable is no number, out of range, or set without those that belong to it.

    Example:
        >>> launched_rank()
        ProcessRank(rank=0, processes=1, local_rank=0)
    """
    count = _number("WORLD_SIZE", 1, None)
    rank = _number("RANK", 0, None)
    if count is None:
        if rank:
            raise input_error("WORLD_SIZE", f"the number of processes beside RANK={rank}", "none", _REMEDY)
        return ProcessRank(0, 1, 0)
    if rank is None and count > 1:
        raise input_error("RANK", f"a number below WORLD_SIZE={count}", "none", _REMEDY)
    if (rank or 0) >= count:
        raise input_error("RANK", f"a number below WORLD_SIZE={count}", str(rank), _REMEDY)
    if count == 1:
        return ProcessRank(0, 1, 0)
    if not os.environ.get("MASTER_ADDR", "").strip():
        raise input_error("MASTER_ADDR", f"the host at which WORLD_SIZE={count} processes meet", "none", _REMEDY)
    if _number("MASTER_PORT", 1, 65535) is None:
        raise input_error("MASTER_PORT", f"the port at which WORLD_SIZE={count} processes meet", "none", _REMEDY)
    return ProcessRank(rank or 0, count, _number("LOCAL_RANK", 0, None) or 0)


def _number(variable: str, least: int, most: int | None) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    expected = f"a whole number from {least}" + ("" if most is None else f" to {most}")
    if not (text.isascii() and text.isdigit()) or int(text) < least or (most is not None and int(text) > most):
        raise input_error(variable, expected, repr(text), _REMEDY)
    return int(text)


def meet(own: ProcessRank, longest_wait: timedelta) -> None:
    """Form torch's process group of all processes; tells on the standard error when others are late.

    Args:
        own: of this process, one of several.
        longest_wait: of what the group does later.

    Raises:
        FusionInputError: not all processes have come within `MEETING_TIME`.
    """
    host = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        interruptible(
            lambda: _form_group(own, longest_wait),
            f"process {own.rank} waits at {host} for all {own.processes} processes (RANK, WORLD_SIZE)",
        )
    except (RuntimeError, ValueError) as error:  # torch raises DistError, a RuntimeError, and ValueError
        minutes = f"{MEETING_TIME.total_seconds() / 60:g} minutes"
        expected = f"{own.processes} processes at {host} within {minutes}"
        found = f"too few ({str(error).splitlines()[0][:200] if str(error) else type(error).__name__})"
        raise input_error(f"WORLD_SIZE {own.processes}", expected, found, _REMEDY) from error


def _form_group(own: ProcessRank, longest_wait: timedelta) -> None:
    import torch.distributed as dist

    store, rank, count = next(dist.rendezvous("env://", own.rank, own.processes, timeout=MEETING_TIME))
    store = dist.PrefixStore("clinicalfmamba", store)
    store.set_timeout(MEETING_TIME)
    store.set(f"process {rank}", "here")
    store.wait([f"process {other}" for other in range(count)], MEETING_TIME)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=longest_wait)


def interruptible(call: Callable[[], _Result], waiting: str = "") -> _Result:
    """Run what may block for long outside of Python so that Ctrl-C and SIGTERM end the wait.

    Args:
        call: is run in a thread of its own.
        waiting: told once on the standard error when it takes seconds.

    Returns:
        What the call returns; what it raises is raised.

    Example:
        >>> interruptible(lambda: 1 + 1)
        2
    """
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = call()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_TELL_AFTER)
    if thread.is_alive() and waiting:
        print(waiting, file=sys.stderr, flush=True)
    while thread.is_alive():
        thread.join(0.2)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
