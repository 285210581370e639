#!/usr/bin/env bash
# ITK 5.4.7 (as SimpleITK 2.5.7 has it) turns the stored values of a MONOCHROME1 image around and then applies the rescale:
# brain of 40 HU reads 2007 HU, air 3071 HU and dense bone -1024 HU. In DICOM, MONOCHROME1 is how to show
# the pixels (the least value is white); what the values measure comes from rescale slope and intercept, and CT and MR
# allow it. pydicom and dcm2niix 1.0.20260724 give the 40 HU of the same file. Dose, density or a window of such a CT are
# wrong without a message: look at (0028,0004) before numbers of ITK are used.
# Seen: stored 0, 1064, 4095 of 12 bits, intercept -1024: SimpleITK 3071, 2007, -1024; pydicom, dcm2niix -1024, 40, 3071;
# the same pixels called MONOCHROME2 are right in all three.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    SimpleITK==2.5.7 pydicom==3.0.2 dcm2niix==1.0.20260724 nibabel==5.4.2 numpy==2.2.6 2>/dev/null
cd "$folder" && PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" -W ignore - <<'PY'
import os
import subprocess
import sys
import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

stored = np.zeros((8, 8), np.uint16)
stored[:, 3:6], stored[:, 6:] = 1064, 4095
seen = {}
for shown in ("MONOCHROME1", "MONOCHROME2"):
    ct = Dataset()
    ct.file_meta = FileMetaDataset()
    ct.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ct.SOPClassUID = ct.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ct.SOPInstanceUID = ct.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    ct.Modality, ct.ImageType, ct.SeriesNumber, ct.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], 1, 1
    ct.Rows, ct.Columns, ct.SamplesPerPixel, ct.PhotometricInterpretation = 8, 8, 1, shown
    ct.BitsAllocated, ct.BitsStored, ct.HighBit, ct.PixelRepresentation = 16, 12, 11, 0
    ct.RescaleSlope, ct.RescaleIntercept, ct.RescaleType = 1, -1024, "HU"
    ct.PixelSpacing, ct.SliceThickness = [1.0, 1.0], 5.0
    ct.ImagePositionPatient, ct.ImageOrientationPatient = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    ct.PixelData = stored.tobytes()
    os.mkdir(shown)
    ct.save_as(f"{shown}/1.dcm", enforce_file_format=True)

    def three(values):
        return [int(value) for value in np.asarray(values).squeeze()[4, [0, 4, 7]]]

    again = pydicom.dcmread(f"{shown}/1.dcm")
    subprocess.run(["dcm2niix", "-z", "n", "-f", "ct", "-o", ".", shown], check=True, stdout=subprocess.DEVNULL)
    converted = nibabel.load("ct.nii").get_fdata().squeeze().T
    os.remove("ct.nii")
    seen[shown] = {
        "SimpleITK": three(sitk.GetArrayFromImage(sitk.ReadImage(f"{shown}/1.dcm"))),
        "pydicom": three(apply_modality_lut(again.pixel_array, again)),
        "dcm2niix": three(converted),
    }
    print(shown, "HU of air, brain, bone:", seen[shown])
right, inverted = [-1024, 40, 3071], [3071, 2007, -1024]
expected = {
    "MONOCHROME1": {"SimpleITK": inverted, "pydicom": right, "dcm2niix": right},
    "MONOCHROME2": dict.fromkeys(("SimpleITK", "pydicom", "dcm2niix"), right),
}
sys.exit(seen != expected)
PY
