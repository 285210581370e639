#!/usr/bin/env bash
# MONAI 1.6.1 knows one spelling of an NRRD's space: "left-posterior-superior" is turned into its RAS, the abbreviation
# "LPS", which the format defines as the same, is not. The affine keeps LPS numbers, only its space is named, and what
# compares affines does not look at the name: saved as NIfTI, or laid on a NIfTI by ResampleToMatch, the head is turned by
# 180 degrees about its long axis, left to the right and the face to the back, with no warning. Orientation does heed the
# name, and refuses the long name of RAS. Check LoadImage's meta["space"], or convert NRRD by ITK.
# Seen: the bright voxel, after SaveImage, at RAS mm (-16, -23, 30) as in ITK, for "LPS" at (16, 23, 30); ResampleToMatch
# on the same volume as NIfTI keeps it, for "LPS" loses it; Orientation of "right-anterior-superior" raises ValueError.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 monai==1.6.1 pynrrd==1.1.3 nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import nibabel
import numpy as np
import SimpleITK as sitk
from monai.transforms import LoadImage, Orientation, ResampleToMatch, SaveImage

voxels = np.zeros((40, 50, 6), "<f4")
voxels[3, 1, 0] = 1
load = LoadImage(image_only=True, ensure_channel_first=True)
nibabel.save(nibabel.Nifti1Image(voxels, [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]]), "same.nii")
save = SaveImage(output_dir=".", output_ext=".nii", separate_folder=False, output_postfix="saved", print_log=False)
seen = {}
for name, sign in (("left-posterior-superior", 1), ("LPS", 1), ("RAS", -1), ("right-anterior-superior", -1)):
    head = f"NRRD0005\ntype: float\ndimension: 3\nsizes: 40 50 6\nspace: {name}\n"
    head += f"space directions: ({2 * sign},0,0) (0,{3 * sign},0) (0,0,4)\nspace origin: ({10 * sign},{20 * sign},30)\n"
    with open("a.nrrd", "wb") as file:
        file.write(f"{head}encoding: raw\nendian: little\n\n".encode() + voxels.tobytes(order="F"))
    by_itk = np.array(sitk.ReadImage("a.nrrd").TransformIndexToPhysicalPoint((3, 1, 0))) * [-1, -1, 1]
    assert by_itk.tolist() == [-16, -23, 30]
    image = load("a.nrrd")
    save(image)
    saved = nibabel.load("a_saved.nii")
    place = saved.affine @ [*np.argwhere(saved.get_fdata() > 0.5)[0], 1]
    matched = ResampleToMatch(mode="nearest", padding_mode="zeros")(image, load("same.nii"))
    try:
        Orientation("RAS")(image)
        turned = "turned"
    except ValueError as error:
        turned = "ValueError"
    seen[name] = (place[:3].tolist(), float(matched[0, 3, 1, 0]), turned)
    print(f"{name:24}", *seen[name])
right, wrong = ([-16.0, -23.0, 30.0], 1.0), ([16.0, 23.0, 30.0], 0.0)
expected = {
    "left-posterior-superior": (*right, "turned"),
    "LPS": (*wrong, "turned"),
    "RAS": (*right, "turned"),
    "right-anterior-superior": (*right, "ValueError"),
}
sys.exit(seen != expected)
PY
