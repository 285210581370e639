"""Train and score ours and the comparison networks at one budget: ``python -m benchmarks.peers -o OUT --minutes 30``.

Each network is trained by fusion_2d's `train.json` with its overlay of `configs/peers`: the same heads, crops, seed and
choice of the best epoch. The budget is CPU time for each network and task; a timed step says how many epochs that is,
at least one, and two stages share it. Then all of them, the shipped weights and the free baselines are scored on the
test heads. Everything lies in OUT/TASK. A run that was stopped goes on by the same command: a finished training is
kept, one that was stopped goes on from its last whole epoch, and pairs that are scored are not scored again. Networks
that are not trained yet have no row. ``--document FILE`` puts the tables between the marks ``peers`` of a document.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.network import count_flops, fastest
from clinicalfmamba_nets.engine import PairEvaluator, compared_networks, read_bundle
from clinicalfmamba_nets.engine.evaluation.markdown import replace_results, short_table
from clinicalfmamba_nets.engine.run.record import write_json
from clinicalfmamba_nets.engine.run.weights import pretrained, with_weights
from clinicalfmamba_nets.errors import FusionInputError, input_error

TASKS = ("ct_mri", "spect_mri", "pet_mri")
STAGES: dict[str, tuple[str, ...]] = {
    "ClinicalFMamba": ("",),
    "ClinicalFMamba, published form": ("clinicalfmamba_published",),
    "EH-DRAN": ("eh_dran",),
    "SwinFusion": ("swin_fusion",),
    "MRSCFusion": ("mrsc_autoencoder", "mrsc_fusion"),
    "MambaDFuse": ("mambadfuse",),
    "FusionMamba": ("fusionmamba",),
}
METRICS = ("ssim", "vif", "qabf", "scd", "n_abf", "extrema", "outside")
SHIPPED = "ClinicalFMamba, shipped weights"


@dataclass(frozen=True)
class Stage:
    """One training: a task, an overlay and a folder.

    Attributes:
        task: such as ct_mri.
        overlay: of `configs/peers`, or "" for `train.json` as it is.
        folder: of the training.
        data: the settings `dataset_dir` or `datalist`.
    """

    task: str
    overlay: str
    folder: Path
    data: dict[str, str]

    def opened(self, config: str = "train") -> Any:
        """The configuration with its overlay, nothing run."""
        base = ["evaluate"] if config == "inference" else []
        overlays = [*base, f"peers/{self.overlay}"] if self.overlay else base
        settings = {"task": self.task, "device": torch.device("cpu"), **self.data, "output_dir": str(self.folder)}
        return read_bundle("fusion_2d", config, overlays, settings)

    def state(self) -> dict[str, Any]:
        """What is known of the training: `epochs`, `steps`, `cpu_seconds`; empty before it begins."""
        file = self.folder / "plan.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def done(self) -> int:
        """Whole epochs that are trained."""
        file = self.folder / "run.json"
        return json.loads(file.read_text(encoding="utf-8"))["epochs"]["done"] if file.is_file() else 0

    def finished(self) -> bool:
        """Whether the training has had all its epochs."""
        return bool(self.state()) and self.done() >= self.state()["epochs"] and (self.folder / "model.pt").is_file()


def step_seconds(parser: Any) -> float:
    """CPU seconds of a training step of a configuration: forward, loss, backward and Adam, the second of two."""
    stage, loss = parser.get_parsed_content("stage").train(), parser.get_parsed_content("fusion_loss")
    image = torch.rand(parser["batch_size"], 2, *parser["patch_size"])
    optimizer = torch.optim.Adam(stage.parameters(), lr=1e-6)
    started = 0.0
    for _ in range(2):
        started = time.process_time()
        optimizer.zero_grad()
        loss(stage(image), image).backward()
        optimizer.step()
    return time.process_time() - started


def plan(stage: Stage, minutes: float) -> dict[str, Any]:
    """Turn a budget into whole epochs, once for a training: a resumed one keeps its plan.

    Args:
        stage: the training.
        minutes: CPU minutes for its steps; validations and loading come on top.
    """
    if stage.state():
        return stage.state()
    parser = stage.opened()
    pairs = len(parser.get_parsed_content("train::dataset::data"))
    steps, seconds = math.ceil(pairs / parser["batch_size"]), step_seconds(parser)
    found = {"minutes": minutes, "epochs": max(1, int(60 * minutes / (steps * seconds))), "steps": steps}
    found |= {"seconds_per_step": round(seconds, 3), "cpu_seconds": 0.0}
    stage.folder.mkdir(parents=True, exist_ok=True)
    write_json(found, stage.folder / "plan.json")
    return found


def train(stage: Stage, minutes: float, start_from: Path | None) -> None:
    """Train what is left of a stage in a process of its own, and add its CPU time to what is known of it."""
    planned = plan(stage, minutes)
    if stage.finished():
        return
    print(f"  {stage.overlay or 'train.json'}: {planned['epochs']} epochs of {planned['steps']} steps", flush=True)
    words = [sys.executable, "-m", "clinicalfmamba_nets.cli", "train", "--task", stage.task, "-o", str(stage.folder)]
    words += [part for name, value in stage.data.items() for part in (f"--{name}", value)]
    words += ["--overlay", f"peers/{stage.overlay}"] if stage.overlay else []
    words += ["--resume", f"epochs={planned['epochs']}", f"val_interval={math.ceil(planned['epochs'] / 4)}"]
    words += [f"start_from={start_from}"] if start_from else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        code = subprocess.run(words, check=False).returncode
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        planned["cpu_seconds"] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        write_json(planned, stage.folder / "plan.json")
    if code or not stage.finished():
        raise input_error(stage.folder, "a whole training", f"exit code {code}", "run the same command to go on")


def stages_of(name: str, task: str, folder: Path, data: dict[str, str]) -> list[Stage]:
    """The trainings of a network, in their order."""
    return [Stage(task, overlay, folder / task / (overlay or "clinicalfmamba"), data) for overlay in STAGES[name]]


def trained(stages: Sequence[Stage]) -> nn.Module:
    """The network of a finished training with its best weights."""
    network: nn.Module = stages[-1].opened("inference").get_parsed_content("network_def")
    return with_weights(network, stages[-1].folder / "model.pt")


def cost(network: nn.Module, size: int = 256) -> dict[str, float]:
    """Parameters, GFLOP and seconds of one pair of size x size pixels on one thread."""
    image, threads = torch.rand(1, 2, size, size), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            seconds = fastest(lambda: network(image), 2)
            flops = count_flops(lambda: network(image))
    finally:
        torch.set_num_threads(threads)
    return {"parameters": sum(p.numel() for p in network.parameters()), "gflop": flops / 1e9, "seconds": seconds}


def cost_table(rows: dict[str, dict[str, Any]]) -> str:
    """Lay out what each network costs.

    Args:
        rows: network -> `parameters`, `gflop`, `seconds` of `cost`; `cpu_minutes`, `epochs` and `steps` where it was
            trained here.
    """
    lines = ["| network | parameters | GFLOP | s per pair, 1 thread | training, CPU min | epochs | steps |"]
    lines.append("|---" * 7 + "|")
    for name, row in rows.items():
        own = (
            [f"{row['cpu_minutes']:.1f}", row["epochs"], row["steps"]] if "steps" in row else ["see model card", "", ""]
        )
        cells = [name, f"{row['parameters']:,}", f"{row['gflop']:.1f}", f"{row['seconds']:.2f}", *map(str, own)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def score(task: str, folder: Path, data: dict[str, str], size: int) -> str:
    """Score what is trained of a task, the shipped weights and the baselines; return its part of the document."""
    networks: dict[str, nn.Module] = {SHIPPED: pretrained(task, "fusion_2d")}
    rows: dict[str, dict[str, Any]] = {SHIPPED: cost(networks[SHIPPED], size)}
    for name in STAGES:
        stages = stages_of(name, task, folder, data)
        if not all(stage.finished() for stage in stages):
            continue
        networks[name], plans = trained(stages), [stage.state() for stage in stages]
        rows[name] = {**cost(networks[name], size), "cpu_minutes": sum(one["cpu_seconds"] for one in plans) / 60}
        rows[name] |= {"epochs": " + ".join(str(one["epochs"]) for one in plans)}
        rows[name] |= {"steps": sum(one["epochs"] * one["steps"] for one in plans)}
    items = Stage(task, "", folder / task / "scores", data).opened("inference").get_parsed_content("items")
    evaluator = PairEvaluator(items, compared_networks(networks), folder / task / "scores", task, METRICS)
    evaluator.run()
    table = short_table((folder / task / "scores" / "table.md").read_text(encoding="utf-8"))
    pairs = sum(len(entries) for entries in items.values())
    budgets = sorted(
        {one["minutes"] * len(STAGES[n]) for n in rows if n != SHIPPED for one in [_first(n, task, folder)]}
    )
    text = f"Budget of each network: {' or '.join(f'{one:g}' for one in budgets)} CPU minutes of training steps, at "
    text += f"least one epoch; {pairs} test pairs. GFLOP and seconds are those of one {size} x {size} pair."
    return f"### {task}\n\n{text}\n\n{table}\n\n{cost_table(rows)}"


def _first(name: str, task: str, folder: Path) -> dict[str, Any]:
    return stages_of(name, task, folder, {})[0].state()


def write_document(document: Path, text: str) -> None:
    """Put the tables between the marks `peers` of a document."""
    try:
        document.write_text(replace_results(document.read_text(encoding="utf-8"), text, "peers"), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise input_error(document, "a document with both marks", str(error), "add them") from error


def run(options: argparse.Namespace) -> None:
    """Train, score and write, task by task."""
    data = {key: str(getattr(options, key)) for key in ("dataset_dir", "datalist") if getattr(options, key)}
    parts, count = [], len(options.tasks) * len(options.networks)
    for place, task in enumerate(options.tasks):
        for number, name in enumerate(options.networks, 1):
            print(f"[{place * len(options.networks) + number}/{count}] {task}: {name}", flush=True)
            stages, before = stages_of(name, task, options.output, data), None
            for stage in stages:
                train(stage, options.minutes / len(stages), before)
                before = stage.folder / "model.pt"
        parts.append(score(task, options.output, data, options.size))
        (options.output / "peers.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"table    {options.output / 'peers.md'}")
    if options.document:
        write_document(options.document, "\n\n".join(parts))


def main(words: Sequence[str] | None = None) -> int:
    """Run as a program; 2 for wrong arguments, 1 for a fault or a stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--dataset_dir", help="folder of the atlas's pairs")
    data.add_argument("--datalist", help="a data list instead")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of trainings and scores")
    parser.add_argument("--minutes", type=float, default=30, help="CPU minutes for each network and task (default: 30)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--networks", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="NAME")
    parser.add_argument("--size", type=int, default=256, help="pixels of the pair that is timed (default: 256)")
    parser.add_argument("--document", type=Path, help="put the tables between the marks `peers` of this file")
    try:
        run(parser.parse_args(words))
    except (FusionInputError, KeyboardInterrupt) as error:
        print(f"error: {error if str(error) else 'stopped; the same command goes on'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
