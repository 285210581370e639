"""Left stays left: an off-centre lesion read by every pair of readers, from files stored in any order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import write_image
from clinicalfmamba_nets.transforms import LoadImagePair

PLACE = np.array([[-2.0, 0, 0, 20], [0, -2, 0, 24], [0, 0, 3, -12], [0, 0, 0, 1]])
SHAPE = (20, 24, 9)
LESION = (4, 15, 6)


def head(background):
    """A volume that is not equal to any of its mirror images, with a lesion."""
    index = np.indices(SHAPE)
    volume = background + index[0] + 3 * index[1] + 7 * index[2]
    volume[LESION] = 900
    return volume


def stored(volume, order, flips):
    """The volume and its affine with the axes in another order."""
    affine, volume = PLACE[:, [*order, 3]].copy(), volume.transpose(order)
    for axis in flips:
        affine[:, 3] += affine[:, axis] * (volume.shape[axis] - 1)
        affine[:, axis] *= -1
    return np.flip(volume, flips), affine


def write(folder, kind, volume, order=(0, 1, 2), flips=()):
    """Write the volume in a format, and return what to read."""
    volume, affine = stored(volume, order, flips)
    if kind == "dicom":
        return write_series(folder / "series", volume, affine)
    path = folder / f"{kind}.{ {'nifti': 'nii.gz', 'nrrd': 'nrrd', 'metaimage': 'mha', 'mgh': 'mgz'}[kind] }"
    folder.mkdir(parents=True, exist_ok=True)
    if kind in ("nifti", "nrrd"):
        write_image(path, volume, affine=affine, dtype="int16")
    elif kind == "mgh":
        import nibabel

        nibabel.save(nibabel.MGHImage(volume.astype(np.int16), affine), path)
    else:
        lps = np.diag([-1.0, -1, 1, 1]) @ affine
        sides = np.linalg.norm(lps[:3, :3], axis=0)
        fields = {
            "ObjectType": "Image",
            "NDims": 3,
            "BinaryData": True,
            "BinaryDataByteOrderMSB": False,
            "TransformMatrix": " ".join(map(repr, (lps[:3, :3] / sides).T.ravel().tolist())),
            "Offset": " ".join(map(repr, lps[:3, 3].tolist())),
            "ElementSpacing": " ".join(map(repr, sides.tolist())),
            "DimSize": " ".join(map(str, volume.shape)),
            "ElementType": "MET_SHORT",
            "ElementDataFile": "LOCAL",
        }
        header = "".join(f"{key} = {value}\n" for key, value in fields.items())
        path.write_bytes(header.encode() + volume.astype("<i2").tobytes(order="F"))
    return path


def write_series(folder, volume, affine):
    """Write a DICOM series by hand: positions and orientation of its slices are those of the affine."""
    from pydicom.dataset import Dataset, FileMetaDataset

    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    sides = np.linalg.norm(lps[:3, :3], axis=0)
    for number in range(volume.shape[2]):
        made = Dataset()
        made.SOPClassUID, made.Modality = "1.2.840.10008.5.1.4.1.1.4", "MR"
        made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
        made.SOPInstanceUID, made.PatientID, made.PatientName = f"1.2.3.2.{number + 1}", "P7", "Test^Head"
        made.SeriesNumber, made.InstanceNumber, made.BodyPartExamined = 5, number + 1, "HEAD"
        made.ImageOrientationPatient = [f"{value:.9g}" for value in (lps[:3, :2] / sides[:2]).T.ravel()]
        made.ImagePositionPatient = [f"{value:.9g}" for value in lps[:3, 3] + number * lps[:3, 2]]
        made.PixelSpacing, made.SliceThickness = [sides[1], sides[0]], sides[2]
        made.Rows, made.Columns, made.SamplesPerPixel = volume.shape[1], volume.shape[0], 1
        made.PhotometricInterpretation, made.PixelRepresentation = "MONOCHROME2", 0
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
        made.PixelData = volume[:, :, number].T.astype("<u2").tobytes()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        made.save_as(folder / f"{99 - number}.dcm", enforce_file_format=True)
    return folder


KINDS = ("nifti", "nrrd", "dicom", "metaimage", "mgh")


@pytest.mark.parametrize(
    ("first", "second"), [pair for pair in itertools.product(KINDS, KINDS) if {*pair} & {*KINDS[:3]}]
)
@pytest.mark.parametrize(
    ("order", "flips"),
    [
        ((0, 1, 2), ()),
        ((0, 1, 2), (0,)),
        ((2, 0, 1), (1, 2)),
        ((1, 2, 0), (0, 1, 2)),
    ],
)
def test_the_lesion_stays_where_it_is(tmp_path, first, second, order, flips):
    if second == "dicom" and not np.isclose(np.linalg.det(stored(head(0), order, flips)[1][:3, :3]), 12):
        order, flips = (1, 2, 0), (0,)  # slices of a series follow their normal
        flips = () if np.isclose(np.linalg.det(stored(head(0), order, ())[1][:3, :3]), 12) else flips
    one = write(tmp_path / "one", first, head(100))
    two = write(tmp_path / "two", second, head(10), order, flips)
    image, _ = LoadImagePair(other_grid="refuse")(one, two)
    expected = torch.from_numpy(np.stack([head(100), head(10)]).astype(np.float32))
    if first == "dicom":  # whatever order the reader of series gives: the place in space decides
        where = np.argwhere(image[0].numpy() == 900)
        assert np.allclose(image.affine.numpy() @ [*where[0], 1], PLACE @ [*LESION, 1], atol=1e-3)
        assert len(where) == 1 and image[1][tuple(where[0])] == 900
    else:
        assert torch.equal(image.as_tensor(), expected)
    assert np.allclose(image.affine.numpy() @ [*np.argwhere(image[0].numpy() == 900)[0], 1], PLACE @ [*LESION, 1])


@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("other_grid", ["refuse", "resample"])
def test_without_a_place_voxels_are_paired_by_index_in_both_orders(tmp_path, kind, lost, other_grid):
    paths = [write(tmp_path / name, kind, head(value)) for name, value in (("one", 100), ("two", 10))]
    forget(paths[lost], kind)
    image, _ = LoadImagePair(other_grid=other_grid)(*paths)
    assert torch.equal(image.as_tensor(), torch.from_numpy(np.stack([head(100), head(10)]).astype(np.float32)))
    assert "paired voxel by voxel" in image.meta["warnings"] and str(paths[lost]) in image.meta["warnings"]
    small = write(tmp_path / "small", kind, head(10)[:, :, :5])
    pair = [small, paths[1]] if lost else [paths[0], small]
    with pytest.raises(FusionInputError, match="with no place in space for"):
        LoadImagePair(other_grid=other_grid)(*pair)


@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
def test_without_a_place_nothing_is_paired_with_dicom_nor_registered(tmp_path, kind):
    path = write(tmp_path / "one", kind, head(100))
    forget(path, kind)
    series = write(tmp_path / "two", "dicom", head(10))
    for pair in ((path, series), (series, path)):
        with pytest.raises(FusionInputError, match="expected a place in space as .*series, found none in its header"):
            LoadImagePair(other_grid="resample")(*pair)
    with pytest.raises(FusionInputError, match="a volume to register, found an image without a place in space"):
        LoadImagePair(register="rigid")(path, path)


def forget(path, kind):
    """Take the place in space out of a file."""
    if kind == "nifti":
        import nibabel

        image = nibabel.load(path)
        data = np.asanyarray(image.dataobj).copy()
        image.header["sform_code"] = image.header["qform_code"] = 0
        nibabel.save(nibabel.Nifti1Image(data, None, image.header), path)
    else:
        lines = path.read_bytes().split(b"\n\n", 1)
        kept = [line for line in lines[0].split(b"\n") if not line.startswith(b"space")]
        path.write_bytes(b"\n".join([*kept, b"spacings: 2 2 3"]) + b"\n\n" + lines[1])
