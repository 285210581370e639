#!/usr/bin/env bash
# TotalSegmentator 2.18.0 change_spacing and MedPy 0.5.2 resample bring an image to another spacing by SciPy's zoom, which
# lays the first and the last voxel CENTER of both grids on each other: 40 slices of 5 mm become 200 of 195 / 199 mm. The
# header is given the spacing that was asked for, 1 mm, so everything drifts along the axis, by 4 mm at the far end, in
# silence. With nnunet_resample=True the EDGES are matched, and the origin, which should move by half a slice less half a
# voxel, stays: all lies 2 mm off. Resampled onto each other, CT and MR of other slices no longer fit. Between the ways
# of one package a lesion has two places. nibabel 5.4.2 (resample_from_to) is right.
# Seen: a lesion at z 150 mm in slices of 5 mm, brought to 1 mm: 153 mm, 152 mm (nnunet_resample), MedPy 153 mm, nibabel 150.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    nibabel==5.4.2 MedPy==0.5.2 scipy==1.17.1 scikit-image==0.26.0 pandas==3.1.1 joblib==1.6.0 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    TotalSegmentator==2.18.0 batchgenerators==0.25.5 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import nibabel
import numpy as np
from medpy.filter.image import resample
from medpy.io import Header
from nibabel.processing import resample_from_to
from totalsegmentator.resampling import change_spacing

lesion = np.zeros((16, 16, 40), np.float32)
lesion[..., 30] = 1  # at 150 mm
image = nibabel.Nifti1Image(lesion, np.diag([1.0, 1, 5, 1]))


def height(values, spacing, origin=0.0):
    profile = np.asarray(values, np.float64)[8, 8]
    return round(float((profile * (np.arange(len(profile)) * spacing + origin)).sum() / profile.sum()), 1)


def of(made):
    return made.shape[2], height(made.dataobj, made.affine[2, 2], made.affine[2, 3])


seen = {
    "change_spacing": of(change_spacing(image, [1.0, 1.0, 1.0], order=1)),
    "with nnunet_resample": of(change_spacing(image, [1.0, 1.0, 1.0], order=1, nnunet_resample=True)),
    "nibabel": of(resample_from_to(image, ((16, 16, 196), np.eye(4)), order=1)),
}
header = Header(spacing=(1.0, 1.0, 5.0))
values, header = resample(lesion, header, (1.0, 1.0, 1.0), bspline_order=1)
seen["MedPy"] = values.shape[2], height(values, header.get_voxel_spacing()[2])
print("slices, and z of the lesion that is at 150 mm:", seen)
sys.exit(seen != {
    "change_spacing": (200, 153.1), "with nnunet_resample": (200, 152.0), "nibabel": (196, 150.0), "MedPy": (200, 153.1)
})
PY
