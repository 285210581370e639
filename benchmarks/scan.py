"""Time the selective scan's backends against the machine's floor and each other: ``python -m benchmarks.scan``.

Each row is one shape and one implementation, forward alone and forward + backward, in one process, with the roofline
measured in the same run (see benchmarks/roofline.py). ``x floor`` is the row's time over the floor of its shape and
threads; ``x native`` its time over the native scan's. Implementations take turns, and each time is the best of its
turns, because other programs only ever add to it; on one thread it is the processor's time, of all threads that an
implementation starts (JAX starts its own: ``taskset -c 0`` keeps them on one core). Softplus, delta_bias, D and the
gate z are all on; delta and A are distributed as a Mamba layer starts: time steps log-uniform in [0.001, 0.1], A = -1
to -N. ``tokens`` are views of token-major tensors, as a network's linear layers leave them; ``channels`` are contiguous
(B, D, L), as mamba-ssm's are. ``native, kernels`` is the part of ``native`` that its C++ functions take; the rest is
Python and autograd.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.roofline import Roofline, clock_of, describe, describe_machine, fastest, measure
from benchmarks.scan_peers import jax_scan, mambapy_scan, torch_associative_scan
from clinicalfmamba_nets.ops import native, selective_scan
from clinicalfmamba_nets.ops.native import abi

Scan = Callable[..., Tensor]
CASES = [  # layout; batch, channels, length, states; the first is the one that the documented ratios speak of
    ("tokens", (1, 256, 1024, 8)),
    ("channels", (1, 256, 1024, 8)),
    ("tokens", (4, 256, 1024, 8)),
    ("tokens", (1, 256, 4096, 8)),
    ("tokens", (1, 256, 1024, 4)),
    ("tokens", (1, 256, 1024, 16)),
    ("tokens", (1, 250, 1000, 8)),
]
SECONDS_TOO_LONG = 0.5  # an implementation that takes longer than this gets one turn
SECONDS_OF_A_TURN = 0.02  # a quicker one is repeated within its turn


def make_inputs(layout: str, shape: tuple[int, ...]) -> list[Tensor]:
    """u, delta, A, B, C, D, z, delta_bias as a Mamba layer starts, all of them to be differentiated."""
    batch, channels, length, states = shape
    torch.manual_seed(0)
    steps = torch.exp(torch.empty(channels).uniform_(math.log(1e-3), math.log(1e-1)))
    bias = steps + torch.log(-torch.expm1(-steps))  # softplus(bias) is the step
    A = -torch.arange(1.0, states + 1).repeat(channels, 1)
    u, z, delta = (torch.randn(batch, length, channels).transpose(1, 2) for _ in range(3))  # (B, D, L)
    B, C = (torch.randn(batch, length, states).transpose(1, 2) for _ in range(2))  # (B, N, L)
    tensors = [u, 0.1 * delta, A, B, C, torch.ones(channels), z, bias]
    if layout == "channels":
        tensors = [t.contiguous() for t in tensors]
    return [t.requires_grad_() for t in tensors]


def python_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
) -> Tensor:
    """The scan as a loop in Python over whole-sequence products, the form that Mamba projects run without CUDA."""
    delta = F.softplus(delta + bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    drive = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
    state, outputs = torch.zeros_like(decay[:, :, 0]), []
    for token in range(u.shape[2]):
        state = decay[:, :, token] * state + drive[:, :, token]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, :, token]))
    return (torch.stack(outputs, dim=2) + D[:, None] * u) * F.silu(z)


def backend(name: str, *inputs: Tensor) -> Tensor:
    """The package's scan on one backend."""
    u, delta, A, B, C, D, z, bias = inputs
    return selective_scan(u, delta, A, B, C, D, z, bias, delta_softplus=True, backend=name)


def implementations(with_loop: bool) -> dict[str, Scan]:
    """What can run here, by the name in the table."""
    found: dict[str, Scan] = {"native": partial(backend, "native"), "torch (chunked)": partial(backend, "torch")}
    if importlib.util.find_spec("jax"):
        found["JAX lax.scan"] = jax_scan
    if importlib.util.find_spec("mambapy"):
        found["mambapy"] = mambapy_scan
    found["torch associative"] = torch_associative_scan
    if with_loop:
        found["Python loop"] = python_loop
    return found


def forward(scan: Scan, inputs: list[Tensor]) -> None:
    """Forward alone, as in inference."""
    with torch.no_grad():
        scan(*inputs)


def forward_and_backward(scan: Scan, inputs: list[Tensor]) -> None:
    """Forward and every gradient."""
    torch.autograd.grad(scan(*inputs), inputs, inputs[0].detach())


def best_times(runs: dict[str, Callable[[], None]], turns: int) -> dict[str, float]:
    """Seconds of the fastest turn of each, the turns taken one after the other."""
    clock = clock_of(torch.get_num_threads())
    for run in runs.values():  # warms up: JAX compiles in its first turn
        run()
    best = {name: fastest(run, 0.0, clock) for name, run in runs.items()}
    quick = {name: run for name, run in runs.items() if best[name] < SECONDS_TOO_LONG}
    for _ in range(turns):
        for name, run in quick.items():
            best[name] = min(best[name], fastest(run, SECONDS_OF_A_TURN, clock))
    return best


def kernel_time(mode: Callable[[Scan, list[Tensor]], None], inputs: list[Tensor], turns: int) -> float:
    """Seconds within the C++ functions in the run of the native scan that spends the least there."""
    call, seconds, clock = abi.call, 0.0, clock_of(torch.get_num_threads())

    def timed(*arguments: Any) -> None:
        nonlocal seconds
        start = clock()
        call(*arguments)
        seconds += clock() - start

    best = math.inf
    with patch.object(abi, "call", timed):
        for _ in range(20 * turns):
            seconds = 0.0
            mode(partial(backend, "native"), inputs)
            best = min(best, seconds)
    return best


def measure_case(case: tuple, with_loop: bool, turns: int) -> list[tuple[str, float, float]]:
    """Name, seconds forward and seconds forward + backward of each implementation on a layout and shape."""
    inputs, scans = make_inputs(*case), implementations(with_loop)
    expected = scans["torch (chunked)"](*inputs)
    for name, scan in scans.items():
        torch.testing.assert_close(scan(*inputs), expected, rtol=1e-3, atol=1e-3, msg=f"{name} scans something else")
    times = [
        best_times({name: partial(mode, scan, inputs) for name, scan in scans.items()}, turns)
        for mode in (forward, forward_and_backward)
    ]
    rows = [(name, times[0][name], times[1][name]) for name in scans]
    kernels = [kernel_time(mode, inputs, turns) for mode in (forward, forward_and_backward)]
    return [rows[0], ("native, kernels", kernels[0], kernels[1]), *rows[1:]]


def print_case(case: tuple, threads: int, roofline: Roofline, rows: list[tuple[str, float, float]]) -> None:
    """The rows of one layout and shape as a part of the table."""
    layout, (batch, channels, length, states) = case
    floors = [
        roofline.scan_floor(batch, channels, length, states, gated=True, backward=b) / threads for b in (False, True)
    ]
    label = f"{layout}, B {batch}, D {channels}, L {length}, N {states}"
    print(f"{threads:7d}  {label:36s}  {'floor':16s} {floors[0] * 1e3:10.3f}{'':20s} {floors[1] * 1e3:12.3f}")
    for name, *seconds in rows:
        cells = [
            f"{s * 1e3:{width}.3f} {s / floor:8.2f} {s / native_seconds:9.1f}"
            for s, floor, native_seconds, width in zip(seconds, floors, rows[0][1:], (10, 13), strict=True)
        ]
        print(f"{'':45s}  {name:16s} {' '.join(cells)}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default: 1 2)")
    parser.add_argument("--turns", type=int, default=30, help="turns of each implementation (default: 30)")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the cases (default: all)")
    parser.add_argument("--no-loop", action="store_true", help="leave the Python loop out; it takes seconds a turn")
    arguments = parser.parse_args()
    native.tune_allocator()
    roofline = measure()
    print(f"{describe_machine()}\n{describe(roofline)}\n")
    print(
        f"threads  {'case':36s}  {'implementation':16s} forward ms  x floor  x native  fwd + bwd ms  x floor  x native"
    )
    native_times: dict[tuple, list[float]] = {}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for index, case in enumerate(CASES[: arguments.cases]):
            rows = measure_case(case, index == 0 and threads == 1 and not arguments.no_loop, arguments.turns)
            print_case(case, threads, roofline, rows)
            native_times.setdefault(case, []).extend(rows[0][1:])
    for (layout, shape), times in native_times.items():
        if len(times) == 4:
            gains = f"forward {times[0] / times[2]:.2f}, forward + backward {times[1] / times[3]:.2f}"
            print(f"native, {layout} {shape}: {arguments.threads[1]} threads over {arguments.threads[0]}: {gains}")


if __name__ == "__main__":
    main()
