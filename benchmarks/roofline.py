"""Measure what one core of this machine can do at most: ``python -m benchmarks.roofline``.

Three loops of the native library run from memory that stays in the first cache, or from memory that does not fit into
any: fused multiply-adds on independent registers, the exponential that the scan uses, and y = x + s y. Each number is
the best of the repeats, because other programs only ever take away.

A selective scan is bound by arithmetic. Its floor is a count of vector operations, each for 16 channels of one token,
over the rate of fused multiply-adds:

- forward: 13 per state (range reduction 3, polynomial 5, power of two 2, state 2, output 1), 28 for softplus, 18 for
  the gate;
- backward: 21 per state (13 to run the tile again, 8 to sweep it), 34 for softplus and its slope, 26 for the gate and
  its slope, 8 for the gradients of u and delta.

A kernel on narrower vectors has as many times more of them.
"""

from __future__ import annotations

import ctypes
import datetime
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from clinicalfmamba_nets.ops import native

LANES = 16  # channels that one counted vector operation serves


@dataclass(frozen=True)
class Roofline:
    """Peak rates of one core."""

    width: int  # floats in a vector
    vector_fma: float  # fused multiply-adds of a vector, per second
    exponentials: float  # of single floats, per second
    cache_bandwidth: float  # bytes per second, arrays of 1 MiB
    memory_bandwidth: float  # bytes per second, arrays of 256 MiB

    def scan_floor(self, batch: int, channels: int, length: int, states: int, *, gated: bool, backward: bool) -> float:
        """Seconds below which a scan with softplus cannot go on one core.

        Args:
            batch: sequences.
            channels: channels of each.
            length: tokens.
            states: states per channel.
            gated: whether the gate SiLU(z) is part of it.
            backward: count forward and backward, not forward alone.

        Returns:
            Seconds.
        """
        operations = 13 * states + 28 + (18 if gated else 0)
        if backward:
            operations += 21 * states + 34 + (26 if gated else 0) + 8
        vectors = batch * length * channels / LANES * (LANES / self.width)
        return vectors * operations / self.vector_fma


def fastest(run: Callable[[], object], seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds, by a clock, of the fastest of the runs that begin within `seconds`; there is at least one."""
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = clock()
        run()
        best = min(best, clock() - start)
    return best


def clock_of(threads: int) -> Callable[[], float]:
    """Processor time of the process for one thread, which other programs hardly change; the wall's for more."""
    return time.process_time if threads == 1 else time.perf_counter


def measure() -> Roofline:
    """Time the three loops on the calling thread.

    Returns:
        The peak rates.

    Raises:
        RuntimeError: the native library is not there, so that there is nothing to measure with.
    """
    library = native.load()
    if library is None:
        raise RuntimeError(f"no native kernels, so no roofline: {native.reason()}")
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    library.cfm_peak_fma.argtypes, library.cfm_peak_fma.restype = [integer, pointer], integer
    library.cfm_exp_rate.argtypes = [pointer, pointer, integer, integer]
    library.cfm_triad.argtypes = [pointer, pointer, ctypes.c_float, integer]
    width = library.cfm_vector_width()
    out, x, y = torch.zeros(64), -3 * torch.rand(4096), torch.empty(4096)
    done = library.cfm_peak_fma(20000, out.data_ptr())
    fma = done / width / fastest(lambda: library.cfm_peak_fma(20000, out.data_ptr()), 0.4, clock_of(1))
    exp = fastest(lambda: library.cfm_exp_rate(x.data_ptr(), y.data_ptr(), 4096, 50), 0.2, clock_of(1))
    return Roofline(width, fma, 4096 * 50 / exp, _bandwidth(library, 2**17), _bandwidth(library, 2**25))


def _bandwidth(library: ctypes.CDLL, floats: int) -> float:
    x, y = torch.ones(floats), torch.ones(floats)
    return 12 * floats / fastest(lambda: library.cfm_triad(x.data_ptr(), y.data_ptr(), 0.5, floats), 0.3, clock_of(1))


def describe_machine() -> str:
    """Date, processor, cores, versions and commit, in two lines."""
    commit = _output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty") or "unknown"
    cpu = next(
        (line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.machine()
    )
    isa, cores = torch.backends.cpu.get_cpu_capability(), torch.multiprocessing.cpu_count()
    return (
        f"{datetime.date.today()}  {cpu}, {cores} cores, {isa}, {platform.system()}\n"
        f"commit {commit}, torch {torch.__version__}, native scan: {native.reason()}"
    )


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe(roofline: Roofline) -> str:
    """The peak rates in one line."""
    return (
        f"one core: {roofline.vector_fma / 1e9:.2f} G vector multiply-adds/s of {roofline.width} floats "
        f"({2 * roofline.vector_fma * roofline.width / 1e9:.0f} GFLOP/s), {roofline.exponentials / 1e9:.1f} G exp/s, "
        f"{roofline.cache_bandwidth / 1e9:.0f} GB/s from cache, {roofline.memory_bandwidth / 1e9:.0f} GB/s from memory"
    )


def main() -> None:
    """Print the machine and its peak rates."""
    print(describe_machine())
    print(describe(measure()))


if __name__ == "__main__":
    main()
