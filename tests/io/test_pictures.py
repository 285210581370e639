"""JPEG and TIFF pictures: read at full depth, refused by name where they cannot be."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import image_format, is_picture, read_image, result_extension, write_image


def ramp(dtype=np.uint8, shape=(12, 16)):
    """A grey ramp over the whole range of a type."""
    return np.linspace(0, np.iinfo(dtype).max, int(np.prod(shape))).astype(dtype).reshape(shape)


def tiff(path, array, order="<", photometric=None, planar=1, bits=None, more=()):
    """Write an uncompressed TIFF by hand."""
    samples = array.shape[2] if array.ndim == 3 else 1
    bits = bits or array.dtype.itemsize * 8
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    photometric = (2 if samples > 2 else 1) if photometric is None else photometric
    tags = [(256, 4, array.shape[1]), (257, 4, array.shape[0]), (259, 3, 1), (262, 3, photometric), (277, 3, samples)]
    tags += [(278, 4, array.shape[0]), (279, 4, len(data)), (284, 3, planar), *more]
    fields = sorted([*tags, (258, 3, bits), (273, 4, 0)])
    behind = 8 + 2 + 12 * len(fields) + 4
    content = b""
    for tag, kind, value in fields:
        packed = struct.pack(order + ("H2x" if kind == 3 else "I"), behind + 8 if tag == 273 else value)
        count = samples if tag == 258 else 1
        packed = struct.pack(order + "I", behind) if tag == 258 and samples > 2 else packed
        content += struct.pack(order + "HHI", tag, kind, count) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(fields))
    path.write_bytes(head + content + bytes(4) + struct.pack(order + "4H", *[bits] * 4) + data)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "picture"])
def test_jpeg(tmp_path, mode, name):
    Image.fromarray(ramp()).convert(mode).save(tmp_path / name, format="JPEG", quality=95)
    array, meta = read_image(tmp_path / name)
    assert np.abs(array.astype(int) - ramp()).max() < 4 and not meta["color"] and meta["value_range"] == 255
    assert "lossy" in meta["notes"][-1] and is_picture(tmp_path / name) and image_format(tmp_path / name) == "jpeg"


def test_jpeg_in_color_and_in_inks(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :, 0] = 204
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    array, meta = read_image(tmp_path / "a.jpg")
    assert meta["color"] and np.abs(array.astype(int) - pixels).max() < 12
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "b.jpg")
    with pytest.raises(FusionInputError, match="expected grey or RGB, found CMYK pixels"):
        read_image(tmp_path / "b.jpg")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("samples", [1, 3])
def test_tiff_at_full_depth(tmp_path, dtype, order, samples):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (12, 16, samples)).astype(dtype)
    array = array[..., 0] if samples == 1 else array
    read, meta = read_image(tiff(tmp_path / "a.tif", array, order))
    assert np.array_equal(read, array) and read.dtype == dtype and meta["color"] == (samples == 3)
    white = np.iinfo(dtype).max
    if samples == 1 and (order == "<" or dtype == np.uint8):
        read, _ = read_image(tiff(tmp_path / "a.tif", array, order, photometric=0))
        assert np.array_equal(read, white - array)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressed_tiff(tmp_path, compression, dtype):
    Image.fromarray(ramp(dtype)).save(tmp_path / "a.tiff", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tiff")[0], ramp(dtype))


def test_tiff_that_is_no_picture_is_refused(tmp_path):
    frames = [Image.fromarray(ramp() // (index + 1)) for index in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(FusionInputError, match="expected a TIFF image of one page, found several pages"):
        read_image(tmp_path / "a.tif")
    frames[0].save(tmp_path / "b.tif", description="ImageJ=1.53\nimages=24\nslices=24")
    with pytest.raises(FusionInputError, match="found several pages; export one page, or a volume as NIfTI"):
        read_image(tmp_path / "b.tif")
    for array in (ramp().astype(np.float32), ramp().astype(np.int32)):
        Image.fromarray(array).save(tmp_path / "c.tif")
        with pytest.raises(FusionInputError, match="grey or RGB of 8 or 16 bits without sign, found 32 bits"):
            read_image(tmp_path / "c.tif")
    with pytest.raises(FusionInputError, match="16 bits without sign"):
        read_image(tiff(tmp_path / "d.tif", ramp(np.uint16), more=[(339, 3, 2)]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", b"plain text", "expected a JPEG image, found a file that starts with b'plain te'"),
        ("a.tif", b"plain text", "expected a TIFF image, found a file that starts"),
        ("a.jpg", b"\xff\xd8\xff\xe0abcdef", "truncated or damaged"),
        ("a.tif", b"II*\0\xff\0\0\0", "truncated or damaged"),
        ("a.tif", b"", "0 bytes"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FusionInputError, match=message) as error:
        read_image(tmp_path / name)
    assert name in str(error.value) and "object at" not in str(error.value)


def test_pictures_that_are_too_large(tmp_path):
    path = tiff(tmp_path / "a.tif", ramp())
    path.write_bytes(
        path.read_bytes().replace(struct.pack("<HHII", 256, 4, 1, 16), struct.pack("<HHII", 256, 4, 1, 2**30))
    )
    with pytest.raises(FusionInputError, match="at most 67108864 pixels"):
        read_image(path)
    Image.fromarray(ramp()).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content.replace(struct.pack(">HH", 12, 16), struct.pack(">HH", 65000, 65000)))
    with pytest.raises(FusionInputError, match="at most 67108864 pixels"):
        read_image(tmp_path / "a.jpg")


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path):
    Image.fromarray(ramp()).save(tmp_path / "a.jpg", progressive=True)
    content = (tmp_path / "a.jpg").read_bytes()
    assert read_image(tmp_path / "a.jpg")[0].shape == (12, 16)
    place = content.rfind(b"\xff\xda")
    scan = content[place : content.rfind(b"\xff\xd9")]
    (tmp_path / "a.jpg").write_bytes(content[:place] + scan * 200 + b"\xff\xd9")
    with pytest.raises(FusionInputError, match="expected at most 100 scans, found 2.."):
        read_image(tmp_path / "a.jpg")


def test_results_have_a_format_of_their_own(tmp_path):
    names = ["a.jpg", "a.TIF", "a.png", "a.nii", "a.img", "a.mhd", "a.mgz", "a.nhdr", "a.nrrd", "a"]
    ends = [".png", ".png", ".png", ".nii", ".nii.gz", ".nii.gz", ".nii.gz", ".nrrd", ".nrrd", ""]
    assert [result_extension(name) for name in names] == ends
    with pytest.raises(FusionInputError, match="expected a format for results, found .jpg; name one that ends in .png"):
        write_image(tmp_path / "a.jpg", ramp())
