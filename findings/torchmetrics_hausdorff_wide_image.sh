#!/usr/bin/env bash
# torchmetrics 1.9.0: the Hausdorff distance of images that are wider than high is wrong in silence: its distance transform
# writes the distances into rows as long as the image is high. A structure has 10 pixels to ITSELF in an image of 24 x 28,
# where perfect is 0, and moving it by 3 pixels makes it 11. Square images, which tests and examples have, are right;
# those that are higher than wide raise an IndexError.
# distance_transform(engine="scipy") of the same module is right, but HausdorffDistance has no such argument. Pad to a
# square, or take MONAI's.
# Seen, with itself and moved by 3: 28 x 28: 0, 3; 24 x 28: 10, 11; with spacing [2, 1] mm 10, 12.8 (MONAI 1.6.1: 0, 3 and
# 0, 6).
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 torchmetrics==1.9.0 monai==1.6.1 scipy==1.16.3 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from monai.metrics import compute_hausdorff_distance
from torchmetrics.segmentation import HausdorffDistance

seen = []
for shape in ((28, 28), (24, 28)):
    truth = torch.zeros(1, 1, *shape, dtype=torch.int64)
    truth[:, :, 6:12, 7:14] = 1
    for spacing in (None, [2.0, 1.0]):
        metric = HausdorffDistance(num_classes=1, include_background=True, spacing=spacing)
        for name, found in (("with itself", truth), ("moved by 3", truth.roll(3, 2))):
            theirs = round(float(metric(found, truth)), 1)
            other = float(compute_hausdorff_distance(found, truth, include_background=True, spacing=spacing))
            seen.append((theirs, other))
            print(shape, "spacing", spacing, name, "torchmetrics", theirs, "MONAI", other)
right = [(0.0, 0.0), (3.0, 3.0), (0.0, 0.0), (6.0, 6.0)]
sys.exit(seen != right + [(10.0, 0.0), (11.0, 3.0), (10.0, 0.0), (12.8, 6.0)])
PY
