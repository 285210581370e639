#!/usr/bin/env bash
# MONAI 1.6.1: the local cross-correlation loss of a registration with kernel_type="triangular" and the default kernel_size
# of 3 is 0 for every pair of images, and so is its gradient: the triangle of 3 voxels is [0, 1, 0], a window of a single
# voxel, in which nothing varies. A registration trained on it moves by its smoothness term alone. The loss of an image
# with itself is 0, "no correlation", where -1 is perfect. Of sizes 7 and 11 both ends are 0 as well: they are 5 and 9.
# Rectangular windows, and triangular ones of 5 voxels, are as they should be.
# Seen: triangular, size 3: loss 0 with itself and with its shifted copy, greatest gradient 0; size 5: -1 with itself.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 monai==1.6.1 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss

torch.manual_seed(0)
head = torch.nn.functional.avg_pool3d(torch.rand(1, 1, 28, 28, 28), 5, 1)
moved = head.roll(2, 2)
seen = {}
for kind, size in (("triangular", 3), ("triangular", 5), ("triangular", 7), ("rectangular", 3)):
    loss = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=size, kernel_type=kind)
    image = moved.clone().requires_grad_(True)
    value = loss(image, head)
    value.backward()
    own, slope = loss(head, head).item(), image.grad.abs().max().item()
    seen[kind, size] = (own, value.item(), slope)
    window = [round(weight, 3) for weight in loss.kernel.flatten().tolist()]
    print(kind, size, "window", window, "with itself %.3f, moved %.3f, greatest gradient %.2g" % seen[kind, size])
nothing, *others = seen.values()
sys.exit(any(nothing) or not all(own < -0.99 and slope > 0 for own, _, slope in others))
PY
