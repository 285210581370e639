"""Take and put back every source of chance in a training, so that a resumed one draws the same numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import DataLoader


def randomizables(transform: Any) -> Iterator[Randomizable]:
    """Yield the random transforms inside `transform`, itself included, in a fixed order.

    Args:
        transform: a MONAI transform, a Compose, or a list of them; each keeps a random state of its own.
    """
    pending, seen = [transform], set()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Randomizable):
            yield part
        if isinstance(part, (list, tuple)):
            pending.extend(part)
        elif type(part).__module__.split(".")[0] in ("monai", "clinicalfmamba_nets"):
            pending.extend(vars(part).values())


def _numpy_state(state: Any) -> list:
    return [state[0], state[1].tolist(), *state[2:]]


def _from_numpy_state(state: list) -> tuple:
    return (state[0], np.array(state[1], dtype=np.uint32), *state[2:])


def capture_random_state(transform: Any = None) -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators and of the random transforms.

    A shuffling data loader draws its order, and its workers' seeds, from torch's generator: its state at the end of
    an epoch fixes the order of the next. The result holds tensors, numbers and texts alone, so that a file of it can be
    read with `torch.load(weights_only=True)`.

    Args:
        transform: the transforms of the training data.
    """
    return {
        "python": random.getstate(),
        "numpy": _numpy_state(np.random.get_state()),
        "torch": torch.get_rng_state(),
        "accelerator": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "transforms": [_numpy_state(part.R.get_state()) for part in randomizables(transform)],
    }


def restore_random_state(state: dict[str, Any], transform: Any = None) -> None:
    """Put back what `capture_random_state` returned.

    Args:
        state: the captured states.
        transform: the transforms that were captured, in the same order.

    Raises:
        ValueError: there are more or fewer random transforms than were captured.
    """
    parts = list(randomizables(transform))
    if len(parts) != len(state["transforms"]):
        raise ValueError(f"expected {len(state['transforms'])} random transforms as captured, found {len(parts)}")
    random.setstate((state["python"][0], tuple(state["python"][1]), state["python"][2]))
    np.random.set_state(_from_numpy_state(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if len(state["accelerator"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["accelerator"]])
    for part, saved in zip(parts, state["transforms"], strict=True):
        part.R.set_state(_from_numpy_state(saved))


def seed_ranks_apart(loader: DataLoader, seed: int) -> None:
    """Give each process of a distributed training random numbers of its own, the same in every run.

    Args:
        loader: the training data loader; its data set's `transform` is seeded.
        seed: the seed of the run; the process's rank is added to it.
    """
    own = seed + (torch.distributed.get_rank() if torch.distributed.is_initialized() else 0)
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)
    for index, part in enumerate(randomizables(getattr(loader.dataset, "transform", None))):
        part.set_random_state(seed=own * 1000 + index)
