"""Time the 2D network against the limit of its matrix products: ``python -m benchmarks.network``.

Every row is one process, one size, one thread count: forward of one pair, or a training step (forward, loss, backward,
Adam) per pair. ``limit`` is the time of the row's convolutions and linear maps (counted by torch's FLOP counter, those
within the native kernels by their shapes) at the rate of a large float32 matrix product measured in the same run;
``ratio`` is the row's time over it. Times are the minimum of the repeats, because other programs only ever add to them.
A forward row ends with the share of its time in 2D convolutions, in the scans (with the sequence convolution and the
projections in front of them and the gate behind), and in the rest.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.roofline import describe_machine
from clinicalfmamba_nets.blocks import decoder, dilated_gated_conv, heads, mamba
from clinicalfmamba_nets.losses import FusionLoss
from clinicalfmamba_nets.nets import clinicalfmamba_2d
from clinicalfmamba_nets.ops import native, scan_backend
from clinicalfmamba_nets.ops.native.allocator import tune_allocator


def _conv_flops(x, weight, bias, x_proj, order, **_):  # type: ignore[no-untyped-def]
    return 2 * x[1] * x[2] * math.prod(x_proj)  # B L (S K P D)


def _scan_flops(u, projected, dt_weight, *others, **_):  # type: ignore[no-untyped-def]
    return 2 * u[2] * u[3] * math.prod(dt_weight)  # B L (S K D R)


def _maps_flops(x, weight, bias, before, after, times, plus, dilation, scale, *_, **__):  # type: ignore[no-untyped-def]
    return 2 * x[0] * x[1] * x[2] * scale**2 * math.prod(weight)  # a plain convolution's: the kernel needs fewer


# The products within the native kernels, from the shapes of their arguments; a gradient takes two for each.
OPS = torch.ops.clinicalfmamba
native.load()  # registers them
PROJECTIONS = {
    OPS.permuted_conv1d_silu: _conv_flops,
    OPS.permuted_selective_scan: _scan_flops,
    OPS.conv3x3: _maps_flops,
    OPS.permuted_conv1d_silu_forward: _conv_flops,
    OPS.permuted_conv1d_silu_backward: lambda du, dprojected, *others, **_: 2 * _conv_flops(*others),
    OPS.permuted_selective_scan_states: _scan_flops,
    OPS.permuted_selective_scan_backward: lambda dy, *others, **_: 2 * _scan_flops(*others),
}


def fastest(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_rate() -> float:
    """FLOP per second of a 1536 x 1536 float32 matrix product with the present number of threads."""
    a = torch.rand(1536, 1536)
    return 2 * 1536**3 / fastest(lambda: a @ a, 5)


def count_flops(run: Callable[[], object]) -> int:
    """FLOPs (2 per multiplication and addition) of the matrix products and convolutions of a call."""
    with FlopCounterMode(display=False, custom_mapping=PROJECTIONS) as counter:
        run()
    return counter.get_total_flops()


def describe_shares(run: Callable[[], object]) -> str:
    """The shares of convolutions, scans and the rest in the time of a call, as text."""
    spent: Counter[str] = Counter()

    def timed(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            spent[kind] += time.perf_counter() - start
            return result

        return call

    places = [
        ("conv", F, "conv2d"),
        *(("conv", place, "conv3x3") for place in (decoder, dilated_gated_conv, heads)),
        ("scan", mamba, "permuted_conv1d_silu"),
        ("scan", mamba, "permuted_selective_scan"),
        ("scan", mamba, "gated_norm"),
    ]
    with ExitStack() as stack:
        for kind, place, name in places:
            stack.enter_context(patch.object(place, name, timed(kind, getattr(place, name))))
        start = time.perf_counter()
        run()
        total = time.perf_counter() - start
    conv, scan = 100 * spent["conv"] / total, 100 * spent["scan"] / total
    return f"conv {conv:.0f} %, scan {scan:.0f} %, rest {100 - conv - scan:.0f} %"


def forward_row(size: int, backend: str, repeats: int) -> tuple[Callable[[], object], float]:
    """The forward pass of one pair and its seconds."""
    torch.manual_seed(0)
    net, image = clinicalfmamba_2d().eval(), torch.rand(1, 2, size, size)

    def run() -> object:
        with torch.inference_mode(), scan_backend(backend):
            return net(image)

    return run, fastest(run, repeats)


def training_row(size: int, batch: int, backend: str, repeats: int) -> tuple[Callable[[], object], float]:
    """A training step and its seconds per pair."""
    torch.manual_seed(0)
    net, loss, images = clinicalfmamba_2d().train(), FusionLoss(), torch.rand(batch, 2, size, size)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-4)

    def run() -> object:
        optimizer.zero_grad()
        with scan_backend(backend):
            loss(net(images), images).backward()
        return optimizer.step()

    return run, fastest(run, repeats) / batch


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default: 1 2)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="image sizes (default: 256 512)")
    parser.add_argument("--backends", nargs="+", default=["auto"], help="scan backends (default: auto)")
    parser.add_argument("--batch", type=int, default=4, help="pairs per training step (default: 4)")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats per row (default: 5)")
    parser.add_argument("--no-training", action="store_true", help="forward rows only")
    arguments = parser.parse_args()
    tune_allocator()
    print(describe_machine())
    print("threads  size  scan       row             seconds/pair   GFLOP/pair  limit s   ratio  peak RSS GiB  shares")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        rate = matrix_rate()
        print(f"{threads:7d}  matrix product: {rate / 1e9:.0f} GFLOP/s")
        for size in arguments.sizes:
            for backend in arguments.backends:
                rows = [("forward", 1, partial(forward_row, size, backend, arguments.repeats))]
                if not arguments.no_training:
                    batch = arguments.batch if size <= 256 else 1
                    rows.append(
                        (f"train batch {batch}", batch, partial(training_row, size, batch, backend, arguments.repeats))
                    )
                for name, pairs, measure in rows:
                    run, seconds = measure()
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # before the count adds to it
                    flops = count_flops(run) / pairs
                    shares = describe_shares(run) if name == "forward" else ""
                    print(
                        f"{threads:7d}  {size:4d}  {backend:9s}  {name:14s}  {seconds:12.3f}  {flops / 1e9:11.1f}"
                        f"  {flops / rate:7.3f}  {seconds * rate / flops:6.1f}  {peak:12.2f}  {shares}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
