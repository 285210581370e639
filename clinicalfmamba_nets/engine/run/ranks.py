"""What handlers need to know when several processes train together."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def is_main_process() -> bool:
    """Return whether this process is the one that writes files and progress."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def world_size() -> int:
    """Return the number of processes that work together, 1 for a single one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_objects(value: Any) -> list[Any]:
    """Return every process's `value`, by rank; in a single process a list of one. All processes must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def mean_over_ranks(values: dict[str, float]) -> dict[str, float]:
    """Return the mean of each value over the processes; all of them must call it with the same names."""
    shares = gather_objects(values)
    return {name: sum(share[name] for share in shares) / len(shares) for name in values}


def own_index(states: list[Any]) -> int:
    """Return the place of this process in a list gathered by rank, or 0 where the list has none for it."""
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return rank if rank < len(states) else 0
