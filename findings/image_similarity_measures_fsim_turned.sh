#!/usr/bin/env bash
# image-similarity-measures 0.3.6: its FSIM asks OpenCV for gradients in unsigned 16 bits, where each fall of brightness
# is 0, and squares them in 16 bits, where 256 x 256 is 0 again: an edge of an 8-bit picture from 0 to 16 (Scharr 256) has
# no gradient, one from 0 to 200 has 128 instead of 3200. FSIM (Zhang 2011) takes the magnitude of both. Which of two
# results is the better one then changes when all pictures are turned by 180 degrees, which FSIM does not know of.
# Seen: FSIM of a blurred and a noisy head 0.618 and 0.555, all turned by 180 degrees 0.623 and 0.650; with gradients in
# floating point 0.460 and 0.563 both times: the blurred one wins where it should lose.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    image-similarity-measures==0.3.6 opencv-python==4.11.0.86 phasepack==1.5 numpy==1.26.4 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import cv2
import numpy as np
from image_similarity_measures import quality_metrics

y, x = np.mgrid[:128, :128]
radius = np.hypot((x - 63.5) / 50, (y - 63.5) / 58)
brain = 90 + 30 * np.cos(x / 9) * np.cos(y / 7)
head = np.select([radius < 0.88, radius < 1], [brain, 200], 0).astype(np.uint8)
head[60:75, 80:95] = 160
noise = (np.arange(head.size) * 2654435761 % 2**32 / 2**32 * 20 - 10).reshape(head.shape)
blurred, noisy = cv2.GaussianBlur(head, (0, 0), 2), np.clip(head + noise, 0, 255).astype(np.uint8)


def scores():
    def fsim(one, other):
        return round(float(quality_metrics.fsim(one[..., None], other[..., None])), 3)

    def turned(image):
        return np.ascontiguousarray(image[::-1, ::-1])

    return [(fsim(head, i), fsim(turned(head), turned(i))) for i in (blurred, noisy)]


def in_floating_point(image, depth):
    across, down = (cv2.Scharr(image.astype(float), cv2.CV_64F, *order) for order in ((1, 0), (0, 1)))
    return np.hypot(across, down)


gradient = quality_metrics._gradient_magnitude
steps = {}
for rise in (16, 200):
    edge = np.zeros((8, 8), np.uint8)
    edge[:, 4:] = rise
    steps[rise] = tuple(float(gradient(i, cv2.CV_16U).max()) for i in (edge, edge[:, ::-1].copy()))
print("gradient of a step up and down, which is 16 times its height:", steps)
seen = scores()
quality_metrics._gradient_magnitude = in_floating_point
right = scores()
print("FSIM (as it lies, turned by 180 degrees) of the blurred and the noisy head:", seen, "in floating point:", right)
told = [(0.618, 0.623), (0.555, 0.650)], [(0.460, 0.460), (0.563, 0.563)]
sys.exit(not (steps == {16: (0, 0), 200: (128, 0)} and np.allclose([seen, right], told, atol=0.002)))
PY
