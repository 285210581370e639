"""Studies for the applications, and the interpreters of their environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

TINY_CLASSIFIER = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8]}
TINY_FUSION = {
    "fusion_features": 4,
    "fusion_dim": 16,
    "fusion_depth": 1,
    "fusion_decoder_depth": 1,
    "fusion_d_state": 4,
}


@pytest.fixture(scope="session")
def interpreter() -> Callable[[str, str], str]:
    """`interpreter(module, variable)`: a Python that can import the module: the named one, else the present one."""

    @lru_cache
    def find(module: str, variable: str) -> str:
        python = os.environ.get(variable) or sys.executable
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True, check=False)
        if done.returncode:
            cause = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"{python} cannot import {module} ({cause}); set {variable} to a Python that can")
        return python

    return find


@pytest.fixture
def small_study(shared_data: Path, tmp_path: Path) -> Path:
    """Three positions of two contrasts of a phantom, in one series of the echo times 11 and 92 ms."""
    import pydicom

    folder = tmp_path / "study"
    folder.mkdir()
    files = sorted((shared_data / "dicom" / "mr_pd_t2_dual_echo").iterdir())
    places = {file: float(pydicom.dcmread(file).ImagePositionPatient[0]) for file in files}
    kept = sorted(set(places.values()))[16:19]
    for file in files:
        if places[file] in kept:
            shutil.copy(file, folder)
    return folder


@pytest.fixture
def mixed_study(small_study: Path) -> Path:
    """`small_study` with the second contrast as a CT series of its own."""
    import pydicom

    for file in small_study.iterdir():
        image = pydicom.dcmread(file)
        if float(image.EchoTime) > 50:
            image.Modality, image.SOPClassUID = "CT", "1.2.840.10008.5.1.4.1.1.2"
            image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
            image.SeriesInstanceUID, image.RescaleSlope, image.RescaleIntercept = "1.2.3.4", 1, -1024
            image.save_as(file)
    return small_study


@pytest.fixture(scope="session")
def grading_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight phantoms in the layout of BraTS 2019."""
    from clinicalfmamba_nets.data import write_brats_phantoms

    return write_brats_phantoms(tmp_path_factory.mktemp("data") / "phantoms", 4, 4, "easy", (24, 28, 20))


@pytest.fixture(scope="session")
def grading_model(grading_phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny training on the phantoms: the input `clinicalfmamba`, its fusion network in `fusion`."""
    import torch

    from clinicalfmamba_nets.engine import run_bundle

    folder = tmp_path_factory.mktemp("model")
    common = {"dataset_dir": str(grading_phantoms), "roi_size": [16, 16, 8], "epochs": 1, "val_fraction": 0.25}
    common |= {"input": "clinicalfmamba", "device": torch.device("cpu"), **TINY_FUSION}
    run_bundle("glioma_grading", "train_fusion", overrides={**common, "output_dir": str(folder / "fusion")})
    run_bundle("glioma_grading", "train", overrides={**common, **TINY_CLASSIFIER, "output_dir": str(folder)})
    return folder


@pytest.fixture(scope="session")
def grading_patient(grading_phantoms: Path) -> dict[str, str]:
    """One of the phantoms: `image` (T2) and `image2` (FLAIR), NIfTI."""
    from clinicalfmamba_nets.engine.grading.lists import grading_datalist

    return grading_datalist(grading_phantoms)[0]


@pytest.fixture(scope="session")
def graded_by_the_bundle(
    grading_patient: dict[str, str], grading_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, float]:
    """`mean`, `max` and `slices` of the patient, from the bundle's own inference on the NIfTI files."""
    import torch

    from clinicalfmamba_nets.engine import run_bundle
    from clinicalfmamba_nets.engine.grading.log import read_rows

    out = tmp_path_factory.mktemp("graded")
    given = {"t2": grading_patient["image"], "flair": grading_patient["image2"], "input": "clinicalfmamba"}
    given |= {"model_dir": str(grading_model), "output_dir": str(out), "cache_dir": str(out), "roi_size": [16, 16, 8]}
    given |= {**TINY_FUSION, **TINY_CLASSIFIER, "device": torch.device("cpu")}
    run_bundle("glioma_grading", "inference", overrides=given)
    (row,) = read_rows(out / "patients.csv")
    return row


@pytest.fixture
def grading_study(grading_patient: dict[str, str], tmp_path: Path) -> Path:
    """The patient as a DICOM study: T1 (its T2 again), FLAIR and T2, in this order."""
    folder = tmp_path / "study"
    for number, name in enumerate(("t1_mprage", "t2_flair_tra", "t2_tse_tra"), 1):
        source = grading_patient["image2" if number == 2 else "image"]
        _write_series(folder, source, number, name)
    return folder


def _write_series(folder: Path, source: str, number: int, description: str) -> None:
    """Write a NIfTI volume as an MR series of the study 1.2.3.1."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    from clinicalfmamba_nets.io import read_image

    volume, meta = read_image(source)
    place = np.diag([-1.0, -1.0, 1.0, 1.0]) @ meta["affine"]
    sides = np.linalg.norm(place[:3, :3], axis=0)
    folder.mkdir(exist_ok=True)
    for plane in range(volume.shape[2]):
        made = Dataset()
        made.SOPClassUID, made.StudyInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.1"
        made.SeriesInstanceUID, made.SOPInstanceUID = f"1.2.3.2.{number}", f"1.2.3.2.{number}.{plane + 1}"
        made.FrameOfReferenceUID, made.Modality, made.SeriesNumber = "1.2.3.3", "MR", number
        made.SeriesDescription, made.InstanceNumber = description, plane + 1
        made.PatientID, made.PatientName, made.PatientBirthDate = "P7", "Phantom^Head", "19700101"
        made.StudyID, made.StudyDate, made.AccessionNumber = "S1", "20200102", "A1"
        axes = [place[:3, axis] / sides[axis] for axis in (0, 1)]
        made.ImageOrientationPatient = [round(float(value), 6) for value in np.concatenate(axes)]
        position = place[:3, 3] + plane * place[:3, 2]
        made.ImagePositionPatient = [round(float(value), 6) for value in position]
        made.PixelSpacing = [round(float(side), 6) for side in sides[[1, 0]]]
        made.SliceThickness = round(float(sides[2]), 6)
        made.Columns, made.Rows = volume.shape[:2]
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
        made.PixelData = np.ascontiguousarray(volume[:, :, plane].T).astype("<u2").tobytes()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.save_as(folder / f"{number}_{plane:03d}.dcm", enforce_file_format=True)
