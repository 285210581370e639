"""A screen in color beside an MR series is taken as SPECT, as a picture in color is."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets.engine.fusion.case import Case, Source
from clinicalfmamba_nets.engine.run.tasks import choose_task


@pytest.mark.parametrize(
    ("word", "color", "task"),
    [("", True, "spect_mri"), ("", False, "ct_mri"), ("pet", True, "pet_mri"), ("flair", True, "t2_flair")],
)
def test_the_task_of_series(word, color, task):
    chosen, told = choose_task(("mri", word), color, volume=True, series=True)
    assert chosen == task and ("in color" in told) == color


def write_slice(path, photometric):
    """One DICOM slice of 4 x 6 pixels: an MR image, or a screen in color."""
    from pydicom.dataset import Dataset, FileMetaDataset

    made, color = Dataset(), photometric == "RGB"
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7" if color else "1.2.840.10008.5.1.4.1.1.4"
    made.SOPInstanceUID = made.SeriesInstanceUID = "1.2.9" if color else "1.2.8"
    made.StudyInstanceUID, made.FrameOfReferenceUID, made.Modality = "1.2", "1.3", "OT" if color else "MR"
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness, made.Rows, made.Columns = [1, 1], 2, 4, 6
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 3 if color else 1, photometric, 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
    if color:
        made.PlanarConfiguration = 0
    made.PixelData = bytes(range(24 * made.SamplesPerPixel))
    made["PixelData"].VR = "OB"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made.save_as(path, enforce_file_format=True)
    return path


def test_the_color_of_a_series_is_told_by_its_header(tmp_path):
    mri = Source(write_slice(tmp_path / "mri.dcm", "MONOCHROME2"))
    screen = Source(write_slice(tmp_path / "screen.dcm", "RGB"))
    assert screen.color and not mri.color
    assert Case("a", mri, screen).task()[0] == "spect_mri" and Case("a", mri, mri).task()[0] == "t2_flair"


def test_a_named_ct_in_color_is_told_as_one(tmp_path):
    import numpy as np

    from clinicalfmamba_nets.engine.fusion.case import Case
    from clinicalfmamba_nets.io import write_image

    grey = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    screen = np.stack([grey] * 3, -1)
    screen[4:6, 4:9] = (250, 240, 20)
    for name, pixels in (("mr", grey), ("ct", screen)):
        write_image(tmp_path / f"{name}.png", pixels)
    entry = {"case": "1", "image": str(tmp_path / "mr.png"), "image2": str(tmp_path / "ct.png")}
    task, told = Case.of(entry).task()
    assert task == "ct_mri" and "in color and named CT" in told


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(("grey", "task"), [(False, "spect_mri"), (True, "t2_flair")])
def test_the_task_of_a_volume_in_color_without_a_telling_name(tmp_path, ending, grey, task):
    import numpy as np

    from clinicalfmamba_nets.io import write_image
    from clinicalfmamba_nets.io.nifti_color import write_rgb_nifti
    from clinicalfmamba_nets.io.nrrd import write_rgb_nrrd

    rgb = np.random.default_rng(0).integers(0, 255, (6, 5, 4, 3))
    rgb = np.repeat(rgb[..., :1], 3, axis=-1) if grey else rgb
    second = tmp_path / f"x{ending}"
    if ending == ".mha":
        head = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_UCHAR\nElementNumberOfChannels = 3\n"
        head += "BinaryData = True\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\n"
        voxels = rgb.transpose(2, 1, 0, 3).astype(np.uint8).tobytes()
        second.write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + voxels)
    else:
        {".nii.gz": write_rgb_nifti, ".nrrd": write_rgb_nrrd}[ending](second, rgb, np.eye(4))
    write_image(tmp_path / "a.nii", np.arange(120.0).reshape(6, 5, 4))
    case = Case("7", Source(str(tmp_path / "a.nii")), Source(str(second)))
    assert case.task()[0] == task and ("in color" in case.task()[1]) != grey
