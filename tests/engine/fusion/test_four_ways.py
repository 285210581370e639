"""The same bytes by the command line, by `python -m monai.bundle run`, and by what Label and Deploy call."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clinicalfmamba_nets.engine import run_bundle
from clinicalfmamba_nets.engine.fusion.case import Case
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.io import read_image, write_image
from clinicalfmamba_nets.transforms import SaveFused

SIZE = (32, 40, 5)
AFFINE = np.array([[-0.9, 0, 0, 20], [0, 0, 3.0, -30], [0, -0.9, 0, 15], [0, 0, 0, 1]])  # coronal slices


def write_series(folder: Path, volume: np.ndarray, modality: str, uid: str) -> None:
    """Write a volume (columns, rows, slices) as axial slices of one study."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True)
    for number in range(volume.shape[2]):
        made = Dataset()
        made.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
        made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = "1.2.4.1", uid, f"{uid}.{number + 1}"
        made.FrameOfReferenceUID, made.PatientID, made.PatientName = "1.2.4.3", "P7", "Test^Head"
        made.Modality, made.SeriesNumber, made.InstanceNumber = modality, len(uid), number + 1
        made.ImageOrientationPatient, made.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.9, 0.9]
        made.ImagePositionPatient, made.SliceThickness = [-15, -18, 3.0 * number], 3
        made.Rows, made.Columns, made.SamplesPerPixel = volume.shape[1], volume.shape[0], 1
        made.PhotometricInterpretation, made.PixelRepresentation = "MONOCHROME2", 0
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
        if modality == "CT":
            made.RescaleSlope, made.RescaleIntercept = 1, -1024
        made.PixelData = np.ascontiguousarray(volume[..., number].T.astype("<u2")).tobytes()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def make(kind: str, folder: Path) -> tuple[str, str]:
    """Write a pair of a kind and return the paths of its images."""
    values = np.random.default_rng(1).integers(1, 255, (2, *SIZE)).astype(np.int16)
    if kind == "DICOM series":
        write_series(folder / "study" / "a", values[0], "MR", "1.2.4.2")
        write_series(folder / "study" / "b", values[1] + 900, "CT", "1.2.4.22")
        return f"{folder / 'study'}::MR", f"{folder / 'study'}::CT"
    end = ".nii.gz" if kind == "NIfTI volume" else ".png"
    paths = folder / f"mri{end}", folder / f"ct{end}"
    for path, volume in zip(paths, values, strict=True):
        if end == ".png":
            write_image(path, volume[..., 0].astype(np.uint8))
        else:
            write_image(path, volume, affine=AFFINE, dtype="int16")
    return str(paths[0]), str(paths[1])


def content(path: Path) -> list[bytes]:
    """The bytes of a result; of a series, whose UIDs are always new, those of its pixels."""
    if path.is_dir():
        from pydicom import dcmread

        return [dcmread(file).PixelData for file in sorted(path.iterdir())]
    return [path.read_bytes() if path.suffix == ".png" else np.ascontiguousarray(read_image(path)[0]).tobytes()]


@pytest.mark.parametrize(
    ("kind", "task", "bundle"),
    [
        ("DICOM series", "ct_mri", "fusion_2d"),
        ("DICOM series", "t2_flair", "fusion_3d"),
        ("NIfTI volume", "ct_mri", "fusion_2d"),
        ("NIfTI volume", "t2_flair", "fusion_2d"),
        ("NIfTI volume", "t2_flair", "fusion_3d"),
        ("PNG pair", "ct_mri", "fusion_2d"),
    ],
)
def test_every_way_gives_the_same(toy_cli, tmp_path, kind, task, bundle):
    image, image2 = make(kind, tmp_path / "in")
    entry = {"image": image, "image2": image2, "case": "one"}
    (tmp_path / "list.json").write_text(json.dumps({"testing": [entry]}))
    words = ("--datalist", tmp_path / "list.json", "--task", task, "--device", "cpu")
    words += ("--bundle", bundle) if bundle == "fusion_3d" else ()
    done = toy_cli("fuse", *words, "-o", tmp_path / "cli")
    assert done.code == 0 and json.loads((tmp_path / "cli" / "run.json").read_text())["records"][0]["bundle"] == bundle
    settings = {"datalist": str(tmp_path / "list.json"), "output_dir": str(tmp_path / "bundle"), "task": task}
    run_bundle(bundle, overrides=settings)
    sample = FusionPipeline(task, "cpu", bundle=bundle)(Case.of(entry).entry())  # what Label and Deploy do
    served = SaveFused(tmp_path / "served")(sample["pred"], sample["image"].meta, "one")
    expected = content(tmp_path / "cli" / served.name)
    assert content(tmp_path / "bundle" / served.name) == expected and content(served) == expected


def test_each_header_is_read_once(toy_cli, tmp_path, monkeypatch):
    from clinicalfmamba_nets.io.dicom import study

    read, seen = study.read_header, []
    monkeypatch.setattr(study, "read_header", lambda path: seen.append(str(path)) or read(path))
    make("DICOM series", tmp_path / "in")
    assert toy_cli("fuse", tmp_path / "in" / "study", "-o", tmp_path / "out").code == 0
    assert len(seen) == 2 * SIZE[2] and len(set(seen)) == len(seen)
    again = toy_cli("fuse", tmp_path / "in" / "study", "-o", tmp_path / "out")
    assert "already there" in again.out and len(seen) == 4 * SIZE[2]


def test_the_order_of_storage_changes_nothing(tmp_path):
    import torch
    from monai.data import MetaTensor

    from clinicalfmamba_nets.engine import SliceInferer
    from clinicalfmamba_nets.spatial.grids import reorder

    volume = np.random.default_rng(2).random((2, *SIZE)).astype(np.float32)

    def network(image):  # unlike for mirrored and turned slices
        return image[:, :1] + torch.linspace(0, 1, image.shape[2])[:, None] + torch.linspace(0, 3, image.shape[3])

    def fused(array, affine):
        inputs = MetaTensor(torch.from_numpy(np.ascontiguousarray(array))[None], affine=torch.as_tensor(affine)[None])
        return SliceInferer()(inputs, network)[0, 0].numpy()

    expected, _ = reorder(fused(volume, AFFINE), AFFINE, np.eye(4))
    turned = [reorder(channel, AFFINE, np.eye(4)) for channel in volume]
    assert np.array_equal(fused(np.stack([array for array, _ in turned]), turned[0][1]), expected)
