#!/usr/bin/env bash
# MONAI 1.6.1: GlobalMutualInformationLoss with its default kernel (gaussian) takes every value below 0 for 0 and above 1
# for 1 without a word. Mutual information has no unit, so a CT in HU and an MR in its scanner's numbers look like valid
# input; they become two masks, and the gradient is 0 in every voxel: a registration stands still. The other
# kernel of the same class (b-spline) scales to the range of the images and gives the same value in HU and in [0, 1]. The
# class's documentation does not tell the range; ITK's and skimage's mutual information have none.
# Seen, CT of a head with its MR: gaussian -0.019 in HU, no voxel with a gradient; -0.667 scaled to [0, 1], 61 % of them
# with one; b-spline -0.676 both ways.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 monai==1.6.1 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from monai.losses import GlobalMutualInformationLoss

torch.manual_seed(0)
z, y, x = torch.meshgrid(*[torch.arange(32.0) - 15.5] * 3, indexing="ij")
radius = (x**2 + y**2 + z**2).sqrt()
ct = torch.where(radius < 10, 35.0, torch.where(radius < 12, 900.0, -1000.0)) + 4 * torch.randn(radius.shape)
mr = torch.where(radius < 10, 600.0, torch.where(radius < 12, 80.0, 0.0)) + 8 * torch.randn(radius.shape).abs()


def measured(kernel, moving, fixed):
    moving = moving[None, None].clone().requires_grad_(True)
    value = GlobalMutualInformationLoss(kernel_type=kernel)(moving, fixed[None, None])
    value.backward()
    return round(value.item(), 3), round((moving.grad != 0).float().mean().item(), 2)


seen = {}
for kernel in ("gaussian", "b-spline"):
    for name, image, fixed in (("HU", ct, mr), ("[0, 1]", (ct + 1000) / 2000, mr / 700)):
        seen[kernel, name] = measured(kernel, image, fixed)
        print(kernel, name, "loss %.3f, share of voxels with a gradient %.2f" % seen[kernel, name])
value, share = seen["gaussian", "HU"]
alike = abs(seen["b-spline", "HU"][0] - seen["b-spline", "[0, 1]"][0]) < 0.002
sys.exit(share != 0 or value < -0.1 or seen["gaussian", "[0, 1]"][1] < 0.5 or not alike)
PY
