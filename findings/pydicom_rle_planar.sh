#!/usr/bin/env bash
# pydicom 3.0.2: Dataset.compress(RLELossless) scrambles an image whose PlanarConfiguration is 1 (all red, then all green,
# then all blue): the planes are taken for interleaved pixels, nothing is said, and PlanarConfiguration 1 stays, which
# looks right because RLE segments are planes. The lossless copy of such a screen shows other colors. Set
# PlanarConfiguration 0 and reorder the pixels first.
# Seen: PlanarConfiguration 0 equal True; PlanarConfiguration 1 equal False, both before compression True.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

colors = np.arange(6 * 4 * 3, dtype="u1").reshape(6, 4, 3)
seen = {}
for planar in (0, 1):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 6, 4, 3, "RGB"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PlanarConfiguration = planar
    made.PixelData = (np.moveaxis(colors, -1, 0) if planar else colors).tobytes()
    made["PixelData"].VR = "OB"
    before = bool((made.pixel_array == colors).all())
    made.compress(RLELossless, generate_instance_uid=False)
    seen[planar] = before, bool((made.pixel_array == colors).all())
    print(pydicom.__version__, "PlanarConfiguration", planar, "before", before, "after", seen[planar][1])
sys.exit(seen != {0: (True, True), 1: (True, False)})
PY
