"""CPU time until the command line answers, in ratio to another checkout: `python -m benchmarks.answer --base DIR`.

Each command runs in a process of its own, by turns in both checkouts; told are the least of its CPU seconds in each
and their ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from clinicalfmamba_nets.io import write_image

HERE = Path(__file__).resolve().parents[1]


def commands(folder: Path, study: Path | None) -> dict[str, list[str]]:
    """Return the commands by name; OUT stands for a new folder."""
    for name, values in zip(("mri", "ct"), np.random.default_rng(0).integers(0, 255, (2, 256, 256)), strict=True):
        write_image(folder / f"{name}.png", values.astype(np.uint8))
    pair = [str(folder / "mri.png"), str(folder / "ct.png")]
    found = {
        "fuse of one PNG pair": ["fuse", *pair, "--device", "cpu", "-o", "OUT"],
        "fuse missing.png other.png": ["fuse", str(folder / "missing.png"), pair[1], "-o", "OUT"],
        "--help": ["fuse", "--help"],
    }
    return found | ({"info STUDY": ["info", str(study)]} if study else {})


def cpu_seconds(checkout: Path, words: list[str]) -> float:
    """Return the CPU seconds of one command in a checkout."""
    with tempfile.TemporaryDirectory() as out:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [out if word == "OUT" else word for word in words]
        command = [sys.executable, "-m", "clinicalfmamba_nets.cli", *words]
        subprocess.run(command, cwd=checkout, env=environment, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--study", type=Path, help="a folder with DICOM series, for `info`")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, words in commands(Path(folder), options.study).items():
            times = [
                [cpu_seconds(place, words) for place in (options.base.absolute(), HERE)] for _ in range(options.runs)
            ]
            base, here = (min(column) for column in zip(*times, strict=True))
            print(f"{name:<28} base {base:5.2f} s  here {here:5.2f} s  ratio {here / base:.2f}", flush=True)


if __name__ == "__main__":
    main()
