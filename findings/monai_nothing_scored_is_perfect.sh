#!/usr/bin/env bash
# MONAI 1.6.1: where no image of a test set has a structure (no low-grade glioma of it enhances, and none was predicted
# to), each image's score is NaN, as it should be, but the mean over none of them is 0: the best Hausdorff distance there
# is, 0 mm, and the worst Dice. The per-class table of one evaluation then shows one and the same absent structure
# as found without any error and as missed altogether. Look at how many images were counted (get_not_nans=True).
# Seen: three patients with a core and no enhancing part: Hausdorff [1.0, 0.0] mm, average surface distance [0.35, 0.0],
# Dice [0.8, 0.0], images counted [3, 0].
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 monai==1.6.1 numpy==2.2.6 scipy==1.16.3 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric, SurfaceDistanceMetric

truth, found = torch.zeros(2, 3, 3, 16, 16, 16)  # patients, then background, core, enhancing
truth[:, 1, 4:9, 4:9, 4:9] = found[:, 1, 4:9, 4:9, 5:10] = 1
for masks in (truth, found):
    masks[:, 0] = 1 - masks[:, 1]
options = {"include_background": False, "reduction": "mean_batch", "get_not_nans": True}
seen = {}
for metric in (HausdorffDistanceMetric(**options), SurfaceDistanceMetric(**options), DiceMetric(**options)):
    each = metric(found, truth)
    means, counted = metric.aggregate()
    name = type(metric).__name__
    seen[name] = means.tolist()
    print(name, "of patients", each[:, 1].tolist(), "mean of core, enhancing", means.tolist(), "counted", counted.tolist())
    if not each[:, 1].isnan().all() or counted.tolist() != [3, 0]:
        sys.exit(1)
sys.exit(any(means[1] != 0.0 for means in seen.values()) or seen["HausdorffDistanceMetric"][0] != 1.0)
PY
