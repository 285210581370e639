#!/usr/bin/env bash
# ITK 5.4.7 (as SimpleITK 2.5.7 has it) ignores the NRRD field "space units": a volume whose directions are written in
# micrometres comes out with a spacing of 2000 x 3000 x 4000 "mm", a head of 400 m, without a warning. Written in mm with
# the same field it is right, so the field looks honored. Whoever registers or resamples a micrometre NRRD with an
# ITK program must convert the directions before.
# Seen: um (2000.0, 3000.0, 4000.0), mm (2.0, 3.0, 4.0).
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" - <<'PY'
import sys
import numpy as np
import SimpleITK as sitk

voxels = np.arange(120, dtype="<i2").tobytes()
seen = {}
for unit, factor in (("um", 1000), ("mm", 1)):
    rows = ",".join(f"({2 * factor},0,0)|(0,{3 * factor},0)|(0,0,{4 * factor})".split(","))
    head = "NRRD0005\ntype: short\ndimension: 3\nsizes: 4 5 6\nspace: left-posterior-superior\n"
    head += f"space directions: {rows.replace('|', ' ')}\nspace origin: (0,0,0)\n"
    head += f'space units: "{unit}" "{unit}" "{unit}"\nencoding: raw\nendian: little\n\n'
    with open(f"{unit}.nrrd", "wb") as file:
        file.write(head.encode() + voxels)
    seen[unit] = sitk.ReadImage(f"{unit}.nrrd").GetSpacing()
print("SimpleITK", sitk.Version_VersionString(), seen)
sys.exit(seen != {"um": (2000.0, 3000.0, 4000.0), "mm": (2.0, 3.0, 4.0)})
PY
