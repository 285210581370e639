#!/usr/bin/env bash
# pydicom 3.0.2: apply_color_lut(..., palette="FALL") paints DICOM's WINTER palette (blue to green) and "WINTER" paints
# FALL (yellow to red), while the palettes' UIDs and the other names are right. A PET drawn by the name FALL shows its
# hottest voxels in green. Take the palettes of DICOM PS3.6 Annex B by UID: Fall 1.2.840.10008.1.5.7, Winter ...5.8.
# Seen: name FALL [0, 0, 255] .. [127, 255, 128], UID of Fall [255, 255, 0] .. [255, 0, 0].
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut

UIDS = {"FALL": "1.2.840.10008.1.5.7", "WINTER": "1.2.840.10008.1.5.8", "SPRING": "1.2.840.10008.1.5.5"}
ramp = np.arange(256, dtype=np.uint8)
paint = {key: apply_color_lut(ramp, palette=key) for pair in UIDS.items() for key in pair}
for name, uid in UIDS.items():
    print(pydicom.__version__, name, paint[name][[0, 255]].tolist(), pydicom.uid.UID(uid).name, paint[uid][[0, 255]].tolist())
exchanged = (paint["FALL"] == paint[UIDS["WINTER"]]).all() and (paint["WINTER"] == paint[UIDS["FALL"]]).all()
kept = (paint["SPRING"] == paint[UIDS["SPRING"]]).all()
sys.exit(not (exchanged and kept and not (paint["FALL"] == paint[UIDS["FALL"]]).all()))
PY
