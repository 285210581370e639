#!/usr/bin/env bash
# dcm2niix 1.0.20260724: a reconstructed SPECT (NM Image Storage, RECON TOMO) that is stored in sagittal slices of the
# usual orientation (rows to the back, columns to the feet) has a normal that points to the patient's RIGHT; with a
# positive SpacingBetweenSlices its frames run along the normal (PS3.3 C.8.4.15). dcm2niix stacks every NM file towards
# left, back or head, whatever the normal: a lesion on the right of the first frame comes out on its left, 72 mm off,
# and the head is mirrored. Rows that run to the front (normal to the left) come out right. SimpleITK follows the normal.
# Seen: x (RAS, mm) of the last of 10 frames, first at -30: dcm2niix -66 and -66, SimpleITK 6 and -66.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pydicom==3.0.2 nibabel==5.4.2 SimpleITK==2.5.7 dcm2niix==1.0.20260724 numpy==2.2.6 2>/dev/null
cd "$folder" && PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" -W ignore - <<'PY'
import os
import subprocess
import sys
import nibabel
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

NM = "1.2.840.10008.5.1.4.1.1.20"


def write(path, orientation):
    d, meta, place = Dataset(), FileMetaDataset(), Dataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = NM, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    d.file_meta, d.SOPClassUID, d.SOPInstanceUID = meta, NM, meta.MediaStorageSOPInstanceUID
    d.PatientName, d.PatientID, d.Modality, d.SeriesNumber, d.InstanceNumber = "Phantom", "P", "NM", 1, 1
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = generate_uid(), generate_uid(), generate_uid()
    d.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    d.NumberOfFrames = d.NumberOfSlices = 10
    d.SliceVector, d.FrameIncrementPointer = list(range(1, 11)), 0x00540080
    d.PixelSpacing, d.SliceThickness, d.SpacingBetweenSlices = [4, 4], 4, 4
    place.ImageOrientationPatient, place.ImagePositionPatient = orientation, [30, -30, 40]
    d.DetectorInformationSequence = [place]
    d.Rows = d.Columns = 16
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit = 15
    d.PixelData = np.repeat(np.arange(10, dtype="<u2"), 256).tobytes()
    d.save_as(path, enforce_file_format=True)


seen = {}
for name, rows in (("to the right", [0, 1, 0]), ("to the left", [0, -1, 0])):
    folder = name.replace(" ", "_")
    os.mkdir(folder), os.mkdir(f"{folder}_out")
    write(f"{folder}/nm.dcm", [*rows, 0, 0, -1])
    subprocess.run(["dcm2niix", "-f", "out", "-o", f"{folder}_out", folder], check=True, capture_output=True)
    volume = nibabel.load(f"{folder}_out/out.nii")
    values = np.asarray(volume.dataobj)
    last = (volume.affine @ [*np.argwhere(values == values.max())[0], 1])[0]  # where the frame of the greatest value is
    image = sitk.ReadImage(f"{folder}/nm.dcm")
    depth = int(np.argmax(sitk.GetArrayFromImage(image)[:, 0, 0]))
    seen[name] = (float(last), -image.TransformIndexToPhysicalPoint((0, 0, depth))[0])
print("x of the last frame (dcm2niix, SimpleITK), normal", seen)
sys.exit(seen != {"to the right": (-66.0, 6.0), "to the left": (-66.0, -66.0)})
PY
