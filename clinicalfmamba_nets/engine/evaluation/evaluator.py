"""Evaluation: every pair of one or more test lists, fused by every network, scored, tabled and shown."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clinicalfmamba_nets.engine.evaluation.comparison import REFERENCE, TRAP, baseline_networks, of_dims
from clinicalfmamba_nets.engine.evaluation.fused_files import FusedFiles
from clinicalfmamba_nets.engine.evaluation.items import Items, as_picture, entry_of, loaded_pair
from clinicalfmamba_nets.engine.evaluation.provenance import Provenance
from clinicalfmamba_nets.engine.evaluation.results import write_evaluation
from clinicalfmamba_nets.engine.evaluation.score_sheet import (
    NETWORKS,
    EvaluationProgress,
    ScoreSheet,
    network_digest,
    pair_digest,
    program_digest,
)
from clinicalfmamba_nets.engine.evaluation.tables import Summary, terminal_table
from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.metrics import check_names
from clinicalfmamba_nets.metrics.conventions import score_by_convention

Network = nn.Module | Mapping[str, nn.Module]


@dataclass
class PairEvaluator:
    """Evaluates networks on pairs and writes `pairs.csv`, `summary.json`, `table.md` and the pictures.

    Every network runs in evaluation mode without gradients on one pair at a time. The plain average of the sources is
    evaluated as well: it is what the remarks of the table compare with. An interrupted evaluation goes on where
    it stopped; a row is computed again when the pair, the weights, the metrics or their program have changed. A pair
    that cannot be read or scored is told and left out; when the others are done, that is an error.

    Args:
        items: entries of one run, or run -> entries, each with `image` (2, *spatial) in [0, 1], `case`, and where the
            second image is in color `image_chroma` (2, *spatial): a MONAI dataset or a list.
        networks: name -> network, or name -> (run -> network) where each run has its own weights; a network without
            weights for a run is left out of it.
        output_dir: folder of the results; made when missing.
        task: ct_mri, spect_mri, pet_mri, or one of them with a suffix: chooses the metrics of bone and calcification
            and the published rows.
        metrics: names of `metrics.ALL_METRICS`; None for all.
        device: where the networks run; the metrics are computed on the CPU.
        published: add the rows that the paper prints to the table.
        resume: keep the rows of an earlier evaluation that are still valid.
        sheet_cases: how many pairs of each run the contact sheet shows, or the names of the cases.
        image_key: entry of the two sources.
        convention: "ours", "paper" or "cddfuse", see `metrics.conventions`; the last two choose the metrics.
        reference: evaluate the plain average as well.
        inferer: how networks with weights run, such as window by window; None for the whole image at once.

    Raises:
        FusionInputError: when run, for an empty list or a bad name; when the others are done, for pairs that could not
            be scored.

    Example:
        >>> import tempfile
        >>> pairs = [{"case": "1", "image": torch.rand(2, 32, 32)}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     summary = PairEvaluator(pairs, {}, folder, metrics=["ssim", "qabf"]).run()
        >>> list(summary)
        ['average']
    """

    items: Items | Mapping[str, Items]
    networks: Mapping[str, Network]
    output_dir: str | os.PathLike
    task: str = "ct_mri"
    metrics: Sequence[str] | None = None
    device: str | torch.device = "cpu"
    published: bool = False
    resume: bool = True
    sheet_cases: int | Sequence[str] = 6
    image_key: str = "image"
    inferer: Any = None
    convention: str = "ours"
    reference: bool = True
    _digests: dict[int, str] = field(default_factory=dict, init=False, repr=False)
    _told: set[tuple[str, str]] = field(default_factory=set, init=False, repr=False)
    _failures: list[dict[str, str]] = field(default_factory=list, init=False, repr=False)

    def run(self) -> Summary:
        """Evaluate and write everything.

        Returns:
            The statistics, see `tables.summarize`.
        """
        output = Path(self.output_dir)
        runs = self.items if isinstance(self.items, Mapping) else {"run1": self.items}
        self._check(runs)
        self._failures.clear()
        names = check_names(self.metrics, with_ct=self.task.startswith("ct"))
        scores = ScoreSheet(output / "pairs.csv", keep=self.resume)
        progress = EvaluationProgress(sum(len(items) for items in runs.values()))
        origin, sheets = Provenance(), {}
        for run, items in runs.items():
            networks = dict(self._networks_of(run))
            origin.add_run(run, [entry_of(items, index) for index in range(len(items))], networks, self._digests)
            pictures = []
            for index in range(len(items)):
                shown = self._pair(run, items, index, networks, scores, names)
                pictures += [shown] if shown is not None else []
                progress.step(run, len(items), index + 1)
            sheets[f"_{run}" if len(runs) > 1 else ""] = (pictures, ["A", "B", *networks])
        rows = scores.close(whole=not self._failures)
        if not rows:
            self._raise_failures(progress.pairs)
        settings = {"task": self.task, "metrics": list(names), "convention": self.convention}
        settings |= {"inferer": str(self.inferer)} if self.inferer is not None else {}
        summary = write_evaluation(output, rows, sheets, origin, settings, self._failures, self.published)
        logging.getLogger("clinicalfmamba.evaluation").info("mean scores\n%s", terminal_table(summary))
        self._raise_failures(progress.pairs)
        return summary

    def _raise_failures(self, pairs: int) -> None:
        """End in an error when something could not be scored; all that could be is written by then."""
        if self._failures:
            bad = len({(failure["run"], failure["case"]) for failure in self._failures})
            found = f"{bad} that could not be scored, the first: {self._failures[0]['error']}"
            raise input_error("evaluation", f"all {pairs} pairs", found, "the others are in the table")

    def _fail(self, run: str, case: str, network: str, error: Exception) -> None:
        known = find_input_error(error)
        text = str(known) if known is not None else f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self._failures.append({"run": run, "case": case, "network": network, "error": text})
        logging.getLogger("clinicalfmamba.evaluation").warning("not scored: %s", text)

    def _check(self, runs: Mapping[str, Items]) -> None:
        for run, items in runs.items():
            if not len(items):
                raise input_error(f"test list {run}", "at least one pair", "none", "choose another list or section")
        if not runs:
            raise input_error("test lists", "at least one", "none", "name a run or a data list")

    def _networks_of(self, run: str) -> Iterator[tuple[str, nn.Module]]:
        """Networks of a run in evaluation mode on their device, the reference among them."""
        found = {name: net if isinstance(net, nn.Module) else net.get(run) for name, net in self.networks.items()}
        if self.reference and REFERENCE not in found:
            found[REFERENCE] = baseline_networks()[REFERENCE]
        for name, network in found.items():
            if network is not None:
                self._digests[id(network)] = network_digest(network)
                yield name, network.eval().to(self.device)

    def _pair(
        self,
        run: str,
        items: Items,
        index: int,
        networks: Mapping[str, nn.Module],
        scores: ScoreSheet,
        names: Sequence[str],
    ) -> tuple[str, list[NDArray]] | None:
        """Score one pair with every network; return its pictures when the contact sheet shows it."""
        entry = entry_of(items, index)
        case = str(entry.get("case", index + 1))
        try:
            item, image = loaded_pair(items, index, self.image_key)
        except Exception as error:
            self._fail(run, case, "", error)
            return None
        chosen, chroma = self._is_shown(case, index, len(items)), item.get(f"{self.image_key}_chroma")
        pictures = [as_picture(image[:1]), as_picture(image[1:], chroma)] if chosen else []
        for name, network in networks.items():
            try:
                fused = self._scored(
                    run,
                    case,
                    name,
                    network,
                    entry=entry,
                    item=item,
                    image=image,
                    scores=scores,
                    names=names,
                    chosen=chosen,
                )
            except Exception as error:
                self._fail(run, case, name, error)
                fused = torch.zeros_like(image[:1])
            if chosen:
                pictures.append(np.zeros_like(pictures[0]) if fused is None else as_picture(fused, chroma))
        return (case, pictures) if chosen else None

    def _scored(
        self,
        run: str,
        case: str,
        name: str,
        network: nn.Module,
        *,
        entry: Mapping[str, Any],
        item: Mapping[str, Any],
        image: Tensor,
        scores: ScoreSheet,
        names: Sequence[str],
        chosen: bool,
    ) -> Tensor | None:
        """Score one pair with one network, unless that was done before; return the fused image where it was made."""
        facts: list[str] = []
        if isinstance(network, FusedFiles):
            fused, facts = network.of_pair(entry, item, image)
            digest = pair_digest(torch.cat([image, fused]), self.convention, names)
            known = scores.has(run, case, name, digest)
        else:
            how = self.inferer if self._is_inferred(network) else ""
            program = f"{self._digests[id(network)]} {program_digest(NETWORKS)} {self.convention} {how}"
            digest = pair_digest(image, program, names)
            known = scores.has(run, case, name, digest)
            if known and not chosen:
                return None
            fused = self._fuse(network, image, f"{name}, case {case}")
        if not known:
            with_ct = self.task.startswith("ct")
            values, told = score_by_convention(self.convention, fused, image[:1], image[1:], names, with_ct)
            twice = "fused is a copy" if facts else "\0"
            remarks = "; ".join([*facts, *(text for text in told if not text.startswith(twice))])
            weights = self._digests[id(network)][:12]
            scores.add((run, case, name, digest), {"weights": weights, "remarks": remarks}, values)
            if remarks and not name.startswith(TRAP) and (name, remarks) not in self._told:
                self._told.add((name, remarks))  # the table counts the pairs of which the same is true
                logging.getLogger("clinicalfmamba.evaluation").warning("%s, case %s: %s", name, case, remarks)
        return fused

    def _is_shown(self, case: str, index: int, count: int) -> bool:
        if isinstance(self.sheet_cases, int):
            wanted = min(self.sheet_cases, count)
            return any(index == (2 * place + 1) * count // (2 * wanted) for place in range(wanted))
        return case in {str(name) for name in self.sheet_cases}

    def _is_inferred(self, network: nn.Module) -> bool:
        """Whether the inferer runs a network: those without weights see the whole image at once."""
        return self.inferer is not None and any(True for _ in network.parameters())

    @torch.inference_mode()
    def _fuse(self, network: nn.Module, image: Tensor, what: str) -> Tensor:
        network = of_dims(network, image.dim() - 1)
        run = partial(self.inferer, network=network) if self._is_inferred(network) else network
        fused = run(image.unsqueeze(0).to(self.device))[0].float().cpu()  # (1, *spatial)
        if not torch.isfinite(fused).all():
            raise input_error(what, "finite values", "NaN or infinity in the fused image", "check the weights")
        return fused


def evaluate_pairs(
    items: Items | Mapping[str, Items], networks: Mapping[str, Network], output_dir: str | os.PathLike, **options: Any
) -> Summary:
    """Evaluate networks on pairs in one call.

    Args:
        items: see `PairEvaluator`.
        networks: see `PairEvaluator`.
        output_dir: see `PairEvaluator`.
        **options: the other arguments of `PairEvaluator`.

    Returns:
        The statistics, see `tables.summarize`.

    Raises:
        FusionInputError: see `PairEvaluator`.
    """
    return PairEvaluator(items, networks, output_dir, **options).run()
