"""Evaluation: every pair of one or more test lists, fused by every network, scored, tabled and shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn

from clinicalfmamba_nets.engine.evaluation.comparison import REFERENCE, baseline_networks
from clinicalfmamba_nets.engine.evaluation.plots import BOX_METRICS, write_box_plot
from clinicalfmamba_nets.engine.evaluation.score_sheet import (
    EvaluationProgress,
    ScoreSheet,
    network_digest,
    pair_digest,
)
from clinicalfmamba_nets.engine.evaluation.tables import Summary, markdown_table, summarize, without_infinity
from clinicalfmamba_nets.engine.fusion.lists import pair_datalist
from clinicalfmamba_nets.engine.pictures.contact_sheet import write_contact_sheet
from clinicalfmamba_nets.engine.run.record import machine_facts, write_json
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.colour import ycbcr_to_rgb
from clinicalfmamba_nets.io.files import atomic_file
from clinicalfmamba_nets.metrics import check_names, compute_all

Network = nn.Module | Mapping[str, nn.Module]
Items = Sequence[Mapping[str, Any]]


def evaluation_items(
    dataset_dir: str | os.PathLike,
    task: str,
    transform: Any,
    datalist: str | os.PathLike | None = None,
    split: str = "random3",
    runs: str | Sequence[str] = "run1",
    section: str = "testing",
    slices_dir: str | os.PathLike | None = None,
    slice_step: int = 1,
) -> dict[str, Dataset]:
    """Open the test lists of an evaluation.

    A network that was trained on one run has seen test pairs of the others: give several runs only with networks of
    several runs, or baselines.

    Args:
        dataset_dir: folder of the images.
        task: the bundle's task.
        transform: preprocessing that makes `image` (2, *spatial) in [0, 1] from a list entry.
        datalist: a data list file, which makes a single run named after it; or None.
        split: split of the AANLIB pairs.
        runs: run or runs of that split.
        section: "testing" or "training".

    Returns:
        Run -> MONAI dataset.

    Raises:
        FusionInputError: nothing is there, or an entry is bad.
    """
    cutting: dict[str, Any] = {"slices_dir": slices_dir, "slice_step": slice_step}
    if datalist is not None:
        entries = pair_datalist(dataset_dir, task, datalist, section=section, **cutting)
        return {Path(datalist).stem: Dataset(entries, transform)}
    names = [runs] if isinstance(runs, str) else list(runs)
    choice = (dataset_dir, task, None, split)
    return {run: Dataset(pair_datalist(*choice, run, section, **cutting), transform) for run in names}


@dataclass
class PairEvaluator:
    """Evaluates networks on pairs and writes `pairs.csv`, `summary.json`, `table.md` and the pictures.

    Every network runs in evaluation mode without gradients on one pair at a time. The plain average of the sources is
    always evaluated as well: it is what the remarks of the table compare with. An interrupted evaluation goes on where
    it stopped; a row is computed again when the pair, the weights, the metrics or their program have changed.

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
        inferer: how networks with weights run, such as window by window; None for the whole image at once.

    Raises:
        FusionInputError: when run, for an empty list, a pair that is not (2, *spatial), or a bad name.

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
    published: bool = True
    resume: bool = True
    sheet_cases: int | Sequence[str] = 6
    image_key: str = "image"
    inferer: Any = None
    _digests: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def run(self) -> Summary:
        """Evaluate and write everything.

        Returns:
            The statistics, see `tables.summarize`.
        """
        output = Path(self.output_dir)
        runs = self.items if isinstance(self.items, Mapping) else {"run1": self.items}
        self._check(runs)
        names = check_names(self.metrics, with_ct=self.task.startswith("ct"))
        scores = ScoreSheet(output / "pairs.csv", keep=self.resume)
        progress = EvaluationProgress(sum(len(items) for items in runs.values()))
        for run, items in runs.items():
            networks = dict(self._networks_of(run))
            pictures = []
            for index in range(len(items)):
                shown = self._pair(run, items, index, networks, scores, names)
                pictures += [shown] if shown is not None else []
                progress.step(run, len(items), index + 1)
            suffix = f"_{run}" if len(runs) > 1 else ""
            if pictures:
                write_contact_sheet(pictures, ["A", "B", *networks], output / f"contact_sheet{suffix}.png")
        return self._write(output, scores.close(), names)

    def _check(self, runs: Mapping[str, Items]) -> None:
        for run, items in runs.items():
            if not len(items):
                raise input_error(f"test list {run}", "at least one pair", "none", "choose another list or section")
        if not runs:
            raise input_error("test lists", "at least one", "none", "name a run or a data list")

    def _networks_of(self, run: str) -> Iterator[tuple[str, nn.Module]]:
        """Networks of a run in evaluation mode on their device, the reference among them."""
        found = {name: net if isinstance(net, nn.Module) else net.get(run) for name, net in self.networks.items()}
        if REFERENCE not in found:
            first: Any = next(iter(self.items.values())) if isinstance(self.items, Mapping) else self.items
            found[REFERENCE] = baseline_networks(first[0][self.image_key].dim() - 1)[REFERENCE]
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
        item = items[index]
        case, image = str(item.get("case", index + 1)), torch.as_tensor(item[self.image_key]).float()
        if image.dim() not in (3, 4) or image.shape[0] != 2:
            found = f"shape {tuple(image.shape)}"
            raise input_error(f"case {case}", "the two sources as (2, *spatial)", found, "use the bundle's transforms")
        chosen, chroma = self._is_shown(case, index, len(items)), item.get(f"{self.image_key}_chroma")
        pictures = [as_picture(image[:1]), as_picture(image[1:], chroma)] if chosen else []
        for name, network in networks.items():
            digest = pair_digest(image, self._digests[id(network)], names)
            known = scores.has(run, case, name, digest)
            if known and not chosen:
                continue
            fused = self._fuse(network, image, f"{name}, case {case}")
            if not known:
                scores.add(run, case, name, digest, compute_all(fused, image, names=names))
            if chosen:
                pictures.append(as_picture(fused, chroma))
        return (case, pictures) if chosen else None

    def _is_shown(self, case: str, index: int, count: int) -> bool:
        if isinstance(self.sheet_cases, int):
            wanted = min(self.sheet_cases, count)
            return any(index == (2 * place + 1) * count // (2 * wanted) for place in range(wanted))
        return case in {str(name) for name in self.sheet_cases}

    @torch.inference_mode()
    def _fuse(self, network: nn.Module, image: Tensor, what: str) -> Tensor:
        whole = self.inferer is None or not any(True for _ in network.parameters())
        run = network if whole else partial(self.inferer, network=network)
        fused = run(image.unsqueeze(0).to(self.device))[0].float().cpu()  # (1, *spatial)
        if not torch.isfinite(fused).all():
            raise input_error(what, "finite values", "NaN or infinity in the fused image", "check the weights")
        return fused

    def _write(self, output: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Summary:
        summary = summarize(rows)
        settings = {"task": self.task, "metrics": list(names), "system": machine_facts()}
        write_json(without_infinity({"settings": settings, "networks": summary}), output / "summary.json")
        with atomic_file(output / "table.md") as partial:
            partial.write_text(markdown_table(summary, self.task, self.published), encoding="utf-8")
        if any(name in row for name in BOX_METRICS for row in rows):
            write_box_plot(rows, output / "box_plot.png")
        return summary


def as_picture(image: Tensor, chroma: Any = None) -> NDArray:
    """Make a picture of a grey image, in color where there is chroma; of a volume its middle slice.

    Args:
        image: (1, H, W) or (1, H, W, D) in [0, 1].
        chroma: (2, *spatial) Cb and Cr in [0, 1], or None.

    Returns:
        (H, W) or (H, W, 3) in [0, 1].

    Example:
        >>> as_picture(torch.rand(1, 8, 9, 5), torch.full((2, 8, 9, 5), 0.5)).shape
        (8, 9, 3)
    """
    planes = image if chroma is None else torch.cat([image, torch.as_tensor(chroma).float()])
    planes = torch.as_tensor(planes)[..., planes.shape[-1] // 2] if planes.dim() == 4 else planes
    colored = ycbcr_to_rgb(planes[None])[0].movedim(0, -1) if chroma is not None else planes[0]
    return colored.clamp(0, 1).cpu().numpy()


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
