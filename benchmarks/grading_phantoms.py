"""Grade phantoms by all five inputs: ``python -m benchmarks.grading_phantoms --size small -o OUT``.

Makes a phantom data set in the layout of BraTS 2019, trains every input on the same patients (a fused one with its own
fusion network), tests on held-out phantoms, trains a control on shuffled grades, and writes ``OUT/summary.json``, a
table and plots. The same command goes on where it was stopped. No score here is a clinical one.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from benchmarks.roofline import describe_machine
from clinicalfmamba_nets.data import ideal_auc, write_brats_phantoms
from clinicalfmamba_nets.engine import GradingExperiment
from clinicalfmamba_nets.engine.run.record import write_json
from clinicalfmamba_nets.engine.run.workflows import show_progress

FUSION = {"fusion_features": 8, "fusion_dim": 32, "fusion_depth": 1, "fusion_decoder_depth": 1, "eh_dran_features": 16}
SMALL_NET = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [8, 16, 32, 32]}
# Patients of each grade, voxels of a volume, the region, and what differs from the bundle's own settings.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "patients": 8,
        "volume": (24, 28, 20),
        "roi": [16, 16, 6],
        "runs": ["run1"],
        "fusion": {**FUSION, "epochs": 1},
        "train": {**SMALL_NET, "epochs": 1, "val_fraction": 0.25},
    },
    "small": {
        "patients": 100,
        "volume": (48, 56, 40),
        "roi": [32, 32, 8],
        "runs": ["run1"],
        "fusion": {**FUSION, "epochs": 2},
        "train": {**SMALL_NET, "epochs": 12, "batch_size": 32, "val_fraction": 0.15},
    },
    "full": {
        "patients": 120,
        "volume": (120, 144, 104),
        "roi": [128, 128, 64],
        "runs": ["run1", "run2", "run3"],
        "fusion": {},
        "train": {},
    },
}


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--difficulty", default="medium", help="easy, medium, hard, or the distance of the grades")
    parser.add_argument("--spatial_dims", type=int, choices=(2, 3), default=2)
    parser.add_argument("--device", help="in torch's words; default: a GPU where there is one")
    parser.add_argument("--runs", nargs="+", help="trials: some of run1 run2 run3; default: run1, all for full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", required=True, metavar="OUT")
    given = parser.parse_args(arguments)
    show_progress()
    logging.getLogger("clinicalfmamba").info(describe_machine())
    size, output = SIZES[given.size], Path(given.output)
    count = size["patients"]
    root = write_brats_phantoms(output / "phantoms", count, count, given.difficulty, size["volume"], given.seed)
    summary = GradingExperiment(
        root,
        output,
        runs=given.runs or size["runs"],
        spatial_dims=given.spatial_dims,
        device=given.device,
        shuffled=True,
        title=f"PHANTOMS (computed, no patients), {given.difficulty}, {given.size}, {given.spatial_dims}D",
        common={"roi_size": size["roi"], "seed": given.seed},
        fusion_settings=size["fusion"],
        train_settings=size["train"],
    ).run()
    ideal = {"one contrast": ideal_auc(given.difficulty, 1), "both contrasts": ideal_auc(given.difficulty, 2)}
    about = {"phantoms": {"patients_of_each_grade": count, "difficulty": given.difficulty, "ideal_auc": ideal}}
    write_json(summary | about, output / "summary.json")


if __name__ == "__main__":
    main()
