"""Check and time everything on a CUDA GPU, in minutes: ``python -m benchmarks.gpu``. Not run yet: no GPU was at hand.

The scan against the reference in float64, forward and every gradient; the time of a 256 x 256 pair (goal 5 ms), of a
128^3 volume (goal 0.2 s) and of a training step, with the Triton kernels and, where it is installed, with mamba-ssm's.
The first lines name the card and the versions: they belong beside the numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from clinicalfmamba_nets.losses import FusionLoss
from clinicalfmamba_nets.nets import clinicalfmamba_2d, clinicalfmamba_3d
from clinicalfmamba_nets.ops import backend_report, selective_scan

WARM_UP, TURNS = 3, 10


def milliseconds(run: Callable[[], object]) -> float:
    """Time of the fastest of some runs on the GPU."""
    times = []
    for _ in range(WARM_UP + TURNS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * min(times[WARM_UP:])


def scan_errors(device: torch.device, length: int) -> tuple[float, float]:
    """Relative errors of the scan's result and of its worst gradient."""
    torch.manual_seed(0)
    u, delta, z = torch.randn(3, 2, 64, length, dtype=torch.float64)
    B, C = torch.randn(2, 2, 8, length, dtype=torch.float64)
    A, D, bias = -torch.rand(64, 8).double(), torch.randn(64).double(), torch.randn(64).double()
    found = []
    for backend, place, dtype in (("reference", "cpu", torch.float64), ("cuda", device, torch.float32)):
        tensors = [x.to(place, dtype).requires_grad_() for x in (u, delta, A, B, C, D, z, bias)]
        y = selective_scan(*tensors, delta_softplus=True, backend=backend)
        found.append([y, *torch.autograd.grad(y.square().sum(), tensors)])
    errors = [((b.cpu().double() - a).norm() / a.norm()).item() for a, b in zip(*found, strict=True)]
    return errors[0], max(errors[1:])


def main() -> None:
    """Print the table."""
    if not torch.cuda.is_available():
        raise SystemExit("error: expected a CUDA GPU, found none; run this on a machine with one")
    device = torch.device("cuda", 0)
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"scan: {backend_report()['cuda']['reason']}")
    for length in (1, 37, 1024, 4096):
        result, gradient = scan_errors(device, length)
        print(f"scan of {length} tokens: error {result:.1e}, worst gradient {gradient:.1e}")
    flat, solid = clinicalfmamba_2d(head="mix").to(device).eval(), clinicalfmamba_3d(head="mix").to(device).eval()
    pair, volume = torch.rand(1, 2, 256, 256, device=device), torch.rand(1, 2, 128, 128, 128, device=device)
    with torch.inference_mode():
        print(f"256 x 256 pair: {milliseconds(lambda: flat(pair)):.2f} ms (goal 5)")
        print(f"128^3 volume: {milliseconds(lambda: solid(volume)):.1f} ms (goal 200)")
    net, loss, batch = clinicalfmamba_2d(head="mix").to(device).train(), FusionLoss(), pair.repeat(8, 1, 1, 1)
    optimizer = torch.optim.Adam(net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss(net(batch), batch).backward()
        optimizer.step()

    print(f"training step, batch 8 of 256 x 256: {milliseconds(step):.1f} ms")
    print(f"peak of GPU memory: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
