"""Where the tests find real data: CLINICALFMAMBA_DATA, else shared/data beside the checkout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass
class Outcome:
    """What a run of the command line left: exit code and text."""

    code: int
    out: str
    err: str

    @property
    def cause(self) -> str:
        """The last line on stderr."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


def _shared_data() -> Path:
    return Path(os.environ.get("CLINICALFMAMBA_DATA") or CHECKOUT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real pairs, volumes and malformed inputs; where it is absent the test is skipped and says so."""
    folder = _shared_data()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set CLINICALFMAMBA_DATA to the folder that holds aanlib/ and bad/")
    return folder


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Folder with reference outputs of the published network, beside the data folder."""
    folder = _shared_data().parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden cases at {folder}: set CLINICALFMAMBA_DATA to a data folder with golden/ beside it")
    return folder


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Root of the checkout."""
    return CHECKOUT


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process: `run_cli("fuse", a, b, "-o", out)` gives code, stdout and stderr."""
    from clinicalfmamba_nets.cli import main

    def run(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def peak_memory() -> Callable[[], int]:
    """Return what tells by how many KiB this process has grown at most since the test began, whatever ran before it.

    `ru_maxrss` knows the peak of the whole run, and a child inherits its parent's; the mark of Linux can be put back.
    """
    status, clear_refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear_refs.exists():
        pytest.skip("the system tells no peak of memory that can be put back")
    clear_refs.write_text("5")
    before = _peak(status)
    return lambda: _peak(status) - before


def _peak(status: Path) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


@pytest.fixture(scope="session")
def toy_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the fusion bundles, small networks with random weights for every task: for the way, not results."""
    import torch
    from monai.bundle import ConfigParser

    folder = tmp_path_factory.mktemp("bundles")
    sizes = {"features": 4, "dim": 16, "depth": 1}
    for name in ("fusion_2d", "fusion_3d"):
        source = CHECKOUT / "bundles" / name
        root = shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*.pt", "*.ts", "output", "eval"))
        (root / "models").mkdir(exist_ok=True)
        config = root / "configs" / "inference.json"
        content = json.loads(config.read_text()) | sizes
        config.write_text(json.dumps(content))
        for seed, task in enumerate(content["graphs"]):
            torch.manual_seed(seed)
            parser = ConfigParser()
            parser.read_config(str(config))
            parser.update({"bundle_root": str(root), "task": task})
            torch.save(parser.get_parsed_content("network_def").state_dict(), parser.get_parsed_content("ckpt_path"))
    return folder


@pytest.fixture
def toy_cli(
    run_cli: Callable[..., Outcome], toy_bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """`run_cli` with the bundles of `toy_bundles`."""
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(toy_bundles))
    return run_cli


@pytest.fixture
def head_study(tmp_path: Path) -> Callable[..., Path]:
    """`head_study("study", "CT", slices=4)` writes a made head as MR and as CT, PT or NM slices, 48 x 40, one folder.

    `shift` moves the second series by columns of the grid, `edit(number, dataset)` alters its slices.
    """

    def make(
        name: str = "study", modality: str = "CT", slices: int = 4, shift: int = 0, seed: int = 0,
        edit: Callable | None = None,
    ) -> Path:  # fmt: skip
        import numpy as np

        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:40, :48]
        blobs = [(rng.integers(12, 28), rng.integers(14, 34), rng.integers(2, 6)) for _ in range(6)]
        for place in range(slices):
            radius = ((rows - 20) / 17) ** 2 + ((columns - 24) / 20) ** 2 + (place - slices / 2) ** 2 / slices**2
            bone, inside = (radius < 1) & (radius > 0.8), radius <= 0.8
            spots = np.zeros(radius.shape, dtype=int)
            for number, (y, x, size) in enumerate(blobs, 1):
                spots += ((rows - y) ** 2 + (columns - x) ** 2 < size**2) * number
            mr = (300 + 90 * spots + 20 * place) * inside + rng.integers(0, 9, radius.shape)
            other = {
                "CT": np.where(bone, 1900, np.where(inside, 1050 + 8 * spots, 24)),
                "PT": 2000 * spots * inside + 400 * inside,
                "NM": 200 * spots * inside + 40 * inside,
            }[modality]
            other = np.roll(other + rng.integers(0, 5, radius.shape), shift, axis=1)
            for kind, pixels in (("MR", mr), (modality, other)):
                made = head_slice(kind, place, pixels, seed)
                if edit and kind == modality:
                    edit(place, made)
                made.save_as(folder / f"{kind}{place:02d}.dcm", enforce_file_format=True)
        return folder

    return make


def head_slice(modality: str, place: int, pixels: Any, seed: int) -> Any:
    """A pydicom dataset of one axial slice of a made head, 2 x 2 x 3 mm, that a validator accepts."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    kinds = {"CT": "2", "MR": "4", "PT": "128", "NM": "128"}  # NM: a SPECT that is stored as PET
    made, root = Dataset(), f"1.2.826.0.1.3680043.8.498.{1000 + seed}"
    made.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{kinds[modality]}"
    number = list(kinds).index(modality) + 1
    made.StudyInstanceUID, made.SeriesInstanceUID = f"{root}.1", f"{root}.1.{number}"
    made.SOPInstanceUID, made.FrameOfReferenceUID = f"{root}.1.{number}.{place + 1}", f"{root}.9"
    made.PatientID, made.PatientName, made.PatientBirthDate, made.PatientSex = f"P{seed}", "Made^Head", "19700101", "O"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20240102", "101112", "S1", "A1"
    made.ReferringPhysicianName, made.PositionReferenceIndicator, made.PatientPosition = "", "", "HFS"
    made.Modality = "PT" if modality == "NM" else modality
    made.SeriesNumber, made.InstanceNumber, made.BodyPartExamined = number, place + 1, "HEAD"
    made.SeriesDescription = {"NM": "SPECT HMPAO Tc-99m", "PT": "FDG PET"}.get(modality, f"{modality} head")
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.ImageOrientationPatient, made.PixelSpacing, made.SliceThickness = [1, 0, 0, 0, 1, 0], [2, 2], 3
    made.ImagePositionPatient = [-48, -40, 3 * place]
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    if modality != "MR":
        made.RescaleIntercept, made.RescaleSlope = (-1024, 1) if modality == "CT" else (0, 1)
    made.PixelData = pixels.astype("<u2").tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made
