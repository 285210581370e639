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


def lossless_jpeg(plane, bits):
    """A plane (rows, columns) as lossless JPEG (SOF3), each pixel predicted by the one before it."""
    rows, columns = plane.shape
    stored = plane.astype(np.int64) % 2**bits
    before = np.empty_like(stored)
    before[:, 1:], before[1:, 0], before[0, 0] = stored[:, :-1], stored[:-1, 0], 2 ** (bits - 1)
    code = ""
    for step in ((stored - before + 2**15) % 2**16 - 2**15).ravel().tolist():
        size = abs(step).bit_length()
        code += f"{size:05b}"  # 17 categories, each with a code of 5 bits
        if 0 < size < 16:
            code += f"{step if step > 0 else step + (1 << size) - 1:0{size}b}"
    code += "1" * (-len(code) % 8)
    data = int(code, 2).to_bytes(len(code) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = bytes([0xFF, 0xC3, 0, 11, bits, *rows.to_bytes(2, "big"), *columns.to_bytes(2, "big"), 1, 1, 0x11, 0])
    table = bytes([0xFF, 0xC4, 0, 19 + 17, 0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    return b"\xff\xd8" + frame + table + bytes([0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, 0]) + data + b"\xff\xd9"


def run_lengths(plane, bits):
    """A plane of 16 bits in RLE Lossless, every run literal."""
    halves = [(plane.astype(np.int64) % 2**16 >> shift & 255).astype(np.uint8) for shift in (8, 0)]
    parts = [b"".join(bytes([len(row) - 1]) + row.tobytes() for row in half) for half in halves]
    parts = [part + b"\0" * (len(part) % 2) for part in parts]
    starts = [2, 64, 64 + len(parts[0]), *[0] * 13]
    return b"".join([*(start.to_bytes(4, "little") for start in starts), *parts])


CODECS = {"rle": (run_lengths, "1.2.840.10008.1.2.5"), "jpeg": (lossless_jpeg, "1.2.840.10008.1.2.4.70")}
every_codec = pytest.mark.parametrize("codec", CODECS)


def packed_file(dicom_file, path, plane, codec, bits=16, **settings):
    """An MR slice of 16 bits, or of 8, whose pixels are compressed."""
    encode, syntax = CODECS[codec]

    def edit(made):
        from pydicom.encaps import encapsulate

        made.Rows, made.Columns = plane.shape
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = bits, bits, bits - 1, 0
        for keyword, value in settings.items():
            setattr(made, keyword, value)
        data = encode(plane, bits)
        made.PixelData = encapsulate([data + b"\0" * (len(data) % 2)])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = syntax

    return dicom_file(path, 1, edit)


def values(low, high, shape=(9, 12)):
    return np.random.default_rng(5).integers(low, high + 1, shape)


@every_codec
@pytest.mark.parametrize(
    ("low", "high", "settings"),
    [
        (0, 4095, {"BitsStored": 12, "HighBit": 11}),
        (0, 65535, {}),
        (-1024, 2047, {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}),
        (-32768, 32767, {"PixelRepresentation": 1}),
        (-32768, 32767, {"PixelRepresentation": 1, "BitsStored": 16}),
    ],
)
def test_compressed_pixels_of_16_bits(dicom_file, tmp_path, codec, low, high, settings):
    plane = values(low, high)
    path = packed_file(dicom_file, tmp_path / "a.dcm", plane, codec, **settings)
    array, meta = read_image(path)
    assert np.array_equal(array[..., 0].T, plane) and not meta["warnings"]


def test_compressed_pixels_of_8_bits_with_a_sign(dicom_file, tmp_path):
    plane = values(-128, 127)
    path = packed_file(dicom_file, tmp_path / "a.dcm", plane, "jpeg", 8, PixelRepresentation=1)
    assert np.array_equal(read_image(path)[0][..., 0].T, plane)


@every_codec
def test_compressed_pixels_above_bits_stored_are_told(dicom_file, tmp_path, codec):
    path = packed_file(dicom_file, tmp_path / "a.dcm", values(0, 8191), codec, BitsStored=12, HighBit=11)
    (told,) = read_image(path)[1]["warnings"]
    assert told.startswith("BitsStored (0028,0101) is too small for")


@every_codec
def test_padding_above_bits_stored_is_found_in_compressed_pixels(dicom_file, tmp_path, codec):
    plane = values(100, 4095)
    plane[:3] = 63536
    settings = {"BitsStored": 12, "HighBit": 11, "PixelPaddingValue": 63536}
    array, meta = read_image(packed_file(dicom_file, tmp_path / "a.dcm", plane, codec, **settings))
    assert array[..., 0].T[3:].tolist() == plane[3:].tolist() and (array[..., 0].T[:3] == plane[3:].min()).all()
    assert not meta["warnings"] and "36 voxels without data" in meta["notes"][0]


def test_pixels_at_the_upper_bits_are_shifted_down_in_run_lengths_too(dicom_file, tmp_path):
    plane = values(0, 4095)
    path = packed_file(dicom_file, tmp_path / "a.dcm", 16 * plane, "rle", BitsStored=12, HighBit=15)
    assert np.array_equal(read_image(path)[0][..., 0].T, plane)


def test_compressed_pixels_of_32_bits_are_refused(dicom_file, tmp_path):
    settings = {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}
    path = packed_file(dicom_file, tmp_path / "a.dcm", values(0, 4095), "jpeg", **settings)
    with pytest.raises(
        FusionInputError, match=r"expected 8 or 16 BitsAllocated .*found 32 in compressed data .*uncomp"
    ):
        read_image(path)
