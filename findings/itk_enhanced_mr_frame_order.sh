#!/usr/bin/env bash
# ITK (SimpleITK 2.5.7) reads an Enhanced MR file whose frames are stored in the order of their acquisition (0, 4, 1, 5, ...:
# the standard leaves the order free, positions and dimension indices stand in each frame's functional groups) as a
# shuffled volume: slices stay in file order, and the spacing falls back to 1 x 1 x 1 mm although all frames share
# 2 x 2 x 3 mm. No warning. Stored in the order of positions the same file is read rightly, so tests with sorted files
# do not show it. dcm2niix 1.0.20260724 sorts it. Sort by ImagePositionPatient before anything is measured.
# Seen: sorted [0, 100, ..., 700] at (2, 2, 3) mm; interleaved [0, 400, 100, 500, ...] at (1, 1, 1) mm; dcm2niix sorted, 3 mm.
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

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def item(**values):
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def frame(place):
    content = item(StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[1, place + 1])
    position = item(ImagePositionPatient=[0, 0, 3.0 * place])
    return item(FrameContentSequence=[content], PlanePositionSequence=[position])


def write(path, places):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = ENHANCED_MR, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    organization = generate_uid()
    d = item(
        SOPClassUID=ENHANCED_MR, SOPInstanceUID=meta.MediaStorageSOPInstanceUID, Modality="MR", SeriesNumber=1,
        PatientName="Phantom", PatientID="P", InstanceNumber=1, NumberOfFrames=len(places), Rows=16, Columns=16,
        StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid(),
        ImageType=["ORIGINAL", "PRIMARY", "M", "NONE"], SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
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
        PerFrameFunctionalGroupsSequence=[frame(place) for place in places],
    )
    d.file_meta = meta
    d.PixelData = np.repeat(np.array(places, "<u2") * 100, 256).tobytes()
    d.save_as(path, enforce_file_format=True)


seen = {}
for name, places in {"sorted": list(range(8)), "interleaved": [0, 4, 1, 5, 2, 6, 3, 7]}.items():
    os.mkdir(name), os.mkdir(f"out_{name}")
    write(f"{name}/mr.dcm", places)
    image = sitk.ReadImage(f"{name}/mr.dcm")
    subprocess.run(["dcm2niix", "-f", "out", "-o", f"out_{name}", name], check=True, capture_output=True)
    converted = nibabel.load(f"out_{name}/out.nii")
    seen[name] = (
        sitk.GetArrayFromImage(image)[:, 0, 0].tolist(), image.GetSpacing(),
        converted.get_fdata()[0, 0].astype(int).tolist(), float(converted.header.get_zooms()[2]),
    )
    print(name, "SimpleITK", *seen[name][:2], "dcm2niix", *seen[name][2:])
ramp, shuffled = list(range(0, 800, 100)), [0, 400, 100, 500, 200, 600, 300, 700]
right = seen["sorted"] == (ramp, (2.0, 2.0, 3.0), ramp, 3.0)
sys.exit(not (right and seen["interleaved"] == (shuffled, (1.0, 1.0, 1.0), ramp, 3.0)))
PY
