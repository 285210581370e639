#!/usr/bin/env bash
# MONAI 1.6.1: the same Compose gives another image with lazy=True where it pads. (1) Voxels that a crop took away come back when
# a later transform pads: both become one change of the grid, which is filled from the whole original. A crop that
# takes off a face, so that nobody is recognized, or the scanner's table, is undone. (2) SpatialPad(value=-1000), the air
# of a CT, pads with 0 HU, which is water; behind a Rotate that repeats the border it pads with the border too,
# and the head goes on to the edge. Shapes and affines are right and nothing is said. Leave Compose's lazy at None,
# set lazy=True in single transforms, and pad without it.
# Seen, a head of 40 HU, 512 voxels: crop to 64 voxels, then pad: 64 of 40 HU, others -1000; lazy: 512 of 40, others 0.
# Rotate, then pad: corner -1000, lazy 40. Crop alone lazy, pad not: 64 and -1000.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 monai==1.6.1 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Rotate, SpatialCrop, SpatialPad

head = MetaTensor(torch.full((1, 8, 8, 8), 40.0), affine=torch.eye(4))
corners = {"roi_start": (2, 2, 2), "roi_end": (6, 6, 6)}
pad = SpatialPad((12, 12, 12), value=-1000)
chains = {
    "crop, pad": (SpatialCrop(**corners), pad),
    "pad": (pad,),
    "rotate, pad": (Rotate(angle=(0.3, 0, 0), padding_mode="border"), pad),
    "crop (lazy=True), pad (lazy=False)": (SpatialCrop(**corners, lazy=True), pad),
}
seen = []
for name, steps in chains.items():
    for lazy in (None,) if "lazy" in name else (False, True):
        result = Compose(steps, lazy=lazy)(head.clone())
        assert tuple(result.shape) == (1, 12, 12, 12)
        seen.append((int((result == 40).sum()), float(result[0, 0, 0, 0])))
        print(f"{name}, Compose(lazy={lazy}): {seen[-1][0]} voxels of 40 HU, corner {seen[-1][1]:.0f} HU")
air, water = -1000.0, 0.0
expected = [(64, air), (512, water), (512, air), (512, water), (448, air), (1728, 40.0), (64, air)]
sys.exit(seen != expected)
PY
