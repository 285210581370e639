"""What a grading writes: scores of slices and patients, and, where the grades are known, metrics and plots."""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from clinicalfmamba_nets import __version__
from clinicalfmamba_nets.engine.grading.runs import trained_cases, training_note
from clinicalfmamba_nets.engine.run.record import machine_facts, write_json
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import atomic_file, case_name, printable
from clinicalfmamba_nets.metrics.grading import POOLS, THRESHOLD, grading_scores, patient_scores, reliability
from clinicalfmamba_nets.metrics.roc import auc_interval, roc_points
from clinicalfmamba_nets.transforms.notes import KINDS, join_notes, split_notes

SLICES, PATIENTS, METRICS, PLOTS = "slices.csv", "patients.csv", "metrics.json", "plots.png"
GRADES = "grades.json"
NOTICE = "Research only. Not a medical device; not for diagnosis or any clinical decision."


class GradingLog:
    """Write `slices.csv` and `patients.csv` at the end of an evaluator, and `grades.json` with all about each patient.

    With `score`, `metrics.json` and `plots.png` take the place of the last.

    Args:
        output_dir: where they lie.
        settings: plain settings of the run, kept in the JSON.
        score: compare with the known grades.
        weights: files of weights, the classifier's first, whose digests are kept in `grades.json`; None is left out.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        settings: Mapping[str, Any] | None = None,
        score: bool = False,
        weights: Sequence[str | os.PathLike | None] = (),
    ) -> None:
        self.output_dir, self.settings, self.score = Path(output_dir), dict(settings or {}), score
        self.weights = [Path(path) for path in weights if path is not None]
        self.logger = logging.getLogger("clinicalfmamba.grading")
        self.rows: list[dict[str, Any]] = []
        self.about: dict[str, dict[str, str]] = {}

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, an evaluator whose `pred` is the probability of high grade."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Forget an earlier run."""
        self.rows, self.about = [], {}

    def collect(self, engine: Engine) -> None:
        """Keep the scores of a step; one that is no number, which would count as low grade, is refused."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            row = {"case": item["case"], "patient": item["patient"], "score": float(output["pred"])}
            if not math.isfinite(row["score"]):
                remedy = "train the network again with a lower learning rate"
                raise input_error(printable(row["case"]), "a probability", str(row["score"]), remedy)
            self.about[item["patient"]] = {key: item[key] for key in ("region", *KINDS) if key in item}
            label = item.get("label")
            self.rows.append(row | ({} if label is None else {"label": int(label)}))

    def finish(self, engine: Engine) -> None:
        """Write the files and tell the grade of each patient."""
        patients = grade_patients(self.rows)
        write_rows(self.rows, self.output_dir / SLICES)
        write_rows(patients, self.output_dir / PATIENTS)
        for row in patients:
            grade, name = grade_of(row["mean"]), printable(row["patient"])
            self.logger.info("%s: %s grade, probability of high grade %.3f", name, grade, row["mean"])
        facts = {"version": __version__, "notice": NOTICE, "settings": self.settings, "system": machine_facts()}
        if self.score:
            if warning := self._trained_on([row["patient"] for row in patients]):
                self.logger.warning("%s", warning)
            metrics = score_gradings(self.rows, patients)
            plot_grading(patients, self.output_dir / PLOTS)
            write_json({**facts, **metrics}, self.output_dir / METRICS)  # last: tells that all is there
            auc, (low, high) = metrics["patients"]["auc"], metrics["patients"]["auc_interval"]
            self.logger.info("AUC of patients %.3f [%.3f, %.3f]", auc, low, high)
        else:
            told = [self._patient(row) for row in patients]
            digests = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in self.weights}
            write_json({**facts, "weights": digests, "patients": told}, self.output_dir / GRADES)
        self.logger.info(NOTICE)

    def _patient(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `grades.json` tells about one patient."""
        name = row["patient"]
        scores = {found["case"]: found["score"] for found in self.rows if found["patient"] == name}
        grade = {"grade": grade_of(row["mean"]), "probability": row["mean"], "greatest": row["max"]}
        about = self.about[name]
        notes = join_notes([*map(training_note, self.weights[:1]), *split_notes(about.get("notes"))])
        warnings = join_notes([self._trained_on([name]), *split_notes(about.get("warnings"))])
        return {"patient": name, **grade, **about, "notes": notes, "warnings": warnings, "slices": scores}

    def _trained_on(self, patients: Sequence[str]) -> str:
        """Return the warning about patients that the classifier was trained on, by their names; "" for none."""
        seen = set().union(*(trained_cases(path) for path in self.weights[:1]))
        found = [name for name in patients if any(f"{name}_".startswith(f"{case}_") for case in seen)]
        if not found:
            return ""
        told = f"{len(found)} of {len(patients)} patients ({printable(found[0])})" if patients[1:] else "this patient"
        return f"the network was trained on {told}, by name: its grade tells nothing of how it grades others"


def grade_of(probability: float) -> str:
    """Return the grade, "high" or "low", for a probability of high grade.

    Example:
        >>> grade_of(0.7)
        'high'
    """
    return "high" if probability >= THRESHOLD else "low"


def grade_text(patient: Mapping[str, Any], output_dir: str | os.PathLike) -> str:
    """Return what `grades.json` tells about a patient, for a terminal.

    Args:
        patient: one of its `patients`.
        output_dir: the folder of the files.

    Returns:
        Lines: grade and probability, the region, the scores of the slices, the files, the notice.
    """
    output, scores = Path(output_dir), list(patient["slices"].items())
    probability = f"probability of high grade {patient['probability']:.3f}"
    pooled = f": mean of {len(scores)} slices, greatest {patient['greatest']:.3f}" if len(scores) > 1 else ""
    singles = [f"{case.removeprefix(patient['patient']).lstrip('_') or case} {score:.3f}" for case, score in scores]
    lines = [singles[start : start + 8] for start in range(0, len(singles), 8)] if len(scores) > 1 else []
    files = (output / SLICES, output / f"{case_name(patient['patient'])}_preview.png", output / GRADES)
    return "\n".join(
        [
            f"grade    {patient['grade']}, {probability}{pooled}",
            f"region   {patient['region']}",
            *(f"{'slices' if not number else '':<9}{'  '.join(line)}" for number, line in enumerate(lines)),
            *(f"{name:<9}{path}" for name, path in zip(("scores", "preview", "report"), files, strict=True)),
            NOTICE,
        ]
    )


def grade_patients(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each patient: number of slices, `mean` and `max` of their scores, and the label if known."""
    names = [row["patient"] for row in rows]
    pooled = {how: patient_scores(names, [row["score"] for row in rows], how) for how in POOLS}
    labels = {row["patient"]: {"label": row["label"]} for row in rows if "label" in row}
    return [
        {"patient": name, "slices": names.count(name)}
        | {how: scores[name] for how, scores in pooled.items()}
        | labels.get(name, {})
        for name in dict.fromkeys(names)
    ]


def score_gradings(rows: Sequence[Mapping[str, Any]], patients: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the scores of patients by mean, with the interval of the AUC, of patients by maximum, and of slices."""
    labels = [row["label"] for row in patients]
    mean = [row["mean"] for row in patients]
    return {
        "patients": {**grading_scores(labels, mean), "auc_interval": list(auc_interval(labels, mean))},
        "patients_by_max": grading_scores(labels, [row["max"] for row in patients]),
        "slices": grading_scores([row["label"] for row in rows], [row["score"] for row in rows]),
    }


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Write rows as CSV, whole or not at all, with a column for every name in any of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read `patients.csv`: names as text, all else as numbers."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {name: value if name in ("patient", "case") else float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def plot_grading(patients: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Draw the ROC curve, the reliability and the confusion matrix of patients (PNG)."""
    from matplotlib.figure import Figure

    labels, scores = [row["label"] for row in patients], [row["mean"] for row in patients]
    found = grading_scores(labels, scores)
    figure = Figure(figsize=(12, 4), layout="constrained")
    roc, calibration, confusion = figure.subplots(1, 3)
    roc.plot(*roc_points(labels, scores), marker=".")
    roc.set(title=f"ROC, AUC {found['auc']:.3f}", xlabel="1 - specificity", ylabel="sensitivity")
    means, shares, counts = zip(*reliability(labels, scores), strict=True)
    calibration.plot(means, shares, marker="o")
    for mean, share, count in zip(means, shares, counts, strict=True):
        calibration.annotate(str(count), (mean, share), xytext=(4, 4), textcoords="offset points", fontsize=8)
    calibration.set(title=f"reliability, Brier {found['brier']:.3f}", xlabel="mean score", ylabel="share of high grade")
    for axis in (roc, calibration):
        axis.plot([0, 1], [0, 1], color="0.7", zorder=0)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
    matrix = [[found["true_low"], found["false_high"]], [found["false_low"], found["true_high"]]]
    confusion.imshow(matrix, cmap="Blues")
    for row in (0, 1):
        for column in (0, 1):
            confusion.text(column, row, str(matrix[row][column]), ha="center", va="center", bbox={"facecolor": "white"})
    confusion.set(title="confusion", xlabel="graded", ylabel="is", xticks=[0, 1], yticks=[0, 1])
    confusion.set_xticklabels(["low", "high"])
    confusion.set_yticklabels(["low", "high"])
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png", dpi=90)
