"""NRRD files: read as ITK reads them, refused where they are not whole."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image, write_image

AFFINE = np.array([[-0.85, 0.31, 0, 12.5], [-0.31, -0.85, 0, -40], [0, 0, 5.5, 7], [0, 0, 0, 1]])
HEADER = "NRRD0004\ntype: {type}\ndimension: 3\nsizes: 2 3 4\nencoding: {encoding}\nendian: little\n{more}\n"


def make(path, data=bytes(48), **changes):
    """Write a file with a header of our own."""
    path.write_bytes(HEADER.format(**{"type": "short", "encoding": "raw", "more": "", **changes}).encode() + data)
    return path


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8"])
@pytest.mark.parametrize("shape", [(7, 6, 5), (7, 6)])
def test_round_trip(tmp_path, dtype, shape):
    data = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    write_image(tmp_path / "a.nrrd", data, affine=AFFINE, dtype=dtype)
    write_image(tmp_path / "b.nrrd", data.astype(float), like=tmp_path / "a.nrrd")
    array, meta = read_image(tmp_path / "b.nrrd")
    assert np.array_equal(array, data) and array.dtype == dtype
    dims = [*range(len(shape)), 3]
    assert meta["affine"][:, dims] == pytest.approx(AFFINE[:, dims]) and not meta["notes"]


def test_equal_to_itk(shared_data, tmp_path):
    import itk

    path = shared_data / "vol" / "tcga_02_0003" / "brain1_image.nrrd"
    array, meta = read_image(path)
    write_image(tmp_path / "a.nrrd", array, like=path)
    for file in (path, tmp_path / "a.nrrd"):
        image = itk.imread(str(file))
        assert np.array_equal(itk.array_from_image(image).transpose(), array)
        assert np.allclose(np.diag([-1, -1, 1, 1])[:3, :3] @ list(image.GetOrigin()), meta["affine"][:3, 3])
    assert meta["dtype"] == "int16"


def test_spacing_without_a_space_is_noted(tmp_path):
    _, meta = read_image(make(tmp_path / "a.nrrd", more="spacings: 1 2 3\n"))
    assert np.diag(meta["affine"]).tolist() == [1, 2, 3, 1]
    assert meta["coordinates"] == "none" and "place in space not known" in meta["warnings"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": bytes(40)}, "found .* bytes for 2 x 3 x 4 voxels of int16"),
        ({"more": "data file: /etc/hostname\n"}, "a data file in the folder of its header, found /etc/hostname"),
        ({"more": "data file: ../a.raw\n"}, "a data file in the folder of its header"),
        ({"more": "data file: gone.raw\n"}, "no such file"),
        ({"more": "data file: LIST\na.raw\n"}, "all voxels in one data file"),
        ({"encoding": "hex"}, "expected the encoding raw, gzip or bzip2, found hex"),
        ({"encoding": "gzip"}, "truncated or damaged"),
        ({"type": "block"}, "expected voxels of a number type"),
        ({"more": "space: left-posterior-superior\nspace directions: (0,0,0) (0,1,0) (0,0,1)\n"}, "singular"),
    ],
)
def test_bad_files_are_refused(tmp_path, changes, message):
    with pytest.raises(FusionInputError, match=message):
        read_image(make(tmp_path / "bad.nrrd", **changes))


def test_huge_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "bad.nrrd"
    path.write_bytes(
        HEADER.format(type="short", encoding="raw", more="").replace("2 3 4", "30000 30000 30000").encode()
    )
    with pytest.raises(FusionInputError, match="30000 x 30000 x 30000"):
        read_image(path)
    path.write_bytes(b"text")
    with pytest.raises(FusionInputError, match="starts with b'text'"):
        read_image(path)
    path.write_bytes(b"NRRD0004\ntype: short")
    with pytest.raises(FusionInputError, match="an empty line behind the header, found none"):
        read_image(path)
