"""What an evaluation keeps while it goes on: the score of every pair in a CSV, and its progress."""

from __future__ import annotations

import csv
import functools
import hashlib
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.engine.run.progress_bar import duration
from clinicalfmamba_nets.io.files import atomic_file

KEYS = ("run", "case", "network", "fingerprint")
TEXTS = (*KEYS, "weights", "remarks")
SOURCES = ("*.py", "*.cpp", "*.h", "*.hpp")
METRICS = ("metrics", "functional")
NETWORKS = ("blocks", "engine/fusion", "losses", "nets", "ops")  # whatever a fused image depends on, with METRICS
INTERVAL = 10.0  # seconds between two writes of the CSV, and between two lines of progress in a log


def network_digest(network: nn.Module) -> str:
    """Identify a network by its class, its plain options and its weights.

    Args:
        network: any module.

    Returns:
        Hexadecimal text; another one as soon as a weight changes.

    Example:
        >>> network_digest(nn.Linear(2, 2)) == network_digest(nn.Linear(2, 2))
        False
    """
    digest = hashlib.sha256(type(network).__qualname__.encode())
    for name, module in network.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, int | float | str)}
        plain.pop("training", None)
        digest.update(f"{name} {type(module).__qualname__} {sorted(plain.items())}".encode())
    for name, values in network.state_dict().items():
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@functools.cache
def program_digest(packages: tuple[str, ...]) -> str:
    """Identify a part of this program by its source files.

    Args:
        packages: folders within `clinicalfmamba_nets`, such as `METRICS` or `NETWORKS`.

    Returns:
        Hexadecimal text; another one as soon as a source file changes.

    Example:
        >>> program_digest(METRICS) == program_digest(NETWORKS)
        False
    """
    digest = hashlib.sha256()
    for path in sources(packages):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def sources(packages: Sequence[str]) -> list[Path]:
    """Return the source files in folders of `clinicalfmamba_nets`, in a fixed order."""
    folders = [Path(__file__).resolve().parents[2] / package for package in packages]
    return [path for folder in folders for kind in SOURCES for path in sorted(folder.rglob(kind))]


def pair_digest(image: Tensor, network: str, names: Sequence[str]) -> str:
    """Identify one row of an evaluation: the pair, the network, the metrics and their program.

    Args:
        image: the two sources, (2, *spatial).
        network: see `network_digest`.
        names: metrics to compute.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{network} {program_digest(METRICS)} {list(names)} {tuple(image.shape)}".encode())
    digest.update(image.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class ScoreSheet:
    """Scores of every pair and network, kept in a CSV file that is whole at any time.

    Args:
        path: the CSV file.
        keep: read the rows of an earlier evaluation, to use those that are still valid.
    """

    def __init__(self, path: str | os.PathLike, keep: bool = True) -> None:
        self.path = Path(path)
        self.earlier = self._read() if keep else {}
        self.rows: list[dict[str, Any]] = []
        self._written = time.monotonic()

    def _read(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """Earlier rows by their keys; none where there is no readable file."""
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return {tuple(row[key] for key in KEYS): self._numbers(row) for row in rows}
        except (OSError, KeyError, TypeError, ValueError):
            return {}

    @staticmethod
    def _numbers(row: Mapping[str, str]) -> dict[str, Any]:
        return {name: value if name in TEXTS else float(value) for name, value in row.items() if value != ""}

    def has(self, *keys: str) -> bool:
        """Take over an earlier row with these keys (run, case, network, fingerprint), if there is one."""
        row = self.earlier.get(keys)
        if row is not None:
            self.rows.append(row)
        return row is not None

    def add(self, keys: Sequence[str], facts: Mapping[str, str], scores: Mapping[str, float]) -> None:
        """Append a row; the file is written again when the last writing is a while ago.

        Args:
            keys: run, case, network, fingerprint.
            facts: `weights` (digest of the network) and `remarks`.
            scores: by name.
        """
        self.rows.append({**dict(zip(KEYS, keys, strict=True)), **facts, **scores})
        if time.monotonic() - self._written > INTERVAL:
            self._write([*self.rows, *self._waiting()])

    def close(self, whole: bool = True) -> list[dict[str, Any]]:
        """Write the rows of this evaluation, where it is not whole with the earlier ones, and return its own."""
        self._write(self.rows if whole else [*self.rows, *self._waiting()])
        return self.rows

    def _waiting(self) -> list[dict[str, Any]]:
        """Earlier rows that were not asked for yet: an interruption must not lose them."""
        used = {tuple(row[key] for key in KEYS) for row in self.rows}
        return [row for keys, row in self.earlier.items() if keys not in used]

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = dict.fromkeys([*TEXTS, *(name for row in rows for name in row)])
        with atomic_file(self.path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns), restval="")
            writer.writeheader()
            writer.writerows(rows)
        self._written = time.monotonic()


class EvaluationProgress:
    """Tells how far an evaluation is: a live line on a terminal, a line now and then in a log.

    Args:
        pairs: number of pairs of all runs.
    """

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self.done = 0
        self.logger = logging.getLogger("clinicalfmamba.evaluation")
        self.live = sys.stderr.isatty()
        self._started = self._told = time.monotonic()

    def step(self, run: str, pairs: int, number: int) -> None:
        """Count a pair.

        Args:
            run: name of the run.
            pairs: number of its pairs.
            number: which of them is done, from 1.
        """
        self.done += 1
        now = time.monotonic()
        pace = (now - self._started) / self.done
        text = f"{run}: pair {number}/{pairs}, {pace:.1f} s/pair, left {duration(pace * (self.pairs - self.done))}"
        if self.live:
            print(f"\r\033[K{text}", end="\n" if self.done == self.pairs else "", file=sys.stderr, flush=True)
        elif now - self._told > INTERVAL or number == pairs:
            self.logger.info(text)
            self._told = now
