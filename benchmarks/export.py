"""Time exported programs against the eager network, and converting and loading: ``python -m benchmarks.export``.

One process for each row, one thread unless told otherwise, one pair of 256 x 256 by default. Eager and exported runs
take turns, and each time is the best of its turns, because other programs only ever add to it; on one thread it is
processor time, on more the wall's. ``ratio`` is the exported program's over the eager network's. ``made`` and ``load``
are seconds of the wall, ``largest difference`` that of the fused images; the libraries' build is told in seconds of the
processor. AOTInductor is compiled for this processor.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.roofline import clock_of, describe_machine

# Row: format, portable, the ratio that it must keep to (0: none is asked for), and the seconds of making it.
ROWS: dict[str, tuple[str, bool, float, float]] = {
    "ts": ("ts", False, 1.1, 15),
    "pt2": ("pt2", False, 1.1, 15),
    "aoti": ("aoti", False, 0.95, 90),
    "onnx": ("onnx", False, 1.05, 40),
    "onnx-functions": ("onnx", False, 0, 40),
    "portable-ts": ("ts", True, 2.0, 15),
    "portable-pt2": ("pt2", True, 2.5, 0),
}


def taking_turns(first: Callable[[], object], second: Callable[[], object], turns: int) -> tuple[float, float]:
    """Seconds of the fastest turn of each of two calls."""
    best, clock = [float("inf")] * 2, clock_of(torch.get_num_threads())
    first(), second()
    for _ in range(turns):
        for place, call in enumerate((first, second)):
            start = clock()
            call()
            best[place] = min(best[place], clock() - start)
    return best[0], best[1]


def measure(row: str, task: str, size: int, turns: int) -> str:
    """One row of the table."""
    from clinicalfmamba_nets.engine.exporting.loading import load_program
    from clinicalfmamba_nets.engine.exporting.write import export_program
    from clinicalfmamba_nets.engine.run.tasks import VOLUMES, find_task
    from clinicalfmamba_nets.engine.run.weights import pretrained
    from clinicalfmamba_nets.ops import native
    from clinicalfmamba_nets.ops.native.allocator import tune_allocator

    tune_allocator()
    warnings.simplefilter("ignore")
    file_format, portable, ratio, seconds = ROWS[row]
    network = pretrained(task)
    image = torch.rand(1, 2, *[size] * (3 if find_task(task).bundles[0] == VOLUMES else 2))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = export_program(task, file_format, Path(folder, f"program.{file_format}"), portable=portable)
        made = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        start = time.perf_counter()
        available = native.available
        if row == "onnx-functions":
            native.available = lambda: False  # type: ignore[assignment]
        program = load_program(path)
        native.available = available  # type: ignore[assignment]
        load = time.perf_counter() - start
        with torch.inference_mode():
            difference = (program(image) - network(image)).abs().max().item()
            eager, exported = taking_turns(lambda: network(image), lambda: program(image), turns)
    limits = f"{ratio or '-':>7}  {seconds or '-':>7}"
    return (
        f"{row:15s}  {eager:8.3f}  {exported:8.3f}  {exported / eager:6.2f}  {limits}  {made:7.1f}  {load:6.2f}"
        f"  {peak:8.2f}  {difference:.1e}"
    )


def library_seconds() -> str:
    """How many seconds of the processor both libraries take to build for it."""
    import platform

    from clinicalfmamba_nets.ops.native import build, loader

    variant = loader.variant_of_cpu(torch.backends.cpu.get_cpu_capability(), platform.machine())
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        build.compile_library(variant, Path(folder, "clinicalfmamba-timed.so"), build.find_compiler())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return f"both libraries, {variant}: built in {seconds:.1f} s of the processor (at most 15), files in parallel"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="rows (default: all)")
    parser.add_argument("--task", default="ct_mri", help="a task of `clinicalfmamba info --tasks` (default: ct_mri)")
    parser.add_argument("--size", type=int, default=256, help="pixels or voxels on each axis (default: 256)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    parser.add_argument("--turns", type=int, default=7, help="timed turns (default: 7)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        print(measure(arguments.one, arguments.task, arguments.size, arguments.turns))
        return
    print(describe_machine())
    print(library_seconds(), flush=True)
    print(
        "row              eager, s  export, s  ratio  at most  made in  made, s  load, s  peak GiB  largest difference"
    )
    for row in arguments.rows:
        words = [f"--task={arguments.task}", f"--size={arguments.size}", f"--threads={arguments.threads}"]
        command = [sys.executable, "-m", "benchmarks.export", "--one", row, *words, f"--turns={arguments.turns}"]
        done = subprocess.run(command, capture_output=True, text=True)
        print((done.stdout or done.stderr).strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
