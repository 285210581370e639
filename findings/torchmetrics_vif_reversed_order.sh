#!/usr/bin/env bash
# torchmetrics 1.9.0: visual_information_fidelity adds the variance of the eye's noise, 2, which Sheikh and Bovik state for
# gray values from 0 to 255, to images of any range, and has no data_range to tell it; other metrics of the package take
# images from 0 to 1, and its own example normal deviates. From 0 to 1 the noise is 65025 times too strong: information
# that is lost counts for nothing and contrast for all. Of three results the ORDER is turned over, in silence.
# Seen: VIF from 0 to 255 (the published one) of a head at half contrast 0.76, blurred 0.50, noisy 0.48;
# the same images from 0 to 1: 0.25, 0.52 and 0.96. With sigma_n_sq=2 / 255**2 they are 0.76, 0.50 and 0.48 again.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from torchmetrics.functional.image import visual_information_fidelity as vif

y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
radius = torch.hypot((x - 63.5) / 50, (y - 63.5) / 58)
brain = 0.4 + 0.15 * torch.cos(x / 9) * torch.cos(y / 7)
head = torch.where(radius < 0.88, brain, torch.where(radius < 1, 0.8, 0.0))[None, None]
spread = torch.from_numpy((torch.arange(head.numel()).numpy() * 2654435761 % 2**32) / 2**32 - 0.5).float()
results = {
    "half contrast": head / 2,
    "blurred": torch.nn.functional.avg_pool2d(head, 5, 1, 2),
    "noisy": (head + 0.17 * spread.reshape(head.shape)).clamp(0, 1),
}
seen = {}
for name, image in results.items():
    both = vif(image * 255, head * 255), vif(image, head), vif(image, head, sigma_n_sq=2 / 255**2)
    seen[name] = tuple(round(float(value), 2) for value in both)
print("VIF from 0 to 255, from 0 to 1, from 0 to 1 with sigma_n_sq=2 / 255**2:", seen)
published, unit, scaled = zip(*seen.values(), strict=True)
right = sorted(published, reverse=True) == list(published) and all(abs(a - b) < 0.02 for a, b in zip(published, scaled))
sys.exit(not (right and sorted(unit) == list(unit) and unit[2] - unit[0] > 0.5))
PY
