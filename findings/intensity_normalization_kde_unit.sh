#!/usr/bin/env bash
# intensity-normalization 3.0.1: KDENormalizer divides an MR by the mode of its white matter, found in a smoothed
# histogram. It asks SciPy's gaussian_kde for a bandwidth of max / 80, but a number there is a FACTOR on the standard
# deviation, not a width: the smoothing grows with the square of the unit. Stored from 0 to 1 a head has its white matter
# at 1.0; the same head stored from 0 to 116, or to 1160 as scanners do, is smoothed over 1.5 or 15 standard deviations,
# which leaves one bump near the mean of the whole brain, and white matter comes out at 1.3 or more, in silence. Two
# scanners with other units are no longer alike, which is what the method is for. WhiteStripe of the same package is right.
# Seen: white matter (110 of 116) after KDENormalizer: 0.98 at most 1, 1.35 at most 116, 1.31 at most 1160.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    intensity-normalization==3.0.1 nibabel==5.4.2 scipy==1.17.1 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import numpy as np
from intensity_normalization.adapters.images import create_image
from intensity_normalization.normalizers.individual.kde import KDENormalizer
from intensity_normalization.normalizers.individual.whitestripe import WhiteStripeNormalizer

z, y, x = np.mgrid[:32, :48, :40]
radius = np.sqrt(((x - 19.5) / 18) ** 2 + ((y - 23.5) / 22) ** 2 + ((z - 15.5) / 14) ** 2)
t1 = np.select([radius < 0.3, radius < 0.75, radius < 1], [30.0, 110.0, 70.0], 0.0)  # CSF, white, grey, air
spread = np.arange(t1.size) * 2654435761 % 2**32 / 2**32 - 0.5
t1 = np.where(t1 > 0, t1 + 12 * spread.reshape(t1.shape), 0)
white = (radius > 0.35) & (radius < 0.7)
seen = {}
for most in (1, 116, 1160):
    image = create_image(t1 / 116 * most)
    kde, stripe = KDENormalizer().fit(image), WhiteStripeNormalizer().fit(image)
    seen[most] = (
        round(float(kde.transform(image).get_data()[white].mean()), 2),
        round(float(stripe.mean / most * 116)),
    )
print("by the greatest value of the file: white matter after KDE (it should be 1), mean of WhiteStripe:", seen)
sys.exit(not (seen[1] == (0.98, 109) and all(seen[most][0] > 1.25 and seen[most][1] == 109 for most in (116, 1160))))
PY
