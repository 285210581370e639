"""PNG files: what is read, what is refused before it is decoded, what is written."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image, write_image
from clinicalfmamba_nets.io.png import MAX_PIXELS


def ramp(dtype=np.uint8, size=16):
    """A grey ramp over the whole range of a type."""
    return np.linspace(0, np.iinfo(dtype).max, size * size).astype(dtype).reshape(size, size)


def chunk(kind, content):
    """One chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width, height, bits=8, color=0, data=b""):
    """A PNG file with any header."""
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "shape", "note"),
    [
        ("L", (16, 16), ""),
        ("RGB", (16, 16), "equal red, green and blue read as grey"),
        ("RGBA", (16, 16), "alpha channel ignored"),
        ("LA", (16, 16), "alpha channel ignored"),
        ("P", (16, 16), "palette replaced by its colors"),
        ("1", (16, 16), "1-bit image read as 0 and 255"),
    ],
)
def test_grey_in_every_disguise(tmp_path, mode, shape, note):
    path = tmp_path / "a.png"
    Image.fromarray(ramp()).convert(mode).save(path)
    array, meta = read_image(path)
    assert array.shape == shape and array.dtype == np.uint8 and not meta["color"] and meta["value_range"] == 255
    assert note in "; ".join(meta["notes"]) and (meta["notes"] or not note)
    if mode != "1":
        assert np.array_equal(array, ramp())


def test_what_a_viewer_shows_transparent_is_told(tmp_path):
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[:4] = 0
    Image.fromarray(np.stack([ramp(), alpha], -1)).save(tmp_path / "a.png")
    assert (
        "25 % of the pixels, which viewers show (partly) transparent" in read_image(tmp_path / "a.png")[1]["notes"][0]
    )
    Image.fromarray(ramp()).save(tmp_path / "b.png", transparency=7)
    array, meta = read_image(tmp_path / "b.png")
    assert np.array_equal(array, ramp()) and "one value that the file calls transparent" in meta["notes"][0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_color_stays_color(tmp_path, mode):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :, 0] = 204
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    array, meta = read_image(tmp_path / "a.png")
    assert meta["color"] and np.array_equal(array, pixels)


def test_sixteen_bits_keep_their_range(tmp_path):
    Image.fromarray(ramp(np.uint16)).save(tmp_path / "a.png")
    array, meta = read_image(tmp_path / "a.png")
    assert array.dtype == np.uint16 and array.max() == 65535 and meta["value_range"] == 65535
    write_image(tmp_path / "b.png", array.astype(np.float32), like=tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "b.png")[0], array)


@pytest.mark.parametrize("color_type", [2, 4, 6])
@pytest.mark.parametrize("interlaced", [False, True])
def test_sixteen_bits_of_several_samples(tmp_path, color_type, interlaced):
    samples = {2: 3, 4: 2, 6: 4}[color_type]
    pixels = np.random.default_rng(0).integers(0, 65535, (13, 11, samples)).astype(">u2")
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [pixels[y::down, x::across] for x, y, across, down in passes] if interlaced else [pixels]
    parts = [part for part in parts if part.size]
    data = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    head = struct.pack(">IIBBBBB", 11, 13, 16, color_type, 0, 0, int(interlaced))
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    array, meta = read_image(tmp_path / "a.png")
    expected = pixels[..., 0] if color_type == 4 else pixels[..., :3]
    assert array.dtype == np.uint16 and np.array_equal(array, expected) and meta["value_range"] == 65535
    assert meta["color"] == (color_type != 4)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("spread", "grey"), [(3, True), (8, True), (12, False)])
def test_nearly_grey_colors(tmp_path, bits, spread, grey):
    pixels = np.repeat(ramp()[..., None], 3, -1).astype(int) * (257 if bits == 16 else 1)
    pixels[4, 4:8, 1] += spread * (256 if bits == 16 else 1)
    kind = ">u2" if bits == 16 else "u1"
    data = b"".join(b"\0" + row.astype(kind).tobytes() for row in pixels)
    (tmp_path / "a.png").write_bytes(raw_png(16, 16, bits, 2, data))
    array, meta = read_image(tmp_path / "a.png")
    assert meta["color"] != grey and array.ndim == (2 if grey else 3)
    assert not grey or np.abs(array - pixels[..., 0]).max() <= (0.6 * spread + 0.5) * (256 if bits == 16 else 1)
    assert any("nearly grey" in note for note in meta["notes"]) == grey


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_exif_turns_the_picture(tmp_path, orientation, ending):
    from PIL import ImageOps

    image = Image.fromarray(ramp()[:12])
    exif = image.getexif()
    exif[274] = orientation
    image.save(tmp_path / f"a.{ending}", exif=exif, **({"quality": 100} if ending == "jpg" else {}))
    array, meta = read_image(tmp_path / f"a.{ending}")
    image.save(tmp_path / "same.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "same.png")))
    assert array.shape == ((12, 16) if orientation < 5 else (16, 12))
    assert np.abs(array.astype(int) - expected).max() <= (2 if ending == "jpg" else 0)
    assert [f"turned upright as its EXIF orientation {orientation} says"] * (orientation > 1) == meta["warnings"]


@pytest.mark.parametrize(("gamma", "told"), [(1.0, True), (0.45455, False), (None, False)])
def test_gamma_is_told(tmp_path, gamma, told):
    content = raw_png(16, 16, data=b"".join(b"\0" + row.tobytes() for row in ramp()))
    if gamma:
        content = content[:33] + chunk(b"gAMA", struct.pack(">I", round(gamma * 1e5))) + content[33:]
    (tmp_path / "a.png").write_bytes(content)
    array, meta = read_image(tmp_path / "a.png")
    assert np.array_equal(array, ramp()) and any("gamma" in note for note in meta["notes"]) == told


def test_a_second_header_is_refused(tmp_path):
    content = raw_png(16, 16, data=b"\0" * 272)
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(content[:33] + second + content[33:])
    with pytest.raises(FusionInputError, match="expected one header .IHDR., found a second one"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content[:33] + chunk(b"teSt", b"") * 100_001 + content[33:])
    with pytest.raises(FusionInputError, match="at most 100000 chunks"):
        read_image(tmp_path / "b.png")


def test_no_text_of_a_source_reaches_a_result(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("PatientName", "Test^Head")
    text.add_itxt("Description", "Test^Head", zip=False)
    Image.fromarray(ramp()).save(tmp_path / "a.png", pnginfo=text)
    write_image(tmp_path / "b.png", read_image(tmp_path / "a.png")[0], like=tmp_path / "a.png")
    assert b"Test" in (tmp_path / "a.png").read_bytes() and b"Test" not in (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected an image file|expected a PNG image, found no such file"),
        (b"", "expected a PNG image, found 0 bytes"),
        (b"plain text, no image", "found a file that starts with b'plain te'"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a truncated header"),
        (raw_png(30000, 30000), f"expected at most {MAX_PIXELS} pixels, found 30000 x 30000"),
        (raw_png(8000, 8000), "the file is truncated"),
        (raw_png(0, 5), "0 x 5 pixels"),
        (raw_png(64, 64, data=b"\0" * 1000), "truncated or damaged"),
        (raw_png(16, 16, data=b"\0" * 272)[:-30], "truncated or damaged"),
        (raw_png(16, 16, data=b"\0" * 272).replace(b"IDAT", b"IDAX"), "truncated or damaged"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FusionInputError, match=message) as error:
        read_image(path)
    assert "bad.png" in str(error.value) and "\n" not in str(error.value)


def test_folders_and_animations_are_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FusionInputError, match="found a folder"):
        read_image(tmp_path / "folder.png")
    frames = [Image.fromarray(ramp() // (index + 1)) for index in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(FusionInputError, match="expected one image, found an animation of 3 frames"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["truncated.png", "bomb_30000.png"])
def test_bad_images_of_the_collection(shared_data, name):
    with pytest.raises(FusionInputError, match=name):
        read_image(shared_data / "bad" / "png" / name)


def test_good_images_of_the_collection(shared_data):
    folder = shared_data / "bad" / "png"
    eight, sixteen = (read_image(folder / name)[0].astype(float) for name in ("good_mri.png", "gray16.png"))
    closest = min(np.abs(sixteen / 257 - other).max() for other in (eight, read_image(folder / "good_ct.png")[0]))
    assert closest <= 0.5
    assert read_image(folder / "odd_size_253x251.png")[0].shape == (251, 253)
    assert read_image(folder / "rgba.png")[0].shape == (256, 256)


def test_values_are_rounded_and_clipped(tmp_path):
    write_image(tmp_path / "a.png", np.array([[-3.0, 0.4], [254.6, 300.0]]))
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0, 0], [255, 255]]
    write_image(tmp_path / "c.png", np.full((2, 2, 3), [0.0, 65535.0, 257.0]), dtype="uint16")
    assert read_image(tmp_path / "c.png")[0][0, 0].tolist() == [0, 255, 1]
    with pytest.raises(ValueError, match="expected uint8 or uint16 of shape"):
        write_image(tmp_path / "b.png", np.zeros((2, 2, 4)))
    assert sorted(os.listdir(tmp_path)) == ["a.png", "c.png"]
