"""Contrast to noise that lesions keep beside a CT's noise: ``python -m benchmarks.noise``.

Computed heads of 256 x 256 pixels: an MR with noise of 2 % of the range, and a CT in HU in the brain window with noise
of 8 HU (`--noise`), alike over neighboring pixels as a soft kernel makes it (`--kernel` its sigma). The levels of the
brain are drawn, with and without texture in turns. Bleeding, infarct and calcification are in the CT alone, a bright
and a dark lesion in the MR alone. Contrast to noise is a lesion's mean less that of its surround, over the standard
deviation of the surround; printed is what the fused image has of that of the lesion's own image as it is shown: mean,
least, and how many keep 0.8 or more; `known` where the CT is known to be one in HU, as files of scanners are.

With `--data DIR`, a folder of volumes, the T1 of SPM is fused with the CT of an average head, with and without that
noise. Printed is the standard deviation of what the noise changes in brain, eroded by two voxels, as a share of the
same in the CT. With `--picture FILE` a slice is drawn: MR, CT, fused by noise not known, fused.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from benchmarks.windows import pair_of
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline

SIZE, WIDTH, MR_NOISE = 256, 80.0, 0.02  # pixels; HU of the brain window; of the range
PLACES = {  # column, row and radius in halves of the picture; how the MR or the CT (HU) changes there
    "bleeding of 70 HU": (0.35, -0.30, 0.10, 1, 70.0),
    "infarct of 24 HU": (0.05, -0.60, 0.08, 1, 24.0),
    "calcification of 200 HU": (-0.35, -0.35, 0.02, 1, 200.0),
    "MR brighter by .2": (-0.38, 0.20, 0.08, 0, 0.2),
    "MR darker by .2": (0.38, 0.25, 0.08, 0, -0.2),
}
Mask = NDArray[np.bool_]


def head(seed: int, noise: float, kernel: float) -> tuple[torch.Tensor, dict[str, Mask], Mask]:
    """Draw a head: the pair (2, H, W) in [0, 1], the lesions, and the brain."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    radius = np.hypot(x / 0.72, y / 0.88)
    brain, skull = radius < 0.87, (radius < 0.95) & (radius >= 0.87)
    texture = np.sin(9 * x) * np.cos(7 * y) * (seed % 2)
    mr, ct = np.where(radius < 1, 0.75, 0.0), np.where(radius < 1, 30.0, -1000.0)
    mr[skull], ct[skull] = 0.08, 1100
    mr[brain], ct[brain] = (
        (draw.uniform(0.35, 0.7) + 0.08 * texture)[brain],
        (draw.uniform(33, 38) + 2 * texture)[brain],
    )
    fluid = np.hypot(x / 0.1, y / 0.3) < 1
    mr[fluid], ct[fluid] = draw.choice([0.2, 0.9]), 6
    lesions = {}
    for name, (column, row, size, source, value) in PLACES.items():
        lesions[name] = np.hypot(x - column, y - row) < size
        if source:
            ct[lesions[name]] = value
        else:
            mr[lesions[name]] += value
    grain = gaussian_filter(draw.standard_normal((SIZE, SIZE)), kernel)
    ct = gaussian_filter(ct, 0.6) + noise * grain / grain.std()
    echoes = [gaussian_filter(part, 0.6) + MR_NOISE * draw.standard_normal(part.shape) for part in (mr, 0 * mr)]
    pair = np.stack([np.hypot(*echoes), ct / WIDTH]).clip(0, 1)
    return torch.from_numpy(pair).float(), lesions, brain


def contrast_to_noise(image: NDArray[np.floating], name: str, lesions: dict[str, Mask], brain: Mask) -> float:
    """Return the contrast of a lesion over the noise of its surround."""
    lesion = lesions[name]
    inside = binary_erosion(lesion, iterations=2) if lesion.sum() > 60 else lesion
    near, others = binary_dilation(lesion, iterations=3), np.logical_or.reduce([lesions[key] for key in lesions])
    around = binary_dilation(lesion, iterations=9) & brain & ~near & ~binary_dilation(others & ~lesion, iterations=3)
    return float((image[inside].mean() - image[around].mean()) / image[around].std())


def results(heads: int, noise: float, kernel: float) -> Iterator[tuple[str, str, float]]:
    """Give how a head was fused, the lesion, and the share of its contrast to noise that is kept."""
    ways = {"network alone": (False, True), "refined": (True, False), "refined, known": (True, True)}
    for way, (refine, known) in ways.items():
        pipeline = FusionPipeline("ct_mri", "cpu", settings={"refine": refine})
        meta = {"tissue_levels": torch.tensor([[[0.0, 1.0], [0.5, 1.0]]])} if known else {}
        for seed in range(heads):
            pair, lesions, brain = head(seed, noise, kernel)
            with torch.inference_mode():
                fused = torch.as_tensor(pipeline.inferer(MetaTensor(pair[None], meta=meta), pipeline.network))[0, 0]
            for name, (*_, source, _) in PLACES.items():
                images = (fused.numpy(), pair[source].numpy())
                shown, there = (contrast_to_noise(image, name, lesions, brain) for image in images)
                yield way, name, shown / there


def grains(data: str, noise: float, kernel: float, picture: Path | None) -> Iterator[tuple[str, float]]:
    """Give how templates were fused, and how much of the CT's noise their brain shows."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        pair = pair_of(data, Path(folder))
        image = FusionPipeline("ct_mri", "cpu").preprocessing(dict(pair))["image"]
    clean = image.as_tensor()
    grain = gaussian_filter(draw.standard_normal(clean.shape[1:]), (kernel, kernel, 0))
    ct = (clean[1] + torch.from_numpy(noise / WIDTH * grain / grain.std()).float()).clamp(0, 1)
    ct = torch.where((clean[1] > 0) & (clean[1] < 1), ct, clean[1])  # the window shows none of bone and air
    noisy = torch.stack([clean[0], ct])
    brain = torch.from_numpy(binary_erosion(((clean[1] > 0.3) & (clean[1] < 0.6)).numpy(), iterations=2))
    there, row = (noisy - clean)[1][brain].std(), [*noisy]
    pipeline = FusionPipeline("ct_mri", "cpu")
    for way, known in (("refined", False), ("refined, known", True)):
        meta = {"tissue_levels": image.meta["tissue_levels"][None]} if known else {}
        with torch.inference_mode():
            pairs = (MetaTensor(x[None], affine=image.affine, meta=meta) for x in (noisy, clean))
            shown, without = (torch.as_tensor(pipeline.inferer(x, pipeline.network))[0, 0] for x in pairs)
        row.append(shown)
        yield way, float((shown - without)[brain].std() / there)
    if picture is not None:
        drawn = torch.cat([volume[..., volume.shape[2] // 2].T.flip(0) for volume in row], 1)
        Image.fromarray((drawn * 255).byte().numpy()).save(picture)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--noise", type=float, default=8.0, help="of the CT in HU (default: %(default)s)")
    parser.add_argument("--kernel", type=float, default=0.8, help="pixels, 0 for white noise (default: %(default)s)")
    parser.add_argument("--data", default="", help="folder of volumes, as shared/data/vol")
    parser.add_argument("--picture", type=Path, help="a PNG file, of --data")
    options = parser.parse_args()
    if options.data:
        print("| fused by | of the CT's noise |\n|---|---|")
        for way, share in grains(options.data, options.noise, options.kernel, options.picture):
            print(f"| {way} | {share:.2f} |")
        return
    found: dict[tuple[str, str], list[float]] = {}
    for way, name, share in results(options.heads, options.noise, options.kernel):
        found.setdefault((name, way), []).append(share)
    print("| lesion | fused by | mean | least | .8 or more |\n|---|---|---|---|---|")
    for name in PLACES:
        for way in ("network alone", "refined", "refined, known"):
            shares = np.array(found[name, way])
            print(f"| {name} | {way} | {shares.mean():.2f} | {shares.min():.2f} | {np.mean(shares >= 0.8):.2f} |")


if __name__ == "__main__":
    main()
