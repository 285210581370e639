#!/usr/bin/env bash
# imagedata 3.10.0: a DICOM series written as MetaImage (or any other format of its ITK plugin) gets the step from slice
# to slice, in mm, for the third direction cosine, beside the spacing: TransformMatrix 1 0 0 0 1 0 0 0 3 with
# ElementSpacing 1 1 3. A MetaImage's matrix holds unit vectors, so any other reader sets the slices 3 x 3 = 9 mm apart.
# No warning on writing or reading; imagedata reads its own file back rightly, so that a round trip shows nothing, and the
# NIfTI it writes of the same series is right. Slices of 1 mm hide it, slices of 0.5 mm come to lie 0.25 mm apart.
# Seen: z of the seventh slice of 3 mm, first at 0: DICOM 18, NIfTI 18, MetaImage 54 by ITK, 18 by imagedata.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    imagedata==3.10.0 itk-io==5.4.7 pydicom==3.0.2 nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import os
import sys
import numpy as np
import SimpleITK as sitk
from imagedata.series import Series
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY, SERIES, FRAME = generate_uid(), generate_uid(), generate_uid()


def write(path, number):
    d, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CT, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    d.file_meta, d.SOPClassUID, d.SOPInstanceUID = meta, CT, meta.MediaStorageSOPInstanceUID
    d.PatientName, d.PatientID, d.Modality, d.SeriesNumber, d.InstanceNumber = "Phantom", "P", "CT", 1, number + 1
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = STUDY, SERIES, FRAME
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = "20200101"
    d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = "100000"
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * number]
    d.PixelSpacing, d.SliceThickness, d.RescaleIntercept, d.RescaleSlope = [1, 1], 3, 0, 1
    d.Rows = d.Columns = 16
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit = 15
    d.PixelData = np.full(256, 1000 if number == 6 else 0, "<i2").tobytes()
    d.save_as(path, enforce_file_format=True)


def height(image):  # of the slice with the lesion, mm
    depth = int(np.argmax(sitk.GetArrayFromImage(image)[:, 0, 0]))
    return round(image.TransformIndexToPhysicalPoint((0, 0, depth))[2], 3)


os.mkdir("in"), os.mkdir("out")
for number in range(10):
    write(f"in/{number}.dcm", number)
read = sitk.ImageSeriesReader()
read.SetFileNames(read.GetGDCMSeriesFileNames("in"))
ct = Series("in")
ct.write("out/ct.nii", formats=["nifti"])
ct.write("out/ct.mha", formats=["itk"])
back = Series("out/ct.mha")
with open("out/ct.mha", "rb") as file:
    lines = file.read().split(b"ElementDataFile")[0].decode().splitlines()
print([line for line in lines if line.startswith(("TransformMatrix", "ElementSpacing"))])
seen = {
    "DICOM": height(read.Execute()),
    "NIfTI": height(sitk.ReadImage("out/ct.nii")),
    "MetaImage by ITK": height(sitk.ReadImage("out/ct.mha")),
    "MetaImage by imagedata": float((back.transformationMatrix @ [6, 0, 0, 1])[0]),  # z, y, x
}
print("z of the seventh slice, mm:", seen)
sys.exit(seen != {"DICOM": 18, "NIfTI": 18, "MetaImage by ITK": 54, "MetaImage by imagedata": 18})
PY
