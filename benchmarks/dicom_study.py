"""How long a large DICOM study takes to be listed: `python benchmarks/dicom_study.py [--files 3000 --series 12]`.

The study is made by formulas in a temporary folder. The time is that of `clinicalfmamba info` in a process of its own:
CPU seconds, and the most memory it held. Exit code 1 where they are above 6 s or 300 MiB.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MOST_SECONDS, MOST_MIB = 6.0, 300.0


def write_study(folder: Path, files: int, series: int, elements: int = 40) -> None:
    """Write MR series of equal length; `elements` private ones bring a header to the size of a scanner's."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    for number in range(files):
        run, place = number % series, number // series
        made = Dataset()
        made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{run + 10}.{place + 1}"
        made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.1", f"1.2.3.{run + 10}"
        made.FrameOfReferenceUID, made.PatientID, made.PatientName = "1.2.3.3", "P7", "Test^Head"
        made.Modality, made.SeriesNumber, made.SeriesDescription = "MR", run + 1, f"series {run + 1}"
        made.ImageType, made.EchoTime, made.RepetitionTime = ["ORIGINAL", "PRIMARY", "M"], 10.0 + run, 3000.0
        made.InstanceNumber, made.FlipAngle, made.SequenceName = place + 1, 90.0, "tse2d1_15"
        made.ImageOrientationPatient, made.PixelSpacing = [1, 0, 0, 0, 1, 0], [1.0, 1.0]
        made.ImagePositionPatient, made.SliceThickness = [-32.0, -32.0, round(0.7 * place, 3)], 0.7
        made.Rows = made.Columns = 64
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 16
        made.HighBit, made.PixelRepresentation = 15, 0
        block = made.private_block(0x0029, "BENCHMARK", create=True)
        for element in range(elements):
            block.add_new(element, "LO", f"value {element}")
        made.PixelData = np.full((64, 64), place, "<u2").tobytes()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        target = folder / f"series{run:02d}"
        target.mkdir(exist_ok=True)
        made.save_as(target / f"{place:05d}.dcm", enforce_file_format=True)


def listed(folder: Path) -> tuple[float, float, str]:
    """Run `clinicalfmamba info` on a folder; return CPU seconds, MiB and its last line."""
    code = "import sys; from clinicalfmamba_nets.cli import main; sys.exit(main(['info', sys.argv[1]]))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, after.ru_maxrss / 1024, done.stdout.strip().splitlines()[-1]


def main() -> int:
    """Make the study, list it and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--series", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_study(Path(name), options.files, options.series)
        seconds, memory, last = listed(Path(name))
    print(f"{options.files} files, {options.series} series: {seconds:.1f} s of CPU, {memory:.0f} MiB; {last}")
    return int(seconds > MOST_SECONDS or memory > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main())
