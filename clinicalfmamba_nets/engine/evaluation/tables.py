"""Statistics of an evaluation and its Markdown table, with the rows that papers print on other test sets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clinicalfmamba_nets.engine.evaluation.comparison import REFERENCE, TRAP
from clinicalfmamba_nets.engine.evaluation.score_sheet import TEXTS
from clinicalfmamba_nets.metrics.conventions import CDDFUSE_COLUMNS

Row = Mapping[str, Any]
Summary = dict[str, dict[str, Any]]

BACKGROUND_LIMIT = 0.2
COPY_SHARE = 0.5
SSIM_TOLERANCE = 0.005
GAINS = ("vif", "qabf", "scd")

PAPER_COLUMNS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "fmi": "FMI",
    "fsim_published": "FSIM*",
    "entropy_float": "EN (floats)",
}
COLUMNS = {
    "ssim_head_a": "SSIM in head to A",
    "ssim_head_b": "to B",
    "ssim_head_min": "worse",
    "ms_ssim": "MS-SSIM",
    "fsim": "FSIM",
    "vif": "VIF",
    "qabf": "Qabf",
    "scd": "SCD",
    "n_abf": "N_abf",
    "extrema_head": "invented extrema, %",
    "outside": "outside both sources",
    "plateau_error": "plateau error",
    "background_mean": "background, /255",
    "bone_mean": "bone",
    "calcification_contrast": "calcification",
    "entropy": "entropy, bit",
}
# Titles that are understood without the column before them.
ALONE = {"ssim_head_b": "SSIM in head to B", "ssim_head_min": "worse SSIM in head"}
MAIN = ("ssim", "ssim_head_min", "vif", "qabf", "scd", "n_abf", "extrema_head", "outside")
DECIMALS = {"psnr": 2, "entropy_float": 2, "entropy": 2, "background_mean": 2, "extrema_head": 2, "bone_mean": 2}

# Means over three runs, each on the authors' own random test set: "ClinicalFMamba" (tables of the 2D experiments).
PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "ct_mri": {
        "EH-DRAN": (16.830, 0.753, 0.883, 0.820, 10.727),
        "SwinFusion": (14.962, 0.768, 0.882, 0.810, 8.445),
        "MRSCFusion": (14.476, 0.713, 0.877, 0.791, 7.544),
        "MambaDFuse": (15.873, 0.771, 0.882, 0.817, 15.018),
        "ClinicalFMamba": (16.519, 0.783, 0.883, 0.820, 15.213),
    },
    "spect_mri": {
        "EH-DRAN": (21.455, 0.736, 0.876, 0.843, 11.970),
        "SwinFusion": (17.557, 0.728, 0.808, 0.819, 13.066),
        "MRSCFusion": (18.412, 0.734, 0.827, 0.814, 9.87),
        "MambaDFuse": (21.021, 0.748, 0.845, 0.829, 14.126),
        "ClinicalFMamba": (21.561, 0.759, 0.856, 0.848, 14.871),
    },
}


def describe(values: Iterable[float]) -> dict[str, float | int | None]:
    """Mean, sample standard deviation and number of the defined values.

    Args:
        values: scores; NaN (undefined for a pair) is left out, infinity is kept.

    Returns:
        `mean`, `std`, `count`; None where undefined.

    Example:
        >>> describe([1.0, 3.0, float("nan")])
        {'mean': 2.0, 'std': 1.4142135623730951, 'count': 2}
    """
    known = [float(value) for value in values if not math.isnan(value)]
    finite = all(math.isfinite(value) for value in known)
    mean = (statistics.fmean(known) if finite else math.inf) if known else None
    return {"mean": mean, "std": statistics.stdev(known) if finite and len(known) > 1 else None, "count": len(known)}


def without_infinity(content: Any) -> Any:
    """Copy nested dictionaries and lists with the text "inf" for infinity, which JSON has no number for.

    Example:
        >>> without_infinity({"psnr": [math.inf, 2.0]})
        {'psnr': ['inf', 2.0]}
    """
    if isinstance(content, Mapping):
        return {name: without_infinity(value) for name, value in content.items()}
    if isinstance(content, list):
        return [without_infinity(value) for value in content]
    return "inf" if isinstance(content, float) and math.isinf(content) else content


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Names of the scores that any row holds, in their order."""
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name not in TEXTS]


def summarize(rows: Sequence[Row]) -> Summary:
    """Statistics of each network: over the pairs of each run, and over the runs.

    Args:
        rows: one per run, pair and network: `run`, `case`, `network` and the scores.

    Returns:
        Network -> `runs` (run -> metric -> mean, std, count over its pairs) and `over_runs` (metric -> mean, std, count
        of the runs' means).

    Example:
        >>> rows = [{"run": "run1", "case": "1", "network": "average", "ssim": 0.5}]
        >>> summarize(rows)["average"]["over_runs"]["ssim"]["mean"]
        0.5
    """
    names = metric_names(rows)
    summary: Summary = {}
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        runs: dict[str, dict[str, dict[str, Any]]] = {}
        for run in dict.fromkeys(row["run"] for row in own):
            part = [row for row in own if row["run"] == run]
            runs[run] = {name: describe(row.get(name, math.nan) for row in part) for name in names}
        means = {name: [scores[name]["mean"] for scores in runs.values()] for name in names}
        over = {name: describe(mean for mean in means[name] if mean is not None) for name in names}
        summary[network] = {"runs": runs, "over_runs": over}
    return summary


def remarks(summary: Summary, network: str) -> list[str]:
    """Tell what is wrong with a network, measured against the plain average of the sources on the same pairs.

    Args:
        summary: see `summarize`; without the average's row only the background is judged.
        network: the row to judge.

    Returns:
        Short remarks; empty when nothing is wrong.
    """
    own = {name: scores["mean"] for name, scores in summary[network]["over_runs"].items()}
    base = {name: scores["mean"] for name, scores in summary.get(REFERENCE, {}).get("over_runs", {}).items()}
    found = []
    if (own.get("background_mean") or 0) > BACKGROUND_LIMIT:
        found.append("greys the background")
    if network == REFERENCE:
        return found
    if _below(own, base, "ssim_head_min", factor=COPY_SHARE):
        found.append("copies one source")
    if _below(own, base, "ssim", margin=SSIM_TOLERANCE):
        found.append("SSIM below the average's")
    weak = [COLUMNS[name] for name in GAINS if name in own and name in base and not _above(own[name], base[name])]
    if weak:
        found.append(f"{', '.join(weak)} not above the average's")
    return found


def _above(score: float | None, other: float | None) -> bool:
    """Above by more than what the noise of a float can do."""
    return score is not None and other is not None and score > other + 0.001


def _below(own: Row, base: Row, name: str, factor: float = 1.0, margin: float = 0.0) -> bool:
    score, other = own.get(name), base.get(name)
    return score is not None and other is not None and score < other * factor - margin


def _cell(scores: Mapping[str, Any] | None, decimals: int) -> str:
    if scores is None or scores["mean"] is None:
        return "-"
    if math.isinf(scores["mean"]):
        return "unbounded"
    spread = "" if scores["std"] is None else f" ± {scores['std']:.{decimals}f}"
    return f"{round(scores['mean'], decimals) + 0.0:.{decimals}f}{spread}"  # never -0.000


def _table(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(cells) + " |" for cells in body]


def _shown(summary: Summary, network: str) -> Mapping[str, Mapping[str, Any]]:
    """Scores of a row: over the runs where there are several, else over the pairs of the only run."""
    runs = summary[network]["runs"]
    return summary[network]["over_runs"] if len(runs) > 1 else next(iter(runs.values()))


def markdown_table(
    summary: Summary, task: str = "ct_mri", published: bool = False, facts: Sequence[str] = (), foot: Sequence[str] = ()
) -> str:
    """Write the tables of an evaluation.

    Args:
        summary: see `summarize`.
        task: ct_mri, spect_mri, pet_mri, or one of them with a suffix: chooses the published rows.
        published: add the rows that the paper prints, marked as other test sets.
        facts: lines above the table: the weights, the data, what could not be scored.
        foot: lines below it.

    Returns:
        Markdown: the paper's columns, then the columns that tell good from bad, with remarks.
    """
    names = {name for row in summary.values() for name in row["over_runs"]}
    runs = max((len(row["runs"]) for row in summary.values()), default=0)
    spread = f"mean ± standard deviation over {runs} runs" if runs > 1 else "mean ± standard deviation over the pairs"
    first = {name: title for name, title in PAPER_COLUMNS.items() if name in names}
    first |= {name: name for name in CDDFUSE_COLUMNS if name in names}
    known = PUBLISHED.get(task.removesuffix("_published"), {}) if published else {}
    body = [[network, *_cells(summary, network, first)] for network in summary]
    for network, values in known.items():
        printed = dict(zip(PAPER_COLUMNS, values, strict=True))
        cells = [f"{printed[name]:.{DECIMALS.get(name, 3)}f}" for name in first]
        body.append([f"*{network}, as printed: OTHER test sets*", *(f"*{cell}*" for cell in cells)])
    second = {name: title for name, title in COLUMNS.items() if name in names}
    if not first and not second:  # only metrics that have no column were asked for
        second = {name: name for name in sorted(names)}
    judged = [[network, *_cells(summary, network, second), "; ".join(remarks(summary, network))] for network in summary]
    notes = _notes(spread, bool(known), any(network.startswith(TRAP) for network in summary))
    parts = [_table(["network", *first.values()], body), _table(["network", *second.values(), "remarks"], judged)]
    shown = [*parts[0], "", *(parts[1] if second else [])]
    return "\n".join([*notes, *(line for fact in facts for line in ("", fact)), "", *shown, "", *foot, ""])


def terminal_table(summary: Summary, columns: int = 7) -> str:
    """A table of the main scores in columns, for a terminal.

    Args:
        summary: see `summarize`.
        columns: how many metrics are shown.

    Example:
        >>> rows = [{"run": "run1", "case": "1", "network": "average", "ssim": 0.5, "ssim_head_min": 0.25}]
        >>> print(terminal_table(summarize(rows)))
        network   SSIM  worse SSIM in head
        average  0.500               0.250
    """
    names = {name for row in summary.values() for name in row["over_runs"]}
    titles = {**PAPER_COLUMNS, **COLUMNS, **ALONE, **{name: name for name in CDDFUSE_COLUMNS}}
    others = sorted(name for name in names if name[:-2] not in names or not name.endswith(("_a", "_b")))
    shown = [name for name in (*MAIN, *titles, *others) if name in names]
    shown = list(dict.fromkeys(shown))[:columns]
    body = [["network", *(titles.get(name, name) for name in shown)]]
    for network in summary:
        scores = _shown(summary, network)
        means = [{**scores[name], "std": None} if name in scores else None for name in shown]
        body.append([network, *(_cell(one, DECIMALS.get(name, 3)) for one, name in zip(means, shown, strict=True))])
    widths = [max(len(line[place]) for line in body) for place in range(len(body[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in body
    )


def _cells(summary: Summary, network: str, columns: Mapping[str, str]) -> list[str]:
    scores = _shown(summary, network)
    return [_cell(scores.get(name), DECIMALS.get(name, 3)) for name in columns]


def _notes(spread: str, published: bool, traps: bool) -> list[str]:
    notes = [
        f"Each cell: {spread}. A is the anatomical image (MRI), B the other one. All images rounded to 8 bit, except "
        "for EN (floats), which counts distinct float values and is no measure of information. FSIM* is the variant of "
        "the published tables."
    ]
    if published:
        notes.append(
            "Rows in italics are copied from the paper: its authors' own random test sets, so only the difference to a "
            "baseline on the same pairs means anything."
        )
    if traps:
        notes.append('Rows named "trap" are worthless images that single metrics like: read the remarks.')
    return notes
