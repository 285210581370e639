"""Contrast that lesions of one image alone keep in the fused one: ``python -m benchmarks.lesions --data DIR``.

Into every fifth test pair (`case3`, run 1), of T2-FLAIR into four slices of each test volume of `fusion_3d`, round
lesions of 5, 8 and 12 pixels radius are put, one at a time, at places drawn at random where both images show the head
and no bone. One image is made darker or brighter there by a share of
the range, the other one stays. What is kept is by how much the lesion's mean comes out of its surround in the fused
image, with the lesion less without it, as a share of the same in its source: 1 for a source itself, 0 where it is lost.
Printed are the mean, the median, the least, and how many lesions keep 0.7 or more.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.data import aanlib_datalist, load_datalist
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.engine.run.workflows import find_bundle
from clinicalfmamba_nets.errors import FusionWarning

RADII, EVERY, SEED = (5, 8, 12), 5, 0
KINDS = {
    "second image, darker by .2": (1, -0.2),
    "second image, darker by .1": (1, -0.1),
    "second image, brighter by .2": (1, 0.2),
    "first image, darker by .2": (0, -0.2),
    "first image, brighter by .2": (0, 0.2),
}
Fuse = Callable[[Tensor], Tensor]


def distances(shape: torch.Size, place: tuple[int, int]) -> Tensor:
    """Pixels from a place, (H, W)."""
    rows, columns = (torch.arange(size, dtype=torch.float32) for size in shape)
    return torch.hypot(rows[:, None] - place[0], columns[None] - place[1])


def place_for(image: Tensor, radius: int) -> tuple[int, int] | None:
    """Draw a place in a pair (1, 2, H, W) around which both images show the head and the second one no bone."""
    head = ((image[0, 0] > 0.12) & (image[0, 1] > 0.15) & (image[0, 1] < 0.8)).float()[None, None]
    reach = int(1.6 * radius)
    places = torch.nonzero(F.avg_pool2d(head, 2 * reach + 1, 1, reach)[0, 0] > 0.93)
    if not len(places):
        return None
    drawn = torch.randint(len(places), (1,), generator=torch.Generator().manual_seed(SEED)).item()
    return int(places[int(drawn), 0]), int(places[int(drawn), 1])


def kept(fuse: Fuse, image: Tensor, radius: int, source: int, height: float) -> float | None:
    """Return the share of a lesion's contrast that the fused image keeps; None where there is no place for one."""
    place = place_for(image, radius)
    if place is None:
        return None
    apart = distances(image.shape[2:], place)
    changed = image.clone()
    changed[0, source] = (changed[0, source] + height * (radius + 0.5 - apart).clamp(0, 1)).clamp(0, 1)
    inside, around = apart < radius - 1, (apart > radius + 2) & (apart < 1.6 * radius)
    pairs = ((fuse(changed), fuse(image)), (changed[0, source], image[0, source]))
    shown, there = (sum(sign * (x[inside].mean() - x[around].mean()) for sign, x in zip((1, -1), pair, strict=True))
                    for pair in pairs)  # fmt: skip
    return float(shown / there)


def slices_of_volumes(pipeline: FusionPipeline, data: str, task: str) -> Iterator[Tensor]:
    """Give four axial slices from the middle of each test volume, (1, 2, X, Y) in [0, 1]."""
    names = find_bundle("fusion_3d") / "datalists" / f"{task}.json"
    for entry in load_datalist(names, "testing", data):
        volume = torch.as_tensor(pipeline.preprocessing(dict(entry))["image"]).float()
        for place in np.linspace(0.35, 0.65, 4) * volume.shape[3]:
            yield volume[None, ..., int(place)].contiguous()


def every_fifth(pipeline: FusionPipeline, data: str, task: str) -> Iterator[Tensor]:
    """Give every fifth test pair, (1, 2, H, W) in [0, 1]."""
    for entry in aanlib_datalist(data, task, "case3", "run1", "testing")[::EVERY]:
        yield torch.as_tensor(pipeline.preprocessing(dict(entry))["image"])[None].float()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="ct_mri", help="ct_mri (default), spect_mri, pet_mri, t2_flair")
    parser.add_argument(
        "--data", default="aanlib", help="folder with CT-MRI/ and so on, or of the volumes (default: aanlib)"
    )
    parser.add_argument("--weights", help="weights instead of the shipped ones")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FusionWarning)
    given = {"ckpt_path": arguments.weights} if arguments.weights else {}
    print(f"{arguments.task:30s} {'':12s} lesions  mean  median  least  0.7 or more")
    for name, refine in (("network alone", False), ("refined", True)):
        pipeline = FusionPipeline(arguments.task, "cpu", settings={"refine": refine, **given})

        def fuse(image: Tensor, pipeline: FusionPipeline = pipeline) -> Tensor:
            with torch.inference_mode():
                return torch.as_tensor(pipeline.inferer(image, pipeline.network))[0, 0]

        drawn = slices_of_volumes if arguments.task == "t2_flair" else every_fifth
        images = list(drawn(pipeline, arguments.data, arguments.task))
        for kind, (source, height) in KINDS.items():
            found = [kept(fuse, image, radius, source, height) for image in images for radius in RADII]
            shares = np.array([share for share in found if share is not None])
            numbers = (
                f"{shares.mean():6.2f}  {np.median(shares):6.2f} {shares.min():6.2f}  {np.mean(shares >= 0.7):6.2f}"
            )
            print(f"{kind:30s} {name:14s} {len(shares):5d} {numbers}", flush=True)


if __name__ == "__main__":
    main()
