#!/usr/bin/env bash
# ITK 5.4.7 (as SimpleITK 2.5.7 has it): asked for ct.nii.gz, the reader gives the voxels of ct.nii, if a file of that name lies
# in the same folder: the NIfTI library in it reads the header of the named file and then looks for the voxels by the
# name without its ending, .nii first. Size, spacing and place are those of the named file, the picture is the other
# one, and nothing is said. Both lie there after `gunzip -k`, or after a program wrote its newer result compressed;
# with a file of another type or size the voxels are cut or mixed. nibabel reads the named file. Viewers and libraries
# that are built on ITK share it. Delete or rename the one that is not meant.
# Seen: ct.nii.gz holds 40, spacing 1 mm; ct.nii -7, spacing 2 mm: SimpleITK gives -7 with spacing 1 mm; alone 40.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" - <<'PY'
import os
import sys
import nibabel
import numpy as np
import SimpleITK as sitk

for name, value, spacing in (("ct.nii.gz", 40, 1.0), ("ct.nii", -7, 2.0)):
    voxels = np.full((4, 5, 6), value, np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([spacing, spacing, spacing, 1.0])), name)


def looked_at():
    image = sitk.ReadImage("ct.nii.gz")
    found = sorted({int(value) for value in sitk.GetArrayFromImage(image).flat})
    right = sorted({int(value) for value in nibabel.load("ct.nii.gz").get_fdata().flat})
    print("in the folder:", sorted(name for name in os.listdir(".") if name.startswith("ct")),
          "ct.nii.gz by SimpleITK", found, image.GetSpacing(), "by nibabel", right)
    return found, image.GetSpacing()[0], right


both = looked_at()
os.remove("ct.nii")
alone = looked_at()
sys.exit((both, alone) != (([-7], 1.0, [40]), ([40], 1.0, [40])))
PY
