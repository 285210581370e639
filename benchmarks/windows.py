"""Bone that the fused image keeps in each window of a CT in HU: ``python -m benchmarks.windows [--data DIR]``.

Without data the phantom study is fused; with it the T1 of SPM (`avg152T1.nii`) with the CT of an average head
(`scct.nii`, whose numbers are brought back to HU: it stretches -100 to 100 HU elevenfold). Printed is, over the voxels
above 300 HU, how bright they are in the CT as its window shows it, how much of that the fused image keeps (mean), and
which part of them keeps less than 0.7. With `--picture FILE` the middle axial slice is drawn: MR, CT, fused; a row for
each window.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image

from clinicalfmamba_nets.data import write_phantom_study
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.errors import FusionWarning

WINDOWS = ("brain", "head", "bone", "0/1000")
BONE, WIDE = 300.0, 4000.0


def hounsfield(values: np.ndarray) -> np.ndarray:
    """Bring the numbers of `scct.nii` to HU.

    Example:
        >>> hounsfield(np.array([0.0, 2000.0, 3400.0])).tolist()
        [-1000.0, 0.0, 400.0]
    """
    return np.where(values < 900, values - 1000, np.where(values < 3100, (values - 900) / 11 - 100, values - 3000))


def pair_of(data: str, folder: Path) -> dict[str, str]:
    """Write the CT, or the study, into a folder; return the paths of the pair."""
    if not data:
        write_phantom_study(folder / "study")
        return {"image": f"{folder}/study::MR", "image2": f"{folder}/study::CT"}
    source = nibabel.load(Path(data, "clinical_mni2mm", "scct.nii"))
    ct = nibabel.Nifti1Image(hounsfield(source.get_fdata()).astype(np.int16), source.affine)
    nibabel.save(ct, folder / "ct.nii.gz")
    return {"image": os.path.join(data, "spm_mni2mm", "avg152T1.nii"), "image2": str(folder / "ct.nii.gz")}


def fused_in(window: str, pair: dict[str, str], bundle: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pair (2, X, Y, Z) as it is shown, and the fused volume (X, Y, Z)."""
    pipeline = FusionPipeline("ct_mri", bundle=bundle, settings={"window_b": window})
    with torch.no_grad():
        image = pipeline.preprocessing(dict(pair))["image"]
        return image.as_tensor(), pipeline.inferer(image[None], pipeline.network)[0, 0].as_tensor()


def main() -> None:
    """Print a table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folder of volumes, as shared/data/vol")
    parser.add_argument("--bundle", default="fusion_2d")
    parser.add_argument("--picture", type=Path, help="a PNG file")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FusionWarning)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        pair = pair_of(options.data, Path(folder))
        wide = FusionPipeline("ct_mri", settings={"window_b": f"0/{WIDE:g}"}).preprocessing(dict(pair))["image"]
        bone = (wide.as_tensor()[1] - 0.5) * WIDE > BONE
        print(f"| window | CT there | kept of it | part below .7 | voxels above {BONE:g} HU |\n|---|---|---|---|---|")
        for window in WINDOWS:
            image, fused = fused_in(window, pair, options.bundle)
            kept = fused[bone] / image[1][bone]
            lost = (kept < 0.7).double().mean()
            print(f"| {window} | {image[1][bone].mean():.3f} | {kept.mean():.3f} | {lost:.4f} | {int(bone.sum())} |")
            rows.append(torch.cat([volume[..., volume.shape[2] // 2].T.flip(0) for volume in (*image, fused)], 1))
    if options.picture:
        Image.fromarray((torch.cat(rows).clamp(0, 1) * 255).byte().numpy()).save(options.picture)


if __name__ == "__main__":
    main()
