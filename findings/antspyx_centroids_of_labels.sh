#!/usr/bin/env bash
# ANTsPy (antspyx 0.6.3): label_image_centroids tells where structures lie, for landmarks of a registration. It numbers the
# voxels with the first axis fastest and takes them from an array whose last axis is: in a cube of voxels x and z are
# exchanged, in any other image the numbers are those of no voxel of the structure. physical=True, "whether you want
# physical space coordinates", changes nothing: they are still voxels, of an image with spacing, origin and direction.
# label_geometry_measures of the same package is right. Landmarks of two images of other sizes fit nothing.
# Seen: a structure at voxel (3, 7, 12): (12, 7, 3) in 16 x 16 x 16, (4, 5, 2) in 24 x 20 x 16 voxels, physical or not.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check antspyx==0.6.3 numpy==2.2.6 2>/dev/null
cd "$folder" && ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import ants
import numpy as np

seen = {}
for shape in ((16, 16, 16), (24, 20, 16)):
    labels = np.zeros(shape, np.float32)
    labels[3, 7, 12] = 1
    image = ants.from_numpy(labels, origin=(-10.0, 5.0, 7.0), spacing=(2.0, 3.0, 5.0))
    voxel, place = (ants.label_image_centroids(image, physical=physical)["vertices"][0] for physical in (False, True))
    measured = ants.label_geometry_measures(image)[["Centroid_x", "Centroid_y", "Centroid_z"]].to_numpy()[0]
    seen[shape] = tuple(tuple(round(float(number)) for number in found) for found in (voxel, place, measured))
print("voxel (3, 7, 12), which is at (-4, 26, 67) mm; label_image_centroids, with physical=True, label_geometry_measures:")
print(seen)
right = (-4, 26, 67)
sys.exit(seen != {
    (16, 16, 16): ((12, 7, 3), (12, 7, 3), right), (24, 20, 16): ((4, 5, 2), (4, 5, 2), right)
})
PY
