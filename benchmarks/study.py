"""Fuse a DICOM study of an MR and a CT series and print time and memory: ``python -m benchmarks.study``.

The study is computed: 512 x 512 x 300 voxels, the CT with another pixel spacing, so that it is interpolated to the MR's
grid. It is read, resampled, fused slice by slice and written by the command line in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.roofline import describe_machine

MEASURE = (
    "import resource, sys, time; from clinicalfmamba_nets.cli import main; start = time.perf_counter();"
    "code = main(sys.argv[1:]); used = resource.getrusage(resource.RUSAGE_SELF);"
    "print(f'exit code {code}: {time.perf_counter() - start:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU, '"
    "f'peak {used.ru_maxrss / 2**20:.2f} GiB')"
)


def head(modality: str, size: int, depth: float) -> NDArray[np.uint16]:
    """One slice, at a depth in [-1, 1], of an ellipsoid: skull and soft tissue in CT, a pattern in MR."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = x**2 / 0.5 + y**2 / 0.8 + depth**2
    soft = 1060.0 if modality == "CT" else 600 + 200 * np.sin(9 * x) * np.cos(7 * y)
    image = np.where(radius < 1, soft, 24)
    if modality == "CT":
        image[(radius < 1) & (radius > 0.85)] = 2500
    return (image + np.random.default_rng(0).integers(0, 20, image.shape)).astype(np.uint16)


def write_study(folder: Path, size: int, slices: int) -> None:
    """Write an MR and a CT series of one Frame of Reference."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    study, space = generate_uid(), generate_uid()
    for modality, kind, spacing in (("MR", 4, 256 / size), ("CT", 2, 282 / size)):
        series = generate_uid()
        for number in range(slices):
            made = Dataset()
            made.SOPClassUID, made.SOPInstanceUID = f"1.2.840.10008.5.1.4.1.1.{kind}", generate_uid()
            made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, space
            made.PatientID, made.Modality, made.SeriesNumber, made.InstanceNumber = "P", modality, kind, number + 1
            made.ImageOrientationPatient, made.PixelSpacing = [1, 0, 0, 0, 1, 0], [round(spacing, 6)] * 2
            made.ImagePositionPatient = [-round(spacing * size / 2, 6)] * 2 + [round(0.6 * number, 6)]
            made.Rows = made.Columns = size
            made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
            made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
            if modality == "CT":
                made.RescaleSlope, made.RescaleIntercept = 1, -1024
            made.PixelData = head(modality, size, 2 * number / slices - 1).tobytes()
            made.file_meta = FileMetaDataset()
            made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            made.save_as(folder / f"{modality}{number:04d}.dcm", enforce_file_format=True)


def main() -> None:
    """Read the arguments, write the study, run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="rows and columns (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=300, help="default: %(default)s")
    options = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        study.mkdir()
        write_study(study, options.size, options.slices)
        print(f"MR and CT of {options.size} x {options.size} x {options.slices}")
        command = ["fuse", str(study), "-o", str(Path(folder) / "out"), "--device", "cpu"]
        subprocess.run([sys.executable, "-c", MEASURE, *command], check=True)


if __name__ == "__main__":
    main()
