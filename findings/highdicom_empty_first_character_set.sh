#!/usr/bin/env bash
# highdicom 0.28.2 (pydicom 3.0.2) makes no object of an image whose SpecificCharacterSet is '\ISO 2022 IR 87', as in
# DICOM's own examples for Japan (PS3.5, annex H; Korea, annex I: '\ISO 2022 IR 149'): the empty first value is the
# default repertoire, and is what scanners there write. pydicom reads the names. Segmentations, presentation states and
# every other class copy the value from the source first, so a pipeline that passes all its tests fails on each study of
# such a hospital, after the computing. Written as 'ISO 2022 IR 6\ISO 2022 IR 87', which means the same, it is taken.
# Seen: ValueError: '' is not a valid SpecificCharacterSetValues; then Yamada^Tarou=山田^太郎.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import highdicom
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def image(character_sets):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet, made.SOPClassUID = character_sets, MRImageStorage
    for name in ("SOPInstance", "StudyInstance", "SeriesInstance", "FrameOfReference"):
        setattr(made, f"{name}UID", generate_uid())
    made.PatientName, made.PatientID = "Yamada^Tarou=山田^太郎", "7"
    for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
        setattr(made, name, "")
    made.StudyDate, made.StudyTime, made.Modality, made.InstanceNumber = "20260101", "120000", "MR", 1
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness = [1, 1], 1
    made.Rows = made.Columns = 4
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation, made.PixelData = 15, 0, bytes(32)
    return made


def segmented(source):
    segment = highdicom.seg.SegmentDescription(
        1, "brain", codes.SCT.Tissue, codes.SCT.Brain, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    )
    return highdicom.seg.Segmentation(
        [source], np.ones((1, 4, 4), np.uint8), "BINARY", [segment], generate_uid(), 2, generate_uid(), 1, "M", "N", "1", "1"
    )


try:
    first = str(segmented(image(["", "ISO 2022 IR 87"])).PatientName)
except ValueError as error:
    first = f"ValueError: {error}"
second = str(segmented(image(["ISO 2022 IR 6", "ISO 2022 IR 87"])).PatientName)
print("highdicom", highdicom.__version__, "|", first, "|", second)
sys.exit(first != "ValueError: '' is not a valid SpecificCharacterSetValues" or second != "Yamada^Tarou=山田^太郎")
PY
