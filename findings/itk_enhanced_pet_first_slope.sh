#!/usr/bin/env bash
# ITK (SimpleITK 2.5.7): in an Enhanced PET (or MR, CT) file each frame may have a Pixel Value Transformation of its own
# (PS3.3 C.7.6.16.2.9, in the Per-frame Functional Groups), as every slice of a PET usually has its own slope. ITK
# multiplies all frames by the slope of the FIRST one, in silence, and its meta data have no slope to see it by: uptake is
# wrong by the ratio of the slopes, everywhere but in the first slice. The same slices as single files come out right.
# highdicom 0.28.2 and dcm2niix 1.0.20260724 use each frame's own. Scale such files by another reader.
# Seen: 1000 stored with slopes 2, 4, 8: SimpleITK 2000, 2000, 2000; highdicom and dcm2niix 2000, 4000, 8000 Bq/ml.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 highdicom==0.28.2 nibabel==5.4.2 \
    SimpleITK==2.5.7 dcm2niix==1.0.20260724 numpy==2.2.6 2>/dev/null
cd "$folder" && PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" -W ignore - <<'PY'
import os
import subprocess
import sys
import highdicom
import nibabel
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
SLOPES = (2, 4, 8)


def item(**values):
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def frame(place):
    return item(
        FrameContentSequence=[item(StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[1, place + 1])],
        PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 3.0 * place])],
        PixelValueTransformationSequence=[item(RescaleIntercept=0, RescaleSlope=SLOPES[place], RescaleType="US")],
    )


meta = FileMetaDataset()
meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = ENHANCED_PET, ExplicitVRLittleEndian
meta.MediaStorageSOPInstanceUID = generate_uid()
organization = generate_uid()
d = item(
    SOPClassUID=ENHANCED_PET, SOPInstanceUID=meta.MediaStorageSOPInstanceUID, Modality="PT", SeriesNumber=1,
    PatientName="Phantom", PatientID="P", InstanceNumber=1, NumberOfFrames=3, Rows=16, Columns=16, Units="BQML",
    StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid(),
    ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
    BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=0,
    DimensionOrganizationSequence=[item(DimensionOrganizationUID=organization)],
    DimensionIndexSequence=[
        item(DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111, DimensionOrganizationUID=organization)
        for tag in (0x00209056, 0x00209057)
    ],
    SharedFunctionalGroupsSequence=[
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[2, 2], SliceThickness=3, SpacingBetweenSlices=3)],
        )
    ],
    PerFrameFunctionalGroupsSequence=[frame(place) for place in range(3)],
)
d.file_meta = meta
d.PixelData = np.full(3 * 256, 1000, "<u2").tobytes()
os.mkdir("in"), os.mkdir("out")
d.save_as("in/pet.dcm", enforce_file_format=True)

image = sitk.ReadImage("in/pet.dcm")
subprocess.run(["dcm2niix", "-f", "out", "-o", "out", "in"], check=True, capture_output=True)
pet = highdicom.imread("in/pet.dcm")
seen = {
    "SimpleITK": sitk.GetArrayFromImage(image)[:, 0, 0].tolist(),
    "slope in its meta data": image.HasMetaDataKey("0028|1053"),
    "highdicom": [int(pet.get_frame(number, apply_real_world_transform=False)[0, 0]) for number in (1, 2, 3)],
    "dcm2niix": nibabel.load("out/out.nii").get_fdata()[0, 0].astype(int).tolist(),
}
print(seen)
first, each = [2000, 2000, 2000], [2000, 4000, 8000]
sys.exit(seen != {"SimpleITK": first, "slope in its meta data": False, "highdicom": each, "dcm2niix": each})
PY
