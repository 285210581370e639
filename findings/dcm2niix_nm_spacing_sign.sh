#!/usr/bin/env bash
# dcm2niix 1.0.20260724: a reconstructed SPECT (NM Image Storage, RECON TOMO) states by a NEGATIVE
# SpacingBetweenSlices (0018,0088) that its frames run against the slice normal (PS3.3 C.8.4.15). dcm2niix drops the
# sign: both directions give the same affine, so the head of one of them lies upside down about its first slice, 72 mm
# off at the last one here. SimpleITK 2.5.7 keeps the sign (direction -1). Two good readers, two places of one lesion.
# Seen: z of the last frame: dcm2niix 76 for +4 and 76 for -4 mm; SimpleITK 76 and 4.
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


def write(path, spacing):
    d, meta, place = Dataset(), FileMetaDataset(), Dataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = NM, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    d.file_meta, d.SOPClassUID, d.SOPInstanceUID = meta, NM, meta.MediaStorageSOPInstanceUID
    d.PatientName, d.PatientID, d.Modality, d.SeriesNumber, d.InstanceNumber = "Phantom", "P", "NM", 1, 1
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = generate_uid(), generate_uid(), generate_uid()
    d.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    d.NumberOfFrames = d.NumberOfSlices = 10
    d.SliceVector, d.FrameIncrementPointer = list(range(1, 11)), 0x00540080
    d.PixelSpacing, d.SliceThickness, d.SpacingBetweenSlices = [4, 4], 4, spacing
    place.ImageOrientationPatient, place.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-30, -30, 40]
    d.DetectorInformationSequence = [place]
    d.Rows = d.Columns = 16
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit = 15
    d.PixelData = np.repeat(np.arange(10, dtype="<u2"), 256).tobytes()
    d.save_as(path, enforce_file_format=True)


seen = {}
for spacing in (4, -4):
    os.mkdir(f"in{spacing}"), os.mkdir(f"out{spacing}")
    write(f"in{spacing}/nm.dcm", spacing)
    subprocess.run(["dcm2niix", "-f", "out", "-o", f"out{spacing}", f"in{spacing}"], check=True, capture_output=True)
    volume = nibabel.load(f"out{spacing}/out.nii")
    last = int(np.argmax(volume.get_fdata()[0, 0]))  # the voxel index of frame 10
    image = sitk.ReadImage(f"in{spacing}/nm.dcm")
    z = image.TransformIndexToPhysicalPoint((0, 0, int(np.argmax(sitk.GetArrayFromImage(image)[:, 0, 0]))))[2]
    seen[spacing] = (float((volume.affine @ [0, 0, last, 1])[2]), z)
print("z of frame 10 (dcm2niix, SimpleITK):", seen)
sys.exit(seen != {4: (76.0, 76.0), -4: (76.0, 4.0)})
PY
