#!/usr/bin/env bash
# nibabel 5.4.2 and ITK (SimpleITK 2.5.7) put one valid NIfTI file in two places. A file may hold two forms: a qform of the
# scanner (code 1) and an sform from a registration (code 2 aligned, 3 Talairach, 4 MNI). nibabel takes the sform for every
# code above 0; ITK takes it only where its code is 1 and else the qform, so the registration is lost: over 100 mm here, without
# a warning. With both codes 0 they invent different places: nibabel centers and turns x, ITK starts at 0 and turns
# x and y (in LPS), so the two heads are mirror images front to back. The voxel arrays are the same throughout.
# Seen: RAS mm of one voxel, (sform code, qform code): (1, 1) agree; (2, 1), (4, 4) 60, 80 and 100 mm apart in x, y, z; (0, 0) differ.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" - <<'PY'
import sys
import nibabel
import numpy as np
import SimpleITK as sitk

sform, qform = np.diag([2.0, 2, 2, 1]), np.diag([2.0, 2, 2, 1])
sform[:3, 3], qform[:3, 3] = [10, 20, 30], [-50, -60, -70]
seen = {}
for codes in ((1, 1), (2, 1), (4, 4), (1, 0), (0, 1), (0, 0)):
    image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4))
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    nibabel.save(image, "x.nii")
    by_nibabel = (nibabel.load("x.nii").affine @ [1, 2, 3, 1])[:3]
    by_itk = np.array(sitk.ReadImage("x.nii").TransformIndexToPhysicalPoint((1, 2, 3))) * [-1, -1, 1]
    seen[codes] = (by_nibabel.tolist(), by_itk.tolist())
    print(codes, "nibabel", *seen[codes][0], "ITK", *seen[codes][1])
in_sform, in_qform = [12.0, 24.0, 36.0], [-48.0, -56.0, -64.0]
expected = {
    (1, 1): (in_sform, in_sform),
    (2, 1): (in_sform, in_qform),
    (4, 4): (in_sform, in_qform),
    (1, 0): (in_sform, in_sform),
    (0, 1): (in_qform, in_qform),
    (0, 0): ([5.0, -3.0, -1.0], [-2.0, -4.0, 6.0]),
}
sys.exit(seen != expected)
PY
