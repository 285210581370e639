"""CPU time until the command line answers, in ratio to another checkout: `python -m benchmarks.answer --base DIR`.

Each command runs in a process of its own, by turns in both checkouts; told are the least of its CPU seconds in each
and their ratio. With `--slices` a DICOM pair of so many slices is fused instead; the seconds of the network's forward
passes, counted in the same process, are told apart from the rest.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from clinicalfmamba_nets.io import write_image

HERE = Path(__file__).resolve().parents[1]
# The installed program's entry, which loads of MONAI what it needs; the CPU seconds of the network's calls are counted.
COUNTED = """
import sys, time, torch
from clinicalfmamba_nets.cli import program
call, spent = torch.nn.Module.__call__, [0.0]
def counted(self, *args, **kwargs):
    if type(self).__name__ != "ClinicalFMamba":
        return call(self, *args, **kwargs)
    start = time.process_time()
    try:
        return call(self, *args, **kwargs)
    finally:
        spent[0] += time.process_time() - start
torch.nn.Module.__call__ = counted
try:
    program()
finally:
    print(f"network {spent[0]} of {time.process_time()}")
"""


def write_pair(folder: Path, slices: int, size: int) -> Path:
    """Write a head of formulas as an MR and a CT series of `slices` slices of `size` x `size`."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    for number in range(2 * slices):
        kind, place = divmod(number, slices)
        radius = np.sqrt(x**2 + (y / 0.9) ** 2 + (1.6 * place / slices - 0.8) ** 2)
        tissue = 40 + 20 * np.cos(9 * x) * np.cos(7 * y)
        voxels = np.where(radius < 0.85, 10 * tissue if kind == 0 else tissue, 0 if kind == 0 else -1000)
        voxels = np.where((radius > 0.78) & (radius < 0.85) & (kind == 1), 900, voxels)
        made = Dataset()
        made.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{4 - 2 * kind}"
        made.SOPInstanceUID, made.SeriesInstanceUID = f"1.2.3.{kind + 10}.{place + 1}", f"1.2.3.{kind + 10}"
        made.StudyInstanceUID, made.FrameOfReferenceUID = "1.2.3.1", "1.2.3.3"
        made.PatientID, made.PatientName = "P7", "Test^Head"
        made.Modality, made.SeriesNumber, made.InstanceNumber = ("MR", "CT")[kind], kind + 1, place + 1
        made.ImageOrientationPatient, made.PixelSpacing = [1, 0, 0, 0, 1, 0], [230 / size, 230 / size]
        made.ImagePositionPatient, made.SliceThickness = [-115.0, -115.0, 0.5 * place], 0.5
        made.Rows = made.Columns = size
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 16
        made.HighBit, made.PixelRepresentation, made.RescaleSlope, made.RescaleIntercept = 15, 1, 1, 0
        made.PixelData = voxels.astype("<i2").T.tobytes()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        target = folder / ("mr", "ct")[kind]
        target.mkdir(parents=True, exist_ok=True)
        made.save_as(target / f"{place:05d}.dcm", enforce_file_format=True)
    return folder


def counted_seconds(checkout: Path, study: Path) -> tuple[float, float]:
    """Return the CPU seconds of the network, and of all else, in a fusion of a study in a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", COUNTED, "fuse", str(study), "--device", "cpu", "-o", out]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    network, whole = float(words[-3]), float(words[-1])
    return network, whole - network


def commands(folder: Path, study: Path | None) -> dict[str, list[str]]:
    """Return the commands by name; OUT stands for a new folder."""
    for name, values in zip(("mri", "ct"), np.random.default_rng(0).integers(0, 255, (2, 256, 256)), strict=True):
        write_image(folder / f"{name}.png", values.astype(np.uint8))
    pair = [str(folder / "mri.png"), str(folder / "ct.png")]
    found = {
        "fuse of one PNG pair": ["fuse", *pair, "--device", "cpu", "-o", "OUT"],
        "fuse missing.png other.png": ["fuse", str(folder / "missing.png"), pair[1], "-o", "OUT"],
        "--help": ["fuse", "--help"],
    }
    return found | ({"info STUDY": ["info", str(study)]} if study else {})


def cpu_seconds(checkout: Path, words: list[str]) -> float:
    """Return the CPU seconds of one command in a checkout."""
    with tempfile.TemporaryDirectory() as out:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [out if word == "OUT" else word for word in words]
        command = [sys.executable, "-m", "clinicalfmamba_nets.cli", *words]
        subprocess.run(command, cwd=checkout, env=environment, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare_pair(base: Path, slices: int, size: int, runs: int) -> None:
    """Fuse a DICOM pair in both checkouts; print what the network took, and all else."""
    with tempfile.TemporaryDirectory() as folder:
        study = write_pair(Path(folder) / "study", slices, size)
        times = [[counted_seconds(place, study) for place in (base, HERE)] for _ in range(runs)]
    for part, name in enumerate(("network", "all else")):
        before, now = (min(run[place][part] for run in times) for place in (0, 1))
        text = f"{name} of a pair of {slices} slices of {size} x {size}"
        print(f"{text}: base {before:5.2f} s  here {now:5.2f} s  ratio {now / before:.2f}", flush=True)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--study", type=Path, help="a folder with DICOM series, for `info`")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--slices", type=int, default=0, help="fuse a DICOM pair of so many slices instead")
    parser.add_argument("--size", type=int, default=128, help="rows and columns of these slices")
    options = parser.parse_args()
    if options.slices:
        compare_pair(options.base.absolute(), options.slices, options.size, options.runs)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, words in commands(Path(folder), options.study).items():
            times = [
                [cpu_seconds(place, words) for place in (options.base.absolute(), HERE)] for _ in range(options.runs)
            ]
            base, here = (min(column) for column in zip(*times, strict=True))
            print(f"{name:<28} base {base:5.2f} s  here {here:5.2f} s  ratio {here / base:.2f}", flush=True)


if __name__ == "__main__":
    main()
