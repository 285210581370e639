"""Colors: luma and color differences, palettes of files, JPEG by its own markers, and DICOM's well-known palettes."""

from __future__ import annotations

import io

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.colour import PALETTES, apply_palette, palette_table
from clinicalfmamba_nets.io.dicom.decoders import transformed_colors

SCREEN = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
}  # fmt: skip


def colors(rows=6, columns=4):
    """Smooth colors, (rows, columns, 3), uint8, that differ in all three channels."""
    y, x = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return np.rint(np.stack([255 * x, 200 * y, 180 * (1 - x) + 40], axis=-1)).astype(np.uint8)


def ybr(rgb):
    """Luma and color differences as DICOM PS3.3, C.7.6.3.1.2 writes them."""
    red, green, blue = np.moveaxis(rgb.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.rint(np.stack([luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402], axis=-1)).astype(np.uint8)


def screen(make_series, pixels, photometric, planar=0, folder="screen", edit=None, count=1):
    """A secondary capture in color."""

    def change(number, made):
        made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, photometric, planar
        made.Rows, made.Columns = pixels.shape[:2]
        made.PixelData = (np.moveaxis(pixels, -1, 0) if planar else pixels).tobytes()
        if edit:
            edit(made)

    return make_series(count, folder, edit=change, **SCREEN)


def assert_colors(path, expected, loss):
    array, meta = read_image(path)
    assert meta["color"] and meta["value_range"] == 255.0
    assert np.abs(array[..., 0, :].swapaxes(0, 1).astype(float) - expected).max() <= loss


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("rle", [False, True])
def test_luma_and_color_differences_become_rgb(make_series, planar, rle):
    def compress(made):
        if rle:
            from pydicom.uid import RLELossless

            made.compress(RLELossless, generate_instance_uid=False)
            made.PlanarConfiguration = planar  # segments hold planes, whatever this says

    stored = 0 if rle else planar
    assert_colors(screen(make_series, ybr(colors()), "YBR_FULL", stored, edit=compress), colors(), 2)
    assert_colors(screen(make_series, colors(), "RGB", stored, "rgb", edit=compress), colors(), 0)


def test_color_differences_that_two_pixels_share(make_series):
    rgb = np.repeat(colors(6, 4), 2, axis=1)
    planes = ybr(rgb)
    packed = np.concatenate([planes[:, ::2, :1], planes[:, 1::2, :1], planes[:, ::2, 1:]], axis=-1)

    def edit(made):
        made.PixelData = packed.tobytes()

    assert_colors(screen(make_series, rgb, "YBR_FULL_422", edit=edit), rgb, 2)
    with pytest.raises(FusionInputError, match="YBR_FULL_422 in pairs of pixels"):
        read_image(screen(make_series, colors(6, 5), "YBR_FULL_422", folder="odd"))


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422", "YBR_FULL"])
@pytest.mark.parametrize("markers", ["JFIF", "none", "kept"])
def test_jpeg_is_in_the_colors_of_its_own_markers(make_series, photometric, markers):
    from PIL import Image

    smooth = colors(32, 32)
    raw = markers == "none" and photometric == "RGB"  # red, green and blue under component numbers 1, 2, 3
    stream = io.BytesIO()
    image = Image.fromarray(smooth if not raw else smooth, "RGB")
    if raw:
        image = Image.merge("YCbCr", image.split())
    image.save(stream, "JPEG", quality=100, subsampling=0, keep_rgb=markers == "kept")
    data = stream.getvalue()
    if markers == "none":  # take the JFIF segment away
        data = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]

    def edit(made):
        from pydicom.encaps import encapsulate

        made.PixelData = encapsulate([data])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"

    assert_colors(screen(make_series, smooth, photometric, edit=edit), smooth, 8)


def test_a_codestream_tells_whether_it_transforms_its_colors():
    head, size = "ff4f", "ff51 0004 0000"
    assert transformed_colors(bytes.fromhex(f"{head} {size} ff52 000c 00 00 0001 01 05 04 04 00 01"))
    assert not transformed_colors(bytes.fromhex(f"{head} {size} ff52 000c 00 00 0001 00 05 04 04 00 01"))
    assert not transformed_colors(b"\xff\xd8\xff\xd9")


def indexed(make_series, tables, descriptor, stored, bits=8, folder="palette", data=None):
    """A secondary capture by palette; tables (entries, 3)."""

    def edit(number, made):
        made.PhotometricInterpretation = "PALETTE COLOR"
        made.BitsAllocated = made.BitsStored = bits
        made.HighBit = bits - 1
        made.PixelData = stored.astype(f"<u{bits // 8}").tobytes()
        for at, name in enumerate(("Red", "Green", "Blue")):
            setattr(made, f"{name}PaletteColorLookupTableDescriptor", descriptor)
            if data is None:
                setattr(made, f"{name}PaletteColorLookupTableData", tables[:, at].tobytes())
            else:
                setattr(made, f"Segmented{name}PaletteColorLookupTableData", data[at])

    return make_series(1, folder, edit=edit, **SCREEN)


@pytest.mark.parametrize(
    ("entries", "first", "width", "bits"),
    [(256, 0, "u1", 8), (256, 0, "<u2", 8), (16, 5, "<u2", 8), (1000, 100, "<u2", 16), (300, 0, "u1", 16)],
)
def test_pixels_are_colored_by_the_palette_of_their_file(make_series, entries, first, width, bits):
    true = np.random.default_rng(entries).integers(0, 256, (entries, 3)).astype(np.uint8)
    tables = true if width == "u1" else true.astype("<u2") * 257
    stored = np.random.default_rng(1).integers(0, min(2**bits, first + entries + 50), (6, 4))
    path = indexed(make_series, tables, [entries, first, 8 if width == "u1" else 16], stored, bits)
    expected = true[np.clip(stored - first, 0, entries - 1)]
    assert_colors(path, expected.astype(float), 0)


def test_segments_of_a_palette(make_series):
    stored = np.arange(24).reshape(6, 4) * 10
    ramp = np.array([0, 1, 0, 1, 255, 65535], "<u2").tobytes()
    flat = np.array([0, 2, 0, 0, 1, 254, 0], "<u2").tobytes()
    path = indexed(make_series, None, [256, 0, 16], stored, data=[ramp, flat, flat])
    expected = np.stack([stored, 0 * stored, 0 * stored], axis=-1)
    assert_colors(path, expected, 1)


def test_a_grey_palette_is_grey_and_a_broken_one_is_refused(make_series):
    grey = np.repeat(np.arange(256, dtype="<u2")[:, None], 3, axis=1) * 257
    stored = np.arange(24).reshape(6, 4) * 10
    array, meta = read_image(indexed(make_series, grey, [256, 0, 16], stored))
    assert not meta["color"] and np.array_equal(array[..., 0], stored.T)
    with pytest.raises(FusionInputError, match="a whole RedPaletteColorLookupTable for PALETTE COLOR"):
        read_image(indexed(make_series, grey[:100], [256, 0, 16], stored, folder="short"))


@pytest.mark.parametrize("name", PALETTES)
def test_palettes_are_those_of_the_standard(name):
    from pydicom.pixels import apply_color_lut

    table = palette_table(name)
    assert table.shape == (256, 3) and table.dtype == np.uint8 and not table.flags.writeable
    if name == "grey":
        assert (table == np.arange(256)[:, None]).all()
        return
    uid = f"1.2.840.10008.1.5.{PALETTES.index(name)}"
    assert np.array_equal(table, apply_color_lut(np.arange(256, dtype=np.uint8), palette=uid)[..., :3])


def test_palettes_of_seasons_are_not_exchanged():
    # DICOM PS3.6, B.1.7 and B.1.8: fall runs from yellow to red, winter from blue to a pale green.
    assert palette_table("fall")[[0, 255]].tolist() == [[255, 255, 0], [255, 0, 0]]
    assert palette_table("winter")[[0, 255]].tolist() == [[0, 0, 255], [127, 255, 128]]


def test_values_outside_get_the_ends_of_a_palette():
    found = apply_palette(np.array([[-1.0, 0.5], [1.0, 9.0]]), "pet")
    assert found.shape == (2, 2, 3) and np.array_equal(found[1, 0], found[1, 1])
    with pytest.raises(FusionInputError, match="palette: expected one of grey, hot_iron"):
        apply_palette(np.zeros(2), "jet")
