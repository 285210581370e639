"""Compare the 2D network slice by slice with the 3D one on held-out volumes: ``python -m benchmarks.volume_quality``.

Held out are the test heads of the split by whole heads as stacks of slices (of PET-MRI the axial series), and for
``t2_flair`` the testing list of `fusion_3d`. Qabf, VIF and SSIM are means over axial slices of the box around the head;
``outside`` is the share of voxels outside both sources by more than 1/255, ``steps`` the share of the head in the worst
two neighboring slices that steps where neither source does. The rest is of heads of even tissues (`data.plain_head`).
``even``: the range of the fused brain's 7 x 7 x 3 means as a share of their mean, where both sources have one value,
the worst head's (goal: at most 3 %). ``unlike``: the share of the head that differs by more than 2 % of the range from
its mirror image, for pairs that equal theirs, the worst head's (goal: at most 0.5 %).
``lesion``: the contrast of a lesion that one source shows, as a share of that source's, the mean (goal: 0.7).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.data import head_stacks, load_datalist, plain_head
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.engine.run.workflows import find_bundle
from clinicalfmamba_nets.metrics import compute_qabf, compute_ssim, compute_vif
from clinicalfmamba_nets.nets.baselines import GuidedFilterFusion, LaplacianPyramidFusion
from clinicalfmamba_nets.ops.native.allocator import tune_allocator
from clinicalfmamba_nets.transforms.steps import worst_step

SIZE, SEEDS, MARGIN = (64, 64, 32), range(101, 121), 8
Method = Callable[[Tensor], Tensor]
QUALITIES = {"qabf": compute_qabf, "vif": compute_vif, "ssim": compute_ssim}


def held_out(task: str, data: str, cache: str) -> list[dict[str, Any]]:
    """Return the held-out volumes of a task."""
    if task == "t2_flair":
        folder = find_bundle("fusion_3d") / "datalists" / "t2_flair.json"
        return load_datalist(folder, "testing", Path(data) / "vol")
    return head_stacks(data, task, cache, section="testing")


def opened(task: str, bundle: str, settings: dict[str, Any]) -> tuple[Method, FusionPipeline]:
    """Return a bundle's network, and its pipeline, as a function of (1, 2, X, Y, Z) in [0, 1]."""
    pipeline = FusionPipeline(task, bundle=bundle, settings=settings)

    def fuse(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.as_tensor(pipeline.inferer(image, pipeline.network))[:, :1]

    return fuse, pipeline


def around_the_head(image: Tensor, slab: int) -> Tensor:
    """Cut a pair (1, 2, X, Y, Z) to the box around the head and to its middle axial slices."""
    shown = image[0].amax(0) > 8 / 255
    box = []
    for axis in range(3):
        places = torch.nonzero(shown.movedim(axis, 0).flatten(1).any(1)).flatten()
        first, last = int(places[0]), int(places[-1]) + 1
        if axis < 2:
            first, last = max(0, first - MARGIN), last + MARGIN
        else:
            first, last = max(first, (first + last - slab) // 2), min(last, (first + last + slab) // 2)
        box.append(slice(first, last))
    return image[(..., *box)].contiguous()


def of_heads(fused: Tensor, image: Tensor) -> dict[str, float]:
    """Measure a fused volume (1, 1, X, Y, Z) of a pair (1, 2, X, Y, Z) by its axial slices."""
    outside = torch.maximum(fused - image.amax(1, keepdim=True), image.amin(1, keepdim=True) - fused) > 1 / 255
    slices, first, second = (part.movedim(4, 0)[:, 0] for part in (fused, image[:, :1], image[:, 1:]))
    found = {name: metric(slices, first, second).value.nanmean().item() for name, metric in QUALITIES.items()}
    steps = worst_step(fused[0, 0], image[0]).share
    return found | {"outside": outside.float().mean().item(), "steps": steps}


def _phantoms() -> Iterator[tuple[Tensor, Tensor, Tensor, bool]]:
    """Give pairs (1, 2, X, Y, Z), the even brain, the lesion, and whether the pair equals its mirror image."""
    for seed in SEEDS:
        pair = plain_head(SIZE, seed, mirrored=bool(seed % 2))
        image = torch.from_numpy(np.stack([pair["first"], pair["second"]]))[None]
        yield image, torch.from_numpy(pair["brain"]), torch.from_numpy(pair["lesion"]), bool(seed % 2)


def of_phantoms(fuse: Method) -> dict[str, float]:
    """Measure evenness, symmetry and the lesion's contrast on heads of even tissues."""
    even, unlike, contrast = [0.0], [0.0], []
    for image, brain, lesion, mirrored in _phantoms():
        fused = fuse(image)
        means, inside = (F.avg_pool3d(x[None, None].float(), (7, 7, 3), 1)[0, 0] for x in (fused[0, 0], brain))
        means = means[inside > 0.999]
        even.append(((means.max() - means.min()) / means.mean()).item())
        if mirrored:
            apart = (fused - fused.flip(2)).abs() > 0.02 * (fused.max() - fused.min())
            unlike.append(apart[image.amax(1, keepdim=True) > 0].float().mean().item())
        heights = [x[lesion].mean() - x[brain].mean() for x in (image[0, 0], image[0, 1], fused[0, 0])]
        source = max(heights[:2], key=abs)
        contrast.append((heights[2] / source).item())
    return {"even": max(even), "unlike": max(unlike), "lesion": float(np.mean(contrast))}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="t2_flair", help="ct_mri, spect_mri, pet_mri or t2_flair (default)")
    parser.add_argument("--data", default="data", help="folder with aanlib/, datalists/ and vol/ (default: data)")
    parser.add_argument("--cache", help="folder that keeps the stacked heads (default: one that goes at the end)")
    parser.add_argument("--slab", type=int, default=24, help="middle axial slices that are measured (default: 24)")
    parser.add_argument("--mirror", action="store_true", help="average over the mirror image, as the bundles do")
    parser.add_argument("--weights", nargs=2, metavar=("2D", "3D"), help="weights instead of the shipped ones")
    arguments = parser.parse_args()
    tune_allocator()
    weights = [{"ckpt_path": path} for path in arguments.weights or ()] or [{}, {}]
    methods: dict[str, Method] = {
        "average": lambda image: image.mean(1, keepdim=True),
        "maximum": lambda image: image.amax(1, keepdim=True),
        "Laplacian pyramid": LaplacianPyramidFusion(3),
        "guided filter": GuidedFilterFusion(3),
    }
    for name, bundle, given in zip(("2D by slices", "3D"), ("fusion_2d", "fusion_3d"), weights, strict=True):
        methods[name], pipeline = opened(arguments.task, bundle, {"mirror": arguments.mirror, **given})
    with tempfile.TemporaryDirectory() as passing:
        cases = held_out(arguments.task, arguments.data, arguments.cache or passing)
        pairs = [torch.as_tensor(pipeline.preprocessing(dict(case))["image"])[None] for case in cases]
    images = [around_the_head(pair, arguments.slab) for pair in pairs]
    print(f"{arguments.task}: {', '.join(case['case'] for case in cases)}")
    print("method              qabf    vif   ssim  outside  steps   even  unlike  lesion")
    for name, fuse in methods.items():
        rows = [of_heads(fuse(image), image) for image in images]
        row = {key: float(np.mean([each[key] for each in rows])) for key in rows[0]} | of_phantoms(fuse)
        shares = "  ".join(f"{100 * row[key]:5.1f}%" for key in ("outside", "steps", "even", "unlike"))
        scores = "  ".join(f"{row[key]:.3f}" for key in QUALITIES)
        print(f"{name:18s} {scores}  {shares}  {row['lesion']:6.2f}", flush=True)


if __name__ == "__main__":
    main()
