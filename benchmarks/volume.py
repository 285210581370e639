"""Time the 3D network and its memory from 64^3 to 160^3, and one whole brain: ``python -m benchmarks.volume``.

Every row is a process of its own, so that its peak memory is its own. ``us/voxel`` is the time per voxel: where it
stays the same, cost grows linearly. ``limit`` is the time of the row's convolutions and linear maps (counted by torch's
FLOP counter) at the rate of a large float32 matrix product measured in the same process. The last row fuses a
240 x 240 x 155 volume whose brain fills what a BraTS brain fills, as the bundle does: window by window.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from benchmarks.network import count_flops, fastest, matrix_rate
from benchmarks.roofline import describe_machine
from clinicalfmamba_nets.data import brain_volumes
from clinicalfmamba_nets.engine import VolumeInferer
from clinicalfmamba_nets.nets import clinicalfmamba_3d
from clinicalfmamba_nets.ops import scan_backend
from clinicalfmamba_nets.ops.native.allocator import tune_allocator

NATIVE = (240, 240, 155)
BRAIN = (141, 174, 140)  # box of a BraTS brain inside it


def peak() -> float:
    """GiB that the process has used at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cube_row(size: int, backend: str, repeats: int, head: str) -> dict[str, float]:
    """Forward of one pair of size^3 voxels."""
    torch.manual_seed(0)
    net, image = clinicalfmamba_3d(head=head).eval(), torch.rand(1, 2, size, size, size)

    def run() -> object:
        with torch.inference_mode(), scan_backend(backend):
            return net(image)

    seconds, most = fastest(run, repeats), peak()
    return {"seconds": seconds, "peak": most, "flops": count_flops(run), "rate": matrix_rate(), "voxels": size**3}


def native_row(backend: str, head: str) -> dict[str, float]:
    """Fuse a volume of 240 x 240 x 155 voxels window by window, once."""
    torch.manual_seed(0)
    net, volumes = clinicalfmamba_3d(head=head).eval(), brain_volumes(BRAIN)
    image = torch.zeros(1, 2, *NATIVE)
    box = tuple(slice((whole - side) // 2, (whole + side) // 2) for whole, side in zip(NATIVE, BRAIN, strict=True))
    for channel, volume in enumerate(volumes.values()):
        part = image[0, channel][box]
        part.copy_(torch.from_numpy(volume)[tuple(slice(side) for side in part.shape)])
    start = time.perf_counter()
    with torch.inference_mode(), scan_backend(backend):
        VolumeInferer()(image, net)
    return {"seconds": time.perf_counter() - start, "peak": peak(), "voxels": image[0, 0].numel()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default: 1 2)")
    sizes = [64, 96, 128, 160]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="sides, 0 for the brain (default: 64..160)")
    parser.add_argument("--backend", default="auto", help="scan backend (default: auto)")
    parser.add_argument("--head", default="gain", help="last layer: gain (default) or sigmoid")
    parser.add_argument("--repeats", type=int, default=2, help="timed repeats per row (default: 2)")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        tune_allocator()
        torch.set_num_threads(arguments.threads[0])
        options = (arguments.backend, arguments.head)
        size = arguments.row
        row = cube_row(size, options[0], arguments.repeats, options[1]) if size else native_row(*options)
        print(json.dumps(row))
        return
    print(describe_machine())
    print("threads  size         seconds  us/voxel  limit s  ratio  peak RSS GiB")
    for threads in arguments.threads:
        for size in [*arguments.sizes, *([] if 0 in arguments.sizes else [0])]:
            command = [sys.executable, "-m", "benchmarks.volume", "--row", str(size), "--threads", str(threads)]
            command += ["--backend", arguments.backend, "--head", arguments.head, "--repeats", str(arguments.repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            limit = row["flops"] / row["rate"] if "flops" in row else None
            judged = f"{limit:7.2f}  {row['seconds'] / limit:5.1f}" if limit else "      -      -"
            name, each = f"{size}^3" if size else "240x240x155", 1e6 * row["seconds"] / row["voxels"]
            line = f"{threads:7d}  {name:11s}  {row['seconds']:7.2f}  {each:8.2f}  {judged}  {row['peak']:12.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
