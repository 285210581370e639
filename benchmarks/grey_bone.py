"""Bone that is lost of 8-bit pictures of a CT, by window: ``python -m benchmarks.grey_bone --data DIR``.

Slices of the T1 of SPM (`avg152T1.nii`) are fused with pictures of the CT of an average head (`scct.nii`) in windows
from narrow to wide, with its bone as it is and denser. Printed is for each window how many slices the warning of grey
bone is told of, and which part of the voxels above 300 HU keeps less than 0.7 of its brightness there and in the
others; then of how many CT pictures of the atlas it is told.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

import clinicalfmamba_nets as cfm
from benchmarks.windows import BONE, hounsfield
from clinicalfmamba_nets.functional.voi import HEAD_CURVE

WINDOWS = {
    "brain": (0, 80),
    "subdural": (-32.5, 182.5),
    "soft": (-150, 250),
    "100/300": (-50, 250),
    "250/500": (0, 500),
}
WINDOWS |= {"100/700": (-250, 450), "500/1000": (0, 1000), "200/1000": (-300, 700), "400/1800": (-500, 1300)}
WINDOWS |= {"bone": (-800, 2000)}
CURVES = {name: ((low, 0.0), (high, 1.0)) for name, (low, high) in WINDOWS.items()} | {"head": HEAD_CURVE}
DENSER, DENSE = (1.0, 1.6), 100.0  # factors of what lies above so many HU
LEAST_BONE, LOST, TOLD = 50, 0.7, "its bone is grey"


def fused(mr: np.ndarray, ct: np.ndarray) -> tuple[np.ndarray, bool]:
    """Fuse two 8-bit pictures; return the result, and whether grey bone is told of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = np.asarray(cfm.fuse(mr, ct, task="ct_mri"), float)
    return result, any(TOLD in str(item.message) for item in caught)


def slices_of(data: Path, every: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return slices of the MR as pictures, with the CT in HU."""
    hu = hounsfield(nibabel.load(data / "vol" / "clinical_mni2mm" / "scct.nii").get_fdata())
    mr = nibabel.load(data / "vol" / "spm_mni2mm" / "avg152T1.nii").get_fdata()
    pictures = (255 * mr / mr.max()).round().astype(np.uint8)
    pairs = [(pictures[:, :, place], hu[:, :, place]) for place in range(20, 76, every)]
    return [(picture, ct) for picture, ct in pairs if (ct > BONE).sum() >= LEAST_BONE]


def lost_in(curve: Sequence[tuple[float, float]], pairs: Sequence[tuple[np.ndarray, np.ndarray]], factor: float):
    """Return for each slice which part of its bone is lost, and whether it is told."""
    found = []
    for mr, hu in pairs:
        dense = np.where(hu > DENSE, DENSE + factor * (hu - DENSE), hu)
        ct = (255 * np.interp(dense, *zip(*curve, strict=True))).round().astype(np.uint8)
        result, told = fused(mr, ct)
        kept = (result / mr.max()) / np.maximum(ct / ct.max(), 1 / 255)  # the result has the values of the MR
        found.append((float((kept[dense > BONE] < LOST).mean()), told))
    return found


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" if values else "-"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with vol/ and aanlib/")
    parser.add_argument("--every", type=int, default=5, help="slices from one to the next")
    options = parser.parse_args()
    pairs, rows = slices_of(options.data, options.every), []
    print("| bone | window | told | lost, told | lost, not told |\n|---|---|---|---|---|")
    for factor in DENSER:
        for name, curve in CURVES.items():
            found = lost_in(curve, pairs, factor)
            rows += found
            parts = [_mean([lost for lost, told in found if told == wanted]) for wanted in (True, False)]
            told = sum(told for _, told in found)
            print(f"| x {factor:g} | {name} | {told} of {len(found)} | {' | '.join(parts)} |", flush=True)
    parts = [_mean([lost for lost, told in rows if told == wanted]) for wanted in (True, False)]
    print(f"| all | all | {sum(told for _, told in rows)} of {len(rows)} | {' | '.join(parts)} |")
    files = sorted((options.data / "aanlib" / "CT-MRI" / "CT").glob("*.png"))
    pictures = [
        (np.asarray(Image.open(file.parents[1] / "MRI" / file.name)), np.asarray(Image.open(file))) for file in files
    ]
    print(f"atlas: told of {sum(fused(mr, ct)[1] for mr, ct in pictures)} of {len(pictures)} CT pictures")


if __name__ == "__main__":
    main()
