#!/usr/bin/env bash
# SimpleITK 2.5.7 and dcm2niix 1.0.20260724 take the pixel type of a whole DICOM series from one slice. PET and MR
# exports mix PixelRepresentation within a series (the standard allows it per instance): where the first slice is signed,
# an unsigned stored value of 50000 in the others becomes -15536 in both, the hottest uptake the most negative voxel, with
# no warning. Read each slice by its own header. Where the first slice is unsigned, the same happens the other way round.
# Seen: [100, -15536, -15536, -15536] in both.
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

PET = "1.2.840.10008.5.1.4.1.1.128"
study, series, frame = generate_uid(), generate_uid(), generate_uid()
os.mkdir("in"), os.mkdir("out")
for number in range(4):
    d, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = PET, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    d.file_meta, d.SOPClassUID, d.SOPInstanceUID = meta, PET, meta.MediaStorageSOPInstanceUID
    d.PatientName, d.PatientID, d.Modality, d.SeriesNumber, d.InstanceNumber = "Phantom", "P", "PT", 1, number + 1
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = study, series, frame
    d.PixelSpacing, d.SliceThickness = [2, 2], 3
    d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * number]
    d.Rows = d.Columns = 8
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.PixelRepresentation = int(number == 0)
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.RescaleSlope, d.RescaleIntercept = 15, 1, 0
    d.PixelData = np.full(64, 100 if number == 0 else 50000, "<u2").tobytes()
    d.save_as(f"in/{number}.dcm", enforce_file_format=True)
reader = sitk.ImageSeriesReader()
reader.SetFileNames(reader.GetGDCMSeriesFileNames("in"))
by_itk = sitk.GetArrayFromImage(reader.Execute())[:, 0, 0].tolist()
subprocess.run(["dcm2niix", "-f", "out", "-o", "out", "in"], check=True, capture_output=True)
by_dcm2niix = nibabel.load("out/out.nii").get_fdata()[0, 0].astype(int).tolist()
print("SimpleITK", by_itk, "dcm2niix", by_dcm2niix)
wrapped = [100, -15536, -15536, -15536]
sys.exit(not (by_itk == wrapped and by_dcm2niix == wrapped))
PY
