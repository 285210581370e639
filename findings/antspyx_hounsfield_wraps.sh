#!/usr/bin/env bash
# ANTsPy (antspyx 0.6.3): from_numpy takes signed whole numbers, in which every CT in HU is kept, as unsigned ones of 32
# bits without a word: air of -1000 HU becomes 4294966296, fat 4294967196. So do from_sitk, the usual way from a DICOM
# series, and new_image_like. Every mean, range, histogram and similarity after it is that of four billion, and brain
# (0 to 80 HU) is nothing beside it. image_read and from_nibabel_nifti of the same values, and floats, are right.
# Seen: -1000, -100, 40, 1000 HU as int16: from_numpy, from_sitk, new_image_like 4294966296, 4294967196, 40, 1000;
# image_read and from_nibabel_nifti -1000, -100, 40, 1000.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    antspyx==0.6.3 SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.2.6 2>/dev/null
cd "$folder" && ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 "$folder/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import sys
import ants
import nibabel
import numpy as np
import SimpleITK as sitk

ct = np.repeat(np.array([-1000, -100, 40, 1000], np.int16), 12).reshape(4, 4, 3)
nifti = nibabel.Nifti1Image(ct, np.eye(4))
nibabel.save(nifti, "ct.nii")
images = {
    "from_numpy": ants.from_numpy(ct),
    "from_sitk": ants.from_sitk(sitk.GetImageFromArray(ct)),
    "new_image_like": ants.from_numpy(ct.astype(np.float32)).new_image_like(ct),
    "image_read": ants.image_read("ct.nii"),
    "from_nibabel_nifti": ants.from_nibabel_nifti(nifti),
    "from_numpy of floats": ants.from_numpy(ct.astype(np.float32)),
}
seen = {name: [int(value) for value in np.unique(image.numpy())] for name, image in images.items()}
for name, values in seen.items():
    print(name, values)
wrapped, right = [40, 1000, 4294966296, 4294967196], [-1000, -100, 40, 1000]
sys.exit([values == (wrapped if place < 3 else right) for place, values in enumerate(seen.values())] != [True] * 6)
PY
