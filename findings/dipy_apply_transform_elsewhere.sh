#!/usr/bin/env bash
# dipy 1.12.1: dipy_align_syn writes the moving image as it fits the static one, and the displacement field; applied to
# the same moving image by dipy_apply_transform that field must give the same image again. It does only where both
# images share one grid: the field is applied with the grids of the static and the moving image exchanged, a prealignment
# of dipy_align_syn is not asked for, and with other numbers of voxels the result has those of the moving image and the
# affine of the static one. A second contrast, or labels, carried along with a registered one land centimeters off, in
# silence. In Python, read_mapping wants domain_img = the MOVING image and the inverse of the prealignment.
# Seen: a lesion at (10, 5, 0) mm of the static image: dipy_align_syn within 1 mm of it in all four cases,
# dipy_apply_transform too on one grid, else 15 mm off (other origin), 61 mm (other voxels), 14 mm (prealigned).
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    dipy==1.12.1 nibabel==5.4.2 scipy==1.17.1 numpy==2.2.6 2>/dev/null
cd "$folder" && PATH="$folder/venv/bin:$PATH" OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PY'
import os
import subprocess
import sys
import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter


def save(path, affine, shape, middle, radii, shift):
    """A head with a lesion 10 mm to the right of its middle and 5 mm to the front."""
    grid = np.stack(np.mgrid[tuple(slice(size) for size in shape)], -1)
    place = nibabel.affines.apply_affine(affine, grid) - shift
    head = 100.0 * (np.linalg.norm((place - middle) / radii, axis=-1) < 1)
    head[np.linalg.norm(place - middle - [10, 5, 0], axis=-1) < 7] = 200
    nibabel.save(nibabel.Nifti1Image(gaussian_filter(head, 1).astype(np.float32), affine), path)


def miss(path):
    image = nibabel.load(path)
    lesion = np.argwhere(image.get_fdata() > 150).mean(0)
    return round(float(np.linalg.norm(nibabel.affines.apply_affine(image.affine, lesion) - [10, 5, 0])))


def grid(sides, origin):
    return nibabel.affines.from_matvec(np.diag(sides), origin)


one = grid([2, 2, 2], [-31, -31, -31])
cases = {  # affine and shape of the moving image, and by how much its head is moved and prealigned
    "one grid": (one, (32, 32, 32), 0),
    "other origin": (grid([2, 2, 2], [-25, -35, -29]), (32, 32, 32), 0),
    "other voxels": (grid([1.5, 1.5, 3], [-35, -35, -36]), (48, 48, 25), 0),
    "prealigned": (one, (32, 32, 32), 12),
}
seen = {}
for name, (affine, shape, moved) in cases.items():
    os.mkdir(name)
    save(f"{name}/static.nii.gz", one, (32, 32, 32), [0, 0, 0], [22, 26, 20], [0, 0, 0])
    save(f"{name}/moving.nii.gz", affine, shape, [1, -1, 0], [24, 24, 21], [moved, 0, 0])
    np.savetxt(f"{name}/prealign.txt", grid([1, 1, 1], [moved, 0, 0]))
    pair = ["static.nii.gz", "moving.nii.gz"]
    first = ["dipy_align_syn", *pair, "--metric", "ssd", "--prealign_file", "prealign.txt"]
    second = ["dipy_apply_transform", *pair, "displacement_field.nii.gz", "--transform_type", "diffeomorphic"]
    for command in (first, second):
        subprocess.run(command, cwd=name, check=True, capture_output=True)
    seen[name] = (miss(f"{name}/warped_moved.nii.gz"), miss(f"{name}/transformed.nii.gz"))
print("mm from the lesion (dipy_align_syn, dipy_apply_transform):", seen)
sys.exit(seen != {"one grid": (0, 0), "other origin": (0, 15), "other voxels": (1, 61), "prealigned": (0, 14)})
PY
