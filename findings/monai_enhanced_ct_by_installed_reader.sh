#!/usr/bin/env bash
# MONAI 1.6.1: LoadImage(image_only=True)(file) of one Enhanced (multi-frame) CT depends on what else is installed.
# With ITK: Hounsfield units, columns x rows x frames, the affine of the frames. Without it pydicom reads: stored values
# (1064 for 40 HU), because the rescale stands in the functional groups; frames as the SECOND axis between rows and
# columns, because two axes are exchanged that are a picture's; an identity affine. What is said is one warning that
# orientation or position are missing, of a file that has both. Whoever trains on a machine with ITK and deploys in a
# slim image gets other numbers from the same line. Name the reader, and check the shape against NumberOfFrames.
# Seen: without ITK (6, 4, 5), 1064.0, spacing (1, 1, 1), 1 warning; with ITK (5, 6, 4), 40.0, spacing (0.5, 0.5, 3).
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@" 2>/dev/null; }
install torch==2.13.0 monai==1.6.1 pydicom==3.0.2 numpy==2.2.6
cat >"$folder/read.py" <<'PY'
import sys
import warnings
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

file, shape, value, spacing, told = sys.argv[1], *map(eval, sys.argv[2:])


def item(**values):
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def frame(place):
    content = item(StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[1, place + 1])
    position = item(ImagePositionPatient=[-10, -20, 30 + 3 * place])
    return item(FrameContentSequence=[content], PlanePositionSequence=[position])


meta = FileMetaDataset()
meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = EnhancedCTImageStorage, ExplicitVRLittleEndian
meta.MediaStorageSOPInstanceUID = generate_uid()
ct = item(
    SOPClassUID=EnhancedCTImageStorage, SOPInstanceUID=meta.MediaStorageSOPInstanceUID, Modality="CT",
    PatientName="Phantom", PatientID="P", StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(),
    FrameOfReferenceUID=generate_uid(), InstanceNumber=1, ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    NumberOfFrames=4, Rows=6, Columns=5, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
    BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=0,
    SharedFunctionalGroupsSequence=[
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.5], SliceThickness=3, SpacingBetweenSlices=3)],
            PixelValueTransformationSequence=[item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")],
        )
    ],
    PerFrameFunctionalGroupsSequence=[frame(place) for place in range(4)],
)
ct.file_meta, ct.PixelData = meta, np.full((4, 6, 5), 1064, "<u2").tobytes()
ct.save_as(file, enforce_file_format=True)

from monai.transforms import LoadImage

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    image = LoadImage(image_only=True)(file)
of_place = [one for one in caught if "ImagePositionPatient" in str(one.message)]
lengths = tuple(float(x) for x in np.linalg.norm(image.affine.numpy()[:3, :3], axis=0))
seen = (tuple(image.shape), float(image.flatten()[0]), lengths, len(of_place))
print(f"shape {seen[0]}, value {seen[1]}, spacing {seen[2]}, warnings of the place {seen[3]}")
sys.exit(seen != (shape, value, spacing, told))
PY
echo "MONAI 1.6.1 without ITK" && "$folder/venv/bin/python" -W ignore "$folder/read.py" "$folder/ct.dcm" "(6, 4, 5)" 1064.0 "(1.0, 1.0, 1.0)" 1
install itk==5.4.7
echo "MONAI 1.6.1 with ITK 5.4.7" && "$folder/venv/bin/python" -W ignore "$folder/read.py" "$folder/ct.dcm" "(5, 6, 4)" 40.0 "(0.5, 0.5, 3.0)" 0
