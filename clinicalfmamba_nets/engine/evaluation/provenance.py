"""What an evaluation is about: which weights, which data, and whether the one has seen the other."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from clinicalfmamba_nets.engine.run.seen_pairs import pair_name, some_names, trained_pairs

DIGITS = 12


@dataclass
class Provenance:
    """Facts of an evaluation for its files.

    Attributes:
        weights: network -> `file` and `sha256` of its weights (of one run, or of each), and `network`, a digest of its
            class, options and weights.
        data: run -> number of pairs, and a digest of their names.
        seen: network -> names of the pairs that it was trained on.
    """

    weights: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)

    def add_run(
        self,
        run: str,
        entries: Sequence[Mapping[str, Any]],
        networks: Mapping[str, nn.Module],
        digests: Mapping[int, str],
    ) -> None:
        """Add the pairs of a run and the networks that are evaluated on it; pairs of a training are warned of."""
        names = [pair_name(entry) for entry in entries]
        digest = hashlib.sha256("\n".join(names).encode("utf-8", "backslashreplace")).hexdigest()
        self.data[run] = {"pairs": len(names), "sha256_of_names": digest}
        for name, network in networks.items():
            file = getattr(network, "weights_file", None)
            if not isinstance(file, Mapping):
                continue
            self.weights.setdefault(name, {})[run] = {**file, "network": digests[id(network)]}
            known = trained_pairs(file["file"])
            both = [one for one in names if one in known]
            if both:
                self.seen.setdefault(name, []).extend(both)
                logging.getLogger("clinicalfmamba.evaluation").warning("%s %s", name, self._seen(both, len(names)))

    @staticmethod
    def _seen(both: Sequence[str], pairs: int) -> str:
        text = f"was trained on {len(both)} of these {pairs} pairs ({some_names(both)})"
        return f"{text}: its scores on them say nothing about new images"

    def lines(self) -> list[str]:
        """Lines for a table."""
        found = []
        for name, runs in self.weights.items():
            files = dict.fromkeys((Path(one["file"]).name, one["sha256"]) for one in runs.values())
            listed = ", ".join(f"{file}, SHA-256 {digest}" for file, digest in files)
            found.append(f"Weights of {name}: {listed}.")
        lists = [f"{run}, {one['pairs']} pairs, {one['sha256_of_names'][:DIGITS]}" for run, one in self.data.items()]
        found.append(f"Data (list, pairs, digest of their names): {'; '.join(lists)}.")
        pairs = sum(one["pairs"] for one in self.data.values())
        found += [f"**{name} {self._seen(both, pairs)}.**" for name, both in self.seen.items()]
        return found

    def short(self) -> str:
        """One line for a picture."""
        weights = [f"{name} {next(iter(runs.values()))['sha256'][:DIGITS]}" for name, runs in self.weights.items()]
        data = [f"{run}: {one['pairs']} pairs {one['sha256_of_names'][:DIGITS]}" for run, one in self.data.items()]
        return "; ".join([*weights, *data])
