"""Pixels of DICOM series: units, bits, padding, transfer syntaxes; equal to what ITK and other programs read."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.decoders import codestream_size
from clinicalfmamba_nets.io.dicom.read import read_dicom
from clinicalfmamba_nets.spatial import match_grids


def test_ct_is_in_hounsfield_units(make_series):
    array, meta = read_image(make_series(2, Modality="CT"))
    assert array[0, 0].tolist() == [-1024, -924] and array.dtype == np.int16 and meta["notes"] == []
    array, meta = read_image(make_series(2, "bare", Modality="CT", RescaleSlope=None, RescaleIntercept=None))
    assert array.min() == 0 and "stored values are taken as HU" in meta["warnings"][0]


def test_each_slice_has_its_own_slope(make_series):
    def edit(number, made):
        made.RescaleSlope, made.RescaleIntercept = 0.5 + number, 1

    array, _ = read_image(make_series(2, edit=edit))
    assert array.dtype == np.float32 and array[3, 0].tolist() == [2.5, 155.5]


def test_overlay_bits_are_removed_and_signs_extended(make_series):
    pixels = np.array([0xF001, 0x8FFF] * 12, dtype="<u2").tobytes()
    assert read_image(make_series(1, PixelData=pixels))[0].ravel("F")[:2].tolist() == [1, 4095]
    array, _ = read_image(make_series(1, "signed", PixelData=pixels, PixelRepresentation=1))
    assert array.ravel("F")[:2].tolist() == [1, -1]


def test_padding_does_not_stretch_the_range(make_series):
    pixels = np.full(24, 50, dtype="<i2")
    pixels[:5] = -2000
    settings = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15, "PixelData": pixels.tobytes()}
    array, meta = read_image(make_series(1, PixelPaddingValue=-2000, **settings))
    assert array.min() == 50 and "5 voxels without data set to 50" in meta["notes"][0]


def test_a_list_of_files(make_series):
    files = sorted(make_series(3).iterdir())
    assert read_dicom(files)[0].shape == (4, 6, 3)


def test_color_is_kept_and_grey_color_becomes_grey(make_series):
    color = np.arange(72, dtype=np.uint8)
    settings = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "PhotometricInterpretation": "RGB", "SamplesPerPixel": 3,
        "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PlanarConfiguration": 0,
    }  # fmt: skip
    array, meta = read_image(make_series(2, PixelData=color.tobytes(), **settings))
    assert meta["color"] and array.shape == (4, 6, 2, 3) and array[1, 0, 0].tolist() == [3, 4, 5]
    planar = {**settings, "PlanarConfiguration": 1}
    array, _ = read_image(make_series(1, "planar", PixelData=color.tobytes(), **planar))
    assert array[1, 0, 0].tolist() == [1, 25, 49]
    array, meta = read_image(make_series(1, "grey", PixelData=np.repeat(color[:24], 3).tobytes(), **settings))
    assert not meta["color"] and array.shape == (4, 6, 1)


def test_pixels_that_are_not_there(make_series):
    with pytest.raises(FusionInputError, match=r"expected PixelData \(7FE0,0010\), found none"):
        read_image(make_series(1, PixelData=None, SeriesDescription="x" * 60))


def test_too_little_memory_is_told_before_reading(make_series, monkeypatch):
    monkeypatch.setattr("clinicalfmamba_nets.io.files.available_memory", lambda: 100)
    with pytest.raises(FusionInputError, match="expected at most"):
        read_image(make_series(2))


def test_sizes_in_compressed_data_are_read_before_decoding():
    jpeg = bytes.fromhex("ffd8 ffe0 0004 0000 ffc3 000b 10 0100 0080 01")
    assert codestream_size(jpeg) == (256, 128)
    siz = bytes.fromhex("ff4f ff51 0029 0000 00000064 00000040 00000004 00000000")
    assert codestream_size(siz) == (64, 96)
    assert codestream_size(b"\xff\xd8\xff") is None


def test_a_compressed_image_of_another_size_is_refused(shared_data, tmp_path):
    import pydicom

    made = pydicom.dcmread(shared_data / "dicom" / "pydicom_singles" / "MR_small_jpeg_ls_lossless.dcm")
    made.Rows = 32
    made.save_as(tmp_path / "lie.dcm")
    with pytest.raises(FusionInputError, match="expected 32 x 64 pixels, found 64 x 64 in its compressed data"):
        read_image(tmp_path / "lie.dcm")


@pytest.mark.parametrize("name", ["MR_small_bigendian", "MR_small_implicit", "MR_small_jpeg_ls_lossless"])
def test_every_transfer_syntax_gives_the_same_pixels(shared_data, name):
    folder = shared_data / "dicom" / "pydicom_singles"
    expected, meta = read_image(folder / "MR_small.dcm")
    array, other = read_image(folder / f"{name}.dcm")
    assert np.array_equal(array, expected) and np.array_equal(meta["affine"], other["affine"])


@pytest.mark.parametrize("name", ["mr_j2k", "mr_rle", "mr_hitachi_oblique", "mr_rgb"])
def test_volumes_equal_those_of_another_converter(shared_data, name):
    import nibabel

    array, meta = read_image(shared_data / "dicom" / name)
    truth = nibabel.load(shared_data / "dicom" / f"{name}__ground_truth.nii.gz")
    voxels = np.asanyarray(truth.dataobj)
    pairs = (
        [(voxels, array)] if not voxels.dtype.names else [(voxels[key], array[..., at]) for at, key in enumerate("RGB")]
    )
    for expected, found in pairs:
        expected, _ = match_grids(expected, truth.affine, found.shape, meta["affine"])
        assert np.array_equal(expected, found)


@pytest.mark.parametrize("name", ["ct_phantom_5mm", "mr_t1gd_vsseg001", "mr_hitachi_oblique"])
def test_itk_reads_the_same_volume_at_the_same_place(shared_data, name):
    array, meta = read_image(shared_data / "dicom" / name)
    volume, affine = read_by_itk(shared_data / "dicom" / name)
    assert np.array_equal(array, volume) and np.abs(affine - meta["affine"]).max() < 1e-3


def read_by_itk(folder):
    """Voxels (x, y, z) and affine (RAS) by ITK's own series reader."""
    import itk

    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(str(folder))
    image = itk.imread(list(names.GetFileNames(names.GetSeriesUIDs()[0])), itk.F)
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return itk.array_from_image(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine
