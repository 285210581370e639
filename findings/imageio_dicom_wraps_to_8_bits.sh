#!/usr/bin/env bash
# imageio 2.38.1: DICOM pixels whose rescale changes nothing (slope 1, intercept 0, as a PET of counts must say and an MR may)
# get a signed type of as many bits as the unsigned numbers need: a slice of at most 255 gets 8 bits, in which 200 is
# -56, one of 40000 gets 16, in which it is -25536. volread takes the type of the FIRST slice for all: where the first
# one lies above the head, the whole volume wraps: 400 becomes -112. Nothing is raised or warned of. Without the two
# elements, which stand for the same, the same pixels are read right. Read DICOM with pydicom.
# Seen: slices of 100, 200, 400: volread int8 [100, -56, -112]; imread of 200: int8 -56, of 40000: int16 -25536; without
# the rescale elements uint16 [100, 200, 400], 200, 40000.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check imageio==2.38.1 pydicom==3.0.2 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import contextlib
import os
import sys
import imageio.v2 as imageio
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid


def write(folder, rescaled, values):
    os.mkdir(folder)
    study, series = generate_uid(), generate_uid()
    for number, value in enumerate(values):
        pet = Dataset()
        pet.file_meta = FileMetaDataset()
        pet.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        pet.SOPClassUID = pet.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        pet.SOPInstanceUID = pet.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        pet.StudyInstanceUID, pet.SeriesInstanceUID = study, series
        pet.Modality, pet.Units, pet.InstanceNumber = "PT", "CNTS", number + 1
        pet.Rows, pet.Columns, pet.SamplesPerPixel, pet.PhotometricInterpretation = 4, 4, 1, "MONOCHROME2"
        pet.BitsAllocated, pet.BitsStored, pet.HighBit, pet.PixelRepresentation = 16, 16, 15, 0
        pet.PixelSpacing, pet.SliceThickness = [4.0, 4.0], 4.0
        pet.ImagePositionPatient, pet.ImageOrientationPatient = [0.0, 0.0, 4.0 * number], [1.0, 0, 0, 0, 1.0, 0]
        if rescaled:
            pet.RescaleSlope, pet.RescaleIntercept = 1, 0
        pet.PixelData = np.full((4, 4), value, np.uint16).tobytes()
        pet.save_as(f"{folder}/{number}.dcm", enforce_file_format=True)


seen = []
for rescaled in (True, False):
    write(f"series {rescaled}", rescaled, (100, 200, 400))
    write(f"one {rescaled}", rescaled, (200,))
    write(f"hot {rescaled}", rescaled, (40000,))
    with contextlib.redirect_stdout(sys.stderr):
        volume = imageio.volread(f"series {rescaled}", format="DICOM")
        single = [imageio.imread(f"{name} {rescaled}/0.dcm", format="DICOM") for name in ("one", "hot")]
    seen.append((str(volume.dtype), [int(part.flat[0]) for part in volume]))
    seen += [(str(image.dtype), int(image.flat[0])) for image in single]
    print("slope 1, intercept 0:" if rescaled else "without them:", *seen[-3:])
wrong = [("int8", [100, -56, -112]), ("int8", -56), ("int16", -25536)]
sys.exit(seen != [*wrong, ("uint16", [100, 200, 400]), ("uint16", 200), ("uint16", 40000)])
PY
