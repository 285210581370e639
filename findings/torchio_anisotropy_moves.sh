#!/usr/bin/env bash
# TorchIO 1.2.1: RandomAnisotropy makes an image look as if its slices had been thick: it takes the nearest of the thin
# slices for each thick one and interpolates back. The center of a thick slice of 2, 3, 4 or 6 thin ones often lies half
# way between two of them, and it is always the same neighbor that is taken: the whole image moves by half a slice, with
# the affine it had. Labels, and the other image of a pair, stay where they were, so that what is meant to teach a network
# other resolutions teaches it a misregistration to one side. Factors of 1.5, 2.5 and 5 move nothing here.
# Seen: shift of 40 slices, in slices: 0.5 for factors 2, 3, 4 and 6; 0 for 1.5, 2.5 and 5.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchio==1.2.1 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import numpy as np
import torch
import torchio

ramp = torch.arange(40.0).expand(1, 8, 8, 40).clone()  # each voxel holds the number of its slice
image = torchio.ScalarImage(tensor=ramp, affine=np.diag([1.0, 1, 2, 1]))
seen = {}
for factor in (1.5, 2, 2.5, 3, 4, 5, 6):
    made = torchio.RandomAnisotropy(axes=(2,), downsampling=(factor, factor))(image)
    assert np.allclose(made.affine, image.affine)
    moved = (made.data - ramp)[0, 4, 4, 8:32]
    seen[factor] = (round(float(moved.mean()), 2), round(float(moved.std()), 1))
print("shift in slices (mean, spread) by factor:", seen)
sys.exit(not all(abs(seen[f][0] - (f in (2, 3, 4, 6)) / 2) < 0.02 for f in seen))
PY
