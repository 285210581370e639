"""Compressed frames that are not whole or not what their header says; deflated files with bytes behind their stream."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.decoders import codestream_size


def jpeg_file(dicom_file, path, data, samples=1):
    """A secondary capture of 16 x 16 pixels that holds JPEG data."""

    def edit(made):
        from pydicom.encaps import encapsulate

        made.SOPClassUID, made.Rows, made.Columns = "1.2.840.10008.5.1.4.1.1.7", 16, 16
        made.BitsAllocated, made.BitsStored, made.HighBit, made.SamplesPerPixel = 8, 8, 7, samples
        made.PhotometricInterpretation = "YBR_FULL_422" if samples == 3 else "MONOCHROME2"
        made.PixelData = encapsulate([data])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"

    return dicom_file(path, 1, edit)


def jpeg(samples, size=16):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (size, size, samples)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels if samples == 3 else pixels[..., 0]).save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.mark.parametrize("samples", [1, 3])
def test_a_jpeg_image_that_is_cut_is_refused(dicom_file, tmp_path, samples):
    whole = jpeg(samples)
    assert read_image(jpeg_file(dicom_file, tmp_path / "whole.dcm", whole, samples))[0].shape[:2] == (16, 16)
    with pytest.raises(FusionInputError, match="a whole JPEG image, found one without its end"):
        read_image(jpeg_file(dicom_file, tmp_path / "cut.dcm", whole[: len(whole) // 2], samples))


@pytest.mark.parametrize("samples", [1, 3])
def test_a_jpeg_image_of_another_size_is_refused(dicom_file, tmp_path, samples):
    path = jpeg_file(dicom_file, tmp_path / "size.dcm", jpeg(samples, 32), samples)
    with pytest.raises(FusionInputError, match="expected 16 x 16 pixels, found 32 x 32"):
        read_image(path)


def test_a_jpeg_image_of_very_many_scans_is_refused_before_it_is_decoded(dicom_file, tmp_path):
    data = jpeg(3).replace(b"\xff\xd9", bytes.fromhex("ffda 0008 01 01 00 00 3f 00") * 200 + b"\xff\xd9")
    with pytest.raises(FusionInputError, match="expected at most 100 scans, found 201"):
        read_image(jpeg_file(dicom_file, tmp_path / "scans.dcm", data, 3))


def test_the_size_of_a_codestream_inside_of_a_jp2_file():
    stream = bytes.fromhex("ff4f ff51 0029 0000 00000040 00000060 00000000 00000000")
    box = bytes.fromhex("0000000c 6a502020 0d0a870a 00000014 66747970")
    assert codestream_size(box + stream) == (96, 64) and codestream_size(box) is None


@pytest.mark.parametrize("padding", [1, 100, 3_000_000])
def test_bytes_behind_a_deflated_stream_cost_no_time(dicom_file, tmp_path, padding):
    def edit(made):
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"

    path = dicom_file(tmp_path / "deflated.dcm", 1, edit)
    expected, _ = read_image(path)
    with open(path, "ab") as file:
        file.write(b"\0" * padding)
    start = time.process_time()
    array, _ = read_image(path)
    assert np.array_equal(array, expected) and time.process_time() - start < 5


def test_a_deflated_bomb_is_refused_before_it_is_unpacked(dicom_file, tmp_path, monkeypatch):
    import zlib

    def edit(made):
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"

    path = dicom_file(tmp_path / "bomb.dcm", 1, edit)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    monkeypatch.setattr("clinicalfmamba_nets.io.dicom.parsing._MAX_DEFLATED", 2**24)
    pack = zlib.compressobj(9, wbits=-15)
    with open(path, "wb") as file:
        file.write(data[:start])
        file.write(pack.compress(bytes(2**26)))
        file.write(pack.flush())
    with pytest.raises(FusionInputError, match="deflated data of more than"):
        read_image(path)
