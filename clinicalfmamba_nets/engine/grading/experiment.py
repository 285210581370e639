"""The whole comparison: every input in every run trained and tested, one table of all, resumable."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets import __version__
from clinicalfmamba_nets.engine.grading.images import FUSED, is_fused
from clinicalfmamba_nets.engine.grading.log import METRICS, NOTICE, PATIENTS, read_rows, write_rows
from clinicalfmamba_nets.engine.run.devices import named_device
from clinicalfmamba_nets.engine.run.record import RUN_FILE, machine_facts, write_json
from clinicalfmamba_nets.engine.run.workflows import run_bundle
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import atomic_file, printable
from clinicalfmamba_nets.metrics.roc import compare_by_bootstrap, compare_by_delong, roc_points

BUNDLE = "glioma_grading"
ALL_INPUTS = ("t2", "flair", "t2_flair", "eh_dran", "clinicalfmamba")
TABLE_SCORES = ("auc", "f1", "accuracy", "sensitivity", "specificity", "brier")
SHUFFLED = "shuffled"
CLASSIFIER = ("block", "layers", "block_inplanes")  # ids of its network


class GradingExperiment:
    """Train and test each input in each run, and write `summary.json`, `summary.csv`, `table.md` and `roc.png`.

    A cell, `output_dir/RUN/INPUT`, holds the classifier, its test in `testing/`, and for a fused input the fusion
    network in `fusion/`, trained on the same run's training patients. What is complete is not done again.

    Args:
        dataset_dir: a folder in the layout of BraTS 2019.
        output_dir: where all goes.
        inputs: some of `ALL_INPUTS`.
        runs: some of "run1" to "run3".
        spatial_dims: 2 or 3.
        device: as the bundle's id `device`; None for its own choice.
        shuffled: also train the first run's "t2_flair" on grades dealt out by chance: a control.
        title: what the data are, for the table.
        common: further ids of all configurations, such as `roi_size`.
        fusion_settings: ids of the fusion training.
        train_settings: ids of the classifier's training; those of its network go to the test as well.

    Raises:
        FusionInputError: no input or run, one that is named twice, or an unknown input.
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        output_dir: str | os.PathLike,
        inputs: Sequence[str] = ALL_INPUTS,
        *,
        runs: Sequence[str] = ("run1", "run2", "run3"),
        spatial_dims: int = 2,
        device: Any = None,
        shuffled: bool = False,
        title: str | None = None,
        common: Mapping[str, Any] | None = None,
        fusion_settings: Mapping[str, Any] | None = None,
        train_settings: Mapping[str, Any] | None = None,
    ) -> None:
        for what, names in (("inputs", inputs), ("runs", runs)):
            if not names or len(set(names)) < len(names):
                raise input_error(what, "one name or more, each once", f"{list(names)}", "correct the list")
        for name in inputs:
            is_fused(name)
        self.output_dir, self.inputs, self.runs = Path(output_dir), list(inputs), list(runs)
        self.shuffled, self.title = shuffled, title or f"{Path(dataset_dir).name}, {spatial_dims}D"
        self.common = {"dataset_dir": str(dataset_dir), "spatial_dims": spatial_dims, **(common or {})}
        if device is not None:
            self.common["device"] = named_device(device)
        self.fusion_settings, self.train_settings = dict(fusion_settings or {}), dict(train_settings or {})
        self.logger = logging.getLogger("clinicalfmamba.grading")

    def run(self) -> dict[str, Any]:
        """Do what is not done yet, and return what `summary.json` holds."""
        started = time.perf_counter()
        self._check_same()
        cells = [(run, name, False) for run in self.runs for name in self.inputs]
        cells += [(self.runs[0], "t2_flair", True)] if self.shuffled else []
        for number, (run, name, shuffle) in enumerate(cells, 1):
            self.logger.info("%d/%d  %s %s%s", number, len(cells), run, name, " with shuffled grades" * shuffle)
            self._cell(run, name, shuffle)
        summary = self._summary() | {"seconds": round(time.perf_counter() - started, 1)}
        rows = [{"input": name, **_flat(summary["inputs"][name])} for name in self.inputs]
        self._write_table(rows)
        self._plot()
        write_json(summary, self.output_dir / "summary.json")
        return summary

    def _settings(self) -> dict[str, dict[str, str]]:
        parts = {"common": self.common, "fusion": self.fusion_settings, "train": self.train_settings}
        return {part: {name: str(value) for name, value in found.items()} for part, found in parts.items()}

    def _check_same(self) -> None:
        """Refuse a folder whose cells were made by other settings; keep the settings in a new one."""
        path, own = self.output_dir / "settings.json", self._settings()
        if not path.is_file():
            write_json(own, path)
        elif (before := _read_json(path)) != own:
            changed = {name for part in own for name in own[part] if own[part][name] != before[part].get(name)}
            changed |= {name for part in before for name in before[part] if name not in own.get(part, {})}
            found = f"another {', '.join(sorted(changed))}"
            raise input_error(printable(self.output_dir), "results of these settings", found, "name another folder")

    def _folder(self, run: str, name: str, shuffle: bool = False) -> Path:
        return self.output_dir / run / (f"{name}_{SHUFFLED}" if shuffle else name)

    def _cell(self, run: str, name: str, shuffle: bool) -> None:
        folder = self._folder(run, name, shuffle)
        if (folder / "testing" / METRICS).is_file():
            return
        own = {**self.common, "input": name, "split_run": run}
        if name in FUSED:
            self._train("train_fusion", folder / "fusion", {**own, **self.fusion_settings})
        self._train("train", folder, {**own, **self.train_settings, "shuffle_labels": shuffle})
        settings = {**own, **_fusion_network(self.fusion_settings), "model_dir": str(folder)}
        settings |= {key: value for key, value in self.train_settings.items() if key in CLASSIFIER}
        run_bundle(BUNDLE, "inference", ["evaluate"], settings)

    def _train(self, workflow: str, folder: Path, settings: dict[str, Any]) -> None:
        """Train, or go on, unless all epochs are done."""
        if not _is_done(folder):
            network = {} if workflow == "train_fusion" else _fusion_network(self.fusion_settings)
            run_bundle(BUNDLE, workflow, overrides={**settings, **network, "output_dir": str(folder), "resume": True})

    def _metrics(self, run: str, name: str, shuffle: bool = False) -> dict[str, Any]:
        return _read_json(self._folder(run, name, shuffle) / "testing" / METRICS)

    def _loading_share(self, run: str, name: str) -> float:
        """Return the share of a classifier's training that was spent waiting for batches."""
        return _read_json(self._folder(run, name) / RUN_FILE).get("loading_share", 0.0)

    def _summary(self) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        for name in self.inputs:
            found = [self._metrics(run, name) for run in self.runs]
            inputs[name] = _spread([one["patients"] for one in found]) | {
                "auc_intervals": [one["patients"]["auc_interval"] for one in found],
                "patients_by_max": _spread([one["patients_by_max"] for one in found]),
                "slices": _spread([one["slices"] for one in found]),
                "loading_share": float(np.mean([self._loading_share(run, name) for run in self.runs])),
            }
        summary = {
            "version": __version__,
            "title": self.title,
            "notice": NOTICE,
            "runs": self.runs,
            "system": machine_facts(),
            "settings": self._settings(),
            "inputs": inputs,
            "loading_share": max(scores["loading_share"] for scores in inputs.values()),
            "comparisons": self._comparisons(),
        }
        if self.shuffled:
            summary[SHUFFLED] = {"auc": self._metrics(self.runs[0], "t2_flair", True)["patients"]["auc"]}
        return summary

    def _patients(self, run: str, name: str) -> dict[str, dict[str, Any]]:
        return {row["patient"]: row for row in read_rows(self._folder(run, name) / "testing" / PATIENTS)}

    def _comparisons(self) -> list[dict[str, Any]]:
        """Compare every fused input with every other in each run, on the same test patients."""
        found = []
        for run in self.runs:
            for first, second in combinations(self.inputs, 2):
                if second not in FUSED:
                    continue
                a, b = self._patients(run, first), self._patients(run, second)
                names = sorted(a)
                if names != sorted(b):
                    remedy = "remove the older folder and run again"
                    raise input_error(f"{run}, {first} and {second}", "the same test patients", "others", remedy)
                one, other = ([rows[name]["mean"] for name in names] for rows in (a, b))
                labels = [a[name]["label"] for name in names]
                tests = {"bootstrap": compare_by_bootstrap(labels, one, other)._asdict()}
                if min(labels.count(0), labels.count(1)) > 1:
                    tests["delong"] = compare_by_delong(labels, one, other)._asdict()
                found.append({"run": run, "input": second, "against": first, **tests})
        return found

    def _write_table(self, rows: list[dict[str, Any]]) -> None:
        write_rows(rows, self.output_dir / "summary.csv")
        lines = [
            f"# {self.title}",
            "",
            NOTICE,
            "",
            f"Mean +- standard deviation over {', '.join(self.runs)}; patients.",
            "",
        ]
        lines += [f"| input | {' | '.join(TABLE_SCORES)} |", f"|---|{'---|' * len(TABLE_SCORES)}"]
        for row in rows:
            values = [f"{row[f'{name}_mean']:.3f} +- {row[f'{name}_std']:.3f}" for name in TABLE_SCORES]
            lines.append(f"| {row['input']} | {' | '.join(values)} |")
        with atomic_file(self.output_dir / "table.md") as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.logger.info("\n".join(lines))

    def _plot(self) -> None:
        """Draw the ROC curves of all inputs, one panel for each run."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.4 * len(self.runs), 4.4), layout="constrained")
        for axis, run in zip(figure.subplots(1, len(self.runs), squeeze=False)[0], self.runs, strict=True):
            for name in self.inputs:
                rows = self._patients(run, name).values()
                points = roc_points([row["label"] for row in rows], [row["mean"] for row in rows])
                axis.plot(*points, label=f"{name} {self._metrics(run, name)['patients']['auc']:.3f}")
            axis.plot([0, 1], [0, 1], color="0.7", zorder=0)
            axis.set(title=f"{self.title}, {run}", xlabel="1 - specificity", ylabel="sensitivity")
            axis.legend(fontsize=8)
        with atomic_file(self.output_dir / "roc.png") as partial:
            figure.savefig(partial, format="png", dpi=90)


def _read_json(path: Path) -> dict[str, Any]:
    """Read a file of an earlier call.

    Raises:
        FusionInputError: it is not there, or not whole.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        found = f"none that can be read ({error})"
        raise input_error(printable(path), "a file of this experiment", found, "remove it, and run again") from error


def _is_done(folder: Path) -> bool:
    """Tell whether a training of this folder has reached its last epoch."""
    try:
        epochs = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["epochs"]
        return epochs["done"] >= epochs["planned"] and (folder / "model.pt").is_file()
    except (OSError, ValueError, KeyError):
        return False


def _fusion_network(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name.startswith(("fusion_", "eh_dran_"))}


def _spread(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return mean and standard deviation (over the runs, 0 for one) of each score."""
    columns = {name: np.array([scores[name] for scores in runs]) for name in TABLE_SCORES}
    return {
        name: {"mean": float(values.mean()), "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0}
        for name, values in columns.items()
    }


def _flat(scores: Mapping[str, Any]) -> dict[str, float]:
    return {f"{name}_{kind}": scores[name][kind] for name in TABLE_SCORES for kind in ("mean", "std")}
