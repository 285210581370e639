#!/usr/bin/env bash
# SimpleITK 2.5.7 (ITK 5.4.7): Shrink says that the centers of input and output are the same place, and its header is so,
# but by an even factor no voxel is taken from where the new header puts it: each is half a voxel of the input further on.
# Slices 5 mm apart, thinned by 2, lie 2.5 mm too low, whatever the factor. Whoever shrinks an MR and not the CT for a bias field, a
# mask or a registration gets a shift that no tool shows, as the outlines of both volumes agree. By an odd factor that
# does not divide the size it is the same in that axis. BinShrink, of the same call, is right.
# Seen: true place minus the header's, mm, of voxels of 1 x 1 x 5 mm: Shrink (2, 2, 2) 0.5, 0.5, 2.5; (4, 4, 1) 0.5, 0.5, 0;
# (3, 3, 3) of 64 x 64 x 24 voxels 0.5, 0.5, 0; BinShrink 0 for all.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" - <<'PY'
import sys
import numpy as np
import SimpleITK as sitk


def places(image):
    """An image whose values are the places of its voxels in mm, by its header."""
    header = image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()
    return sitk.PhysicalPointSource(sitk.sitkVectorFloat64, *header)


head = sitk.Image(64, 64, 24, sitk.sitkUInt8)
head.SetSpacing((1.0, 1.0, 5.0))
head = places(head)
seen = {}
for shrink in (sitk.Shrink, sitk.BinShrink):
    for factors in ((2, 2, 2), (4, 4, 1), (3, 3, 3)):
        axes = [shrink(sitk.VectorIndexSelectionCast(head, axis), factors) for axis in range(3)]
        taken = np.stack([sitk.GetArrayFromImage(axis) for axis in axes], -1)
        shift = (taken - sitk.GetArrayFromImage(places(axes[0]))).reshape(-1, 3)
        assert np.ptp(shift, axis=0).max() < 1e-9  # the same in all voxels
        seen[shrink.__name__, factors] = tuple(float(value) for value in shift[0].round(6) + 0.0)
        print(shrink.__name__, factors, "true place minus the header's, mm:", seen[shrink.__name__, factors])
expected = [(0.5, 0.5, 2.5), (0.5, 0.5, 0.0), (0.5, 0.5, 0.0)] + 3 * [(0.0, 0.0, 0.0)]
sys.exit(list(seen.values()) != expected)
PY
