#!/usr/bin/env bash
# torchmetrics 1.9.0: the universal image quality index of an image with ITSELF is 1 only where no window is flat. A window
# of one value (the black around every head) counts 0 instead of 1, so the number measures how much of the picture is
# background: the same head in a wider field scores less, and the best possible fusion stays below 0.2. It also changes
# with the unit (0 to 1 or 0 to 255), though the index has none. sewar 0.4.10 gives 1 for each. Crop to the head,
# and never lay the UQI of two programs or two fields of view side by side.
# Seen: a disk of 80 pixels in a field of 56, 96, 128, 192: 1.0, 0.869, 0.473, 0.199 in 0 to 255; 1.0, 0.799, 0.426, 0.179 in 0 to 1.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 torchmetrics==1.9.0 sewar==0.4.10 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import numpy as np
import sewar
import torch
from torchmetrics.functional.image import universal_image_quality_index

SIDES = (56, 96, 128, 192)


def head(side):
    y, x = np.mgrid[:side, :side] - side / 2
    return np.where(np.hypot(x, y) < 40, 120 + 60 * np.sin(x / 3) * np.cos(y / 4), 0).astype(np.float32)


seen = {}
for side in SIDES:
    for unit in (1, 255):
        image = head(side) / np.float32(unit)
        batch = torch.from_numpy(image)[None, None]
        by_torchmetrics = universal_image_quality_index(batch, batch).item()
        seen[side, unit] = (round(by_torchmetrics, 3), round(float(sewar.uqi(image, image)), 3))
        print("field", side, "divided by", unit, "torchmetrics", seen[side, unit][0], "sewar", seen[side, unit][1])
expected = {1: [1.0, 0.869, 0.473, 0.199], 255: [1.0, 0.799, 0.426, 0.179]}
sys.exit(any(seen[side, unit] != (expected[unit][place], 1.0) for place, side in enumerate(SIDES) for unit in (1, 255)))
PY
