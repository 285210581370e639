#!/usr/bin/env bash
# dicom-numpy 0.6.5 refuses a series with a missing slice, other orientations or spacings, but takes a CT of a tilted
# gantry without a word: its affine is made of the slices' normal and their distance along it, so the shift of every
# slice within its plane is gone. A head of 30 slices, 5 mm apart, at 20 degrees: the first slice is in place, the last
# one 49.6 mm from where its own ImagePositionPatient puts it. Every slice alone looks right, and the volume is sheared.
# Compare the affine's last column with the last slice's position before lesions of two modalities are laid together.
# Seen: a missing slice DicomImportException; tilted: affine step (0.0, -1.607, 4.415) mm, true step (0, 0, 5) mm, last
# slice 49.6 mm off; upright 0.0 mm off.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dicom-numpy==0.6.5 pydicom==3.0.2 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import math
import sys
import dicom_numpy
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

MANY, STEP = 30, 5.0


def series(degrees, left_out=None):
    tilt, uids = math.radians(degrees), [generate_uid() for _ in range(3)]
    slices = []
    for place in range(MANY):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SOPClassUID, d.SOPInstanceUID, d.Modality = CTImageStorage, generate_uid(), "CT"
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = uids
        d.PatientID, d.PatientName, d.InstanceNumber = "P", "Phantom", place + 1
        d.ImageOrientationPatient = [1, 0, 0, 0, math.cos(tilt), math.sin(tilt)]
        d.ImagePositionPatient = [0, 0, STEP * place]
        d.GantryDetectorTilt, d.SliceThickness, d.PixelSpacing = degrees, STEP, [1, 1]
        d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        d.RescaleSlope, d.RescaleIntercept = 1, -1024
        d.PixelData = np.full((8, 8), 1000 + place, "<u2").tobytes()
        slices += [d] if place != left_out else []
    return slices


try:
    dicom_numpy.combine_slices(series(0, left_out=9))
    gap = "a volume"
except dicom_numpy.DicomImportException:
    gap = "DicomImportException"
off, step = {}, None
for degrees in (0, 20):
    slices = series(degrees)
    voxels, affine = dicom_numpy.combine_slices(slices)
    assert voxels.shape == (8, 8, MANY) and voxels[0, 0, -1] == 1000 + MANY - 1 - 1024
    placed = (affine @ [0, 0, MANY - 1, 1])[:3]
    off[degrees] = round(float(np.linalg.norm(placed - np.array(slices[-1].ImagePositionPatient, float))), 1)
    step = tuple(round(float(x), 3) for x in affine[:3, 2])
print("dicom-numpy 0.6.5: missing slice", gap, "| tilted step", step, "| last slice off by mm", off)
sys.exit((gap, step, off) != ("DicomImportException", (0.0, -1.607, 4.415), {0: 0.0, 20: 49.6}))
PY
