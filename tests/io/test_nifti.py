"""NIfTI files: header judged first, geometry and type kept, damaged files refused in one line."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image, write_image

AFFINE = np.array([[-0.85, 0.31, 0, 12.5], [-0.31, -0.85, 0, -40], [0, 0, 5.5, 7], [0, 0, 0, 1]])


def save(path, array, affine=AFFINE, kind=nibabel.Nifti1Image, scale=None):
    """Write a NIfTI file by nibabel."""
    image = kind(array, affine)
    if scale:
        image.header.set_slope_inter(*scale)
    nibabel.save(image, path)
    return path


def volume(dtype=np.int16, shape=(7, 6, 5)):
    """Random voxels."""
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "<i4", ">i2", ">f4", "float64", "uint16"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_type_and_geometry_survive(tmp_path, dtype, name, kind):
    data = volume(dtype)
    header = kind.header_class(endianness=">" if dtype.startswith(">") else "<")
    image = kind(data, AFFINE, header)
    image.set_data_dtype(np.dtype(dtype))
    nibabel.save(image, tmp_path / name)
    array, meta = read_image(tmp_path / name)
    assert np.array_equal(array, data) and array.dtype.isnative
    assert meta["affine"] == pytest.approx(AFFINE, abs=1e-6) and meta["dtype"] == np.dtype(dtype).newbyteorder("=").name
    result = tmp_path / f"fused_{name}"
    write_image(result, array.astype(np.float32), like=tmp_path / name)
    one, two = nibabel.load(tmp_path / name), nibabel.load(result)
    assert np.array_equal(two.get_fdata(), data) and np.array_equal(one.affine, two.affine)
    for field in ("datatype", "pixdim", "qform_code", "sform_code", "xyzt_units", "dim"):
        assert np.array_equal(one.header[field], two.header[field]), field
    assert two.header.endianness == one.header.endianness


def test_of_two_files_the_named_one_is_read(tmp_path):
    """Beside a.nii, ITK 5.4.7 (SimpleITK 2.5.7) gives the voxels of a.nii for a.nii.gz, with the header of a.nii.gz."""
    for value, name in enumerate(("a.nii", "a.nii.gz")):
        save(tmp_path / name, np.full((4, 5, 6), value, np.int16))
    assert [np.unique(read_image(tmp_path / name)[0]).tolist() for name in ("a.nii", "a.nii.gz")] == [[0], [1]]


def test_scale_of_the_header_is_applied_and_undone(tmp_path):
    raw = volume(np.uint8)
    image = nibabel.Nifti1Image(raw, AFFINE)
    image.header.set_slope_inter(0.5, -3)
    with open(tmp_path / "a.nii", "wb") as file:
        image.header["vox_offset"] = 352
        image.header.write_to(file)
        file.seek(352)
        file.write(raw.tobytes(order="F"))
    array, _ = read_image(tmp_path / "a.nii")
    assert np.allclose(array, raw * 0.5 - 3)
    write_image(tmp_path / "b.nii", array, like=tmp_path / "a.nii")
    again = nibabel.load(tmp_path / "b.nii")
    assert again.get_data_dtype() == np.uint8 and np.allclose(again.get_fdata(), array)


def test_trailing_dimensions_and_flat_images(tmp_path):
    for shape, kept in [
        ((7, 6), (7, 6)),
        ((7, 6, 1), (7, 6, 1)),
        ((7, 6, 5, 1), (7, 6, 5)),
        ((7, 6, 1, 1, 1), (7, 6, 1)),
    ]:
        path = save(tmp_path / "a.nii.gz", volume(shape=shape))
        array, _ = read_image(path)
        assert array.shape == kept
        write_image(tmp_path / "b.nii.gz", array.reshape([side for side in kept if side > 1]), like=path)
        assert nibabel.load(tmp_path / "b.nii.gz").shape == shape
        assert np.array_equal(nibabel.load(tmp_path / "b.nii.gz").get_fdata(), nibabel.load(path).get_fdata())


def test_two_channels_in_one_file(tmp_path):
    for shape, kept in [((7, 6, 2), (7, 6, 2)), ((7, 6, 5, 2), (7, 6, 5, 2)), ((7, 6, 1, 1, 2), (7, 6, 2))]:
        path = save(tmp_path / "a.nii.gz", volume(shape=shape))
        array, _ = read_image(path, two_channels=True)
        assert array.shape == kept and np.array_equal(array.ravel(), volume(shape=shape).ravel())
    with pytest.raises(FusionInputError, match="expected two images, found one of 7 x 6 x 5"):
        read_image(save(tmp_path / "a.nii.gz", volume()), two_channels=True)


def test_result_at_another_place_or_of_another_type(tmp_path):
    path = save(tmp_path / "a.nii.gz", volume())
    moved = AFFINE @ np.diag([2.0, 2.0, 1.0, 1.0])
    write_image(tmp_path / "b.nii", np.full((4, 3, 5), 0.25), like=path, affine=moved, dtype="float32")
    again = nibabel.load(tmp_path / "b.nii")
    assert again.shape == (4, 3, 5) and again.get_data_dtype() == np.float32 and (again.get_fdata() == 0.25).all()
    assert np.allclose(again.affine, moved, atol=1e-4)
    write_image(tmp_path / "c.nii", np.zeros((4, 3)), affine=moved)
    assert np.allclose(nibabel.load(tmp_path / "c.nii").affine, moved, atol=1e-6)


def damaged(path, place, content):
    """Write a file with other bytes at a place, or cut off there."""
    whole = save(path, volume()).read_bytes()
    path.write_bytes(whole[:place] + (content + whole[place + len(content) :] if content else b""))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: save(path, volume().astype(np.complex64)), "expected real numbers, found complex64"),
        (lambda path: save(path, volume(shape=(7, 6, 5, 2))), r"found 4D \(7 x 6 x 5 x 2\)"),
        (lambda path: save(path, np.full((7, 6, 5), np.nan, np.float32)), r"finite values, found 210 NaN .*\(100 %\)"),
        (lambda path: save(path, np.full((7, 6, 5), np.inf, np.float32)), "expected finite values"),
        (lambda path: damaged(path, 500, None), "truncated"),
        (lambda path: damaged(path, 40, b"\3\0\0\0\0\0\0\0"), "size 0 x"),
        (lambda path: damaged(path, 0, b"abcd"), "header should be"),
        (lambda path: damaged(path, 70, b"\xff\x7f"), "datatype 32767"),
        (lambda path: damaged(path, 344, b"ni1\0"), "expected a NIfTI image in one file"),
        (lambda path: damaged(path, 280, bytes(48)), "singular one"),
        (lambda path: path.write_bytes(gzip.compress(b"x" * 400)), "expected an uncompressed NIfTI image"),
        (lambda path: path.write_bytes(b"x"), "b'x' where its header should be"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (lambda path: path.mkdir(), "found a folder"),
        (lambda path: None, "no such file"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, make, message):
    make(tmp_path / "bad.nii")
    with pytest.raises(FusionInputError, match=message) as error:
        read_image(tmp_path / "bad.nii")
    assert "bad.nii" in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_checksum_is_found(tmp_path):
    path = save(tmp_path / "a.nii.gz", volume())
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(FusionInputError, match="damaged one .BadGzipFile"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated.nii.gz", "truncated or damaged"),
        ("zero_bytes.nii.gz", "0 bytes"),
        ("text.nii.gz", "starts with b'this is '"),
        ("huge_dims_header.nii", "30000 x 30000 x 30000"),
        ("nan_1pct.nii.gz", "NaN"),
        ("dim4d.nii.gz", "4D"),
        ("complex64.nii.gz", "complex64"),
    ],
)
def test_bad_volumes_of_the_collection(shared_data, name, message, peak_memory):
    with pytest.raises(FusionInputError, match=f"{name}.*{message}"):
        read_image(shared_data / "bad" / "nifti" / name)
    assert peak_memory() < 64 * 1024  # KiB


def test_the_memory_that_is_left_is_respected(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii.gz", volume())
    monkeypatch.setattr("clinicalfmamba_nets.io.files.available_memory", lambda: 1000)
    with pytest.raises(FusionInputError, match="expected at most 0.0 GiB, found an image that needs 0.0 GiB"):
        read_image(path)
