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
