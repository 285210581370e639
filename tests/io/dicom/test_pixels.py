"""Stored values of each slice by the header of its own file: sign, bits, byte order, MONOCHROME1, transfer syntaxes."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image

FULL = {"BitsStored": 16, "HighBit": 15}


def put(made, values, bits=16):
    """Store values, shape (6, 4), in a slice of the fixture, in its byte order."""
    made.BitsAllocated = bits
    made.PixelData = np.asarray(values).astype(f"<i{bits // 8}").tobytes()


def volume(count, low, high):
    """Whole numbers (6, 4, count) from a seed."""
    return np.random.default_rng(count).integers(low, high, (6, 4, count))


@pytest.mark.parametrize("signed", [(0, 1, 1, 0), (1, 0, 0, 0), (1, 1, 0, 1)])
def test_each_slice_is_read_by_its_own_sign_and_bits(make_series, signed):
    true = volume(4, 0, 2000)

    def edit(number, made):
        stored = true[..., number] - 1000 * signed[number]
        put(made, stored & 0xFFF if number == 1 else stored)
        made.PixelRepresentation, made.BitsStored = signed[number], 12 if number == 1 else 16
        made.HighBit = made.BitsStored - 1

    array, meta = read_image(make_series(4, edit=edit))
    expected = true - 1000 * np.array(signed)
    assert np.array_equal(array, expected.transpose(1, 0, 2)) and meta["warnings"] == []


@pytest.mark.parametrize(
    ("bits", "signed", "low", "high", "dtype"),
    [
        (8, 0, 0, 256, "int16"),
        (8, 1, -128, 128, "int16"),
        (16, 0, 0, 65536, "uint16"),
        (32, 1, -(2**31), 2**31, "int32"),
        (32, 0, 0, 2**32, "uint32"),
    ],
)
def test_every_depth_is_exact(make_series, bits, signed, low, high, dtype):
    true = volume(2, low, high)

    def edit(number, made):
        made.BitsAllocated = made.BitsStored = bits
        made.HighBit, made.PixelRepresentation = bits - 1, signed
        made.PixelData = true[..., number].astype(f"<{'i' if signed else 'u'}{bits // 8}").tobytes()

    array, _ = read_image(make_series(2, edit=edit))
    assert array.dtype == dtype and np.array_equal(array, true.transpose(1, 0, 2))


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_stored_that_is_too_small_is_told(make_series, signed):
    values = np.arange(24) * 4
    values[3:5] = [5000, 9000]

    def edit(number, made):
        put(made, values if number == 1 else np.arange(24))
        made.PixelRepresentation = signed

    _, meta = read_image(make_series(3, edit=edit))
    assert len(meta["warnings"]) == 1
    assert "BitsStored (0028,0101) is too small for 2 pixels" in meta["warnings"][0] and "_98" in meta["warnings"][0]


def test_signs_and_declared_overlays_above_bits_stored_are_no_fault(make_series):
    signed = np.arange(24) - 12
    _, meta = read_image(make_series(1, "signed", edit=lambda n, made: put(made, signed), PixelRepresentation=1))
    assert meta["warnings"] == []

    def overlay(number, made):
        put(made, np.arange(24) + 0x1000)
        made.add_new(0x60000100, "US", 16)
        made.add_new(0x60000102, "US", 12)

    array, meta = read_image(make_series(1, "overlay", edit=overlay))
    assert array.max() == 23 and meta["warnings"] == []


def test_bits_at_the_top_are_shifted_down_or_refused(make_series):
    values = np.arange(24).reshape(6, 4) * 170
    shifted = make_series(2, "top", edit=lambda n, made: put(made, values << 4), BitsStored=12, HighBit=15)
    assert np.array_equal(read_image(shifted)[0][..., 0], values.T)
    signed = {"BitsStored": 12, "HighBit": 15, "PixelRepresentation": 1}
    below = make_series(1, "signed", edit=lambda n, made: put(made, (values - 2048) << 4), **signed)
    assert np.array_equal(read_image(below)[0][..., 0], values.T - 2048)
    wrong = make_series(1, "wrong", edit=lambda n, made: put(made, values), BitsStored=12, HighBit=15)
    with pytest.raises(FusionInputError, match=r"expected HighBit \(0028,0102\) 11, found 15"):
        read_image(wrong)


@pytest.mark.parametrize(("rows", "columns", "frames"), [(6, 4, 1), (3, 5, 1), (3, 5, 3)])
def test_bytes_of_big_endian_words_are_swapped_back(tmp_path, dicom_file, rows, columns, frames):
    true = np.random.default_rng(rows).integers(0, 256, (frames, rows, columns)).astype("u1")
    data = np.append(true.ravel(), np.zeros(true.size % 2, "u1"))

    def edit(made):
        made.Rows, made.Columns = rows, columns
        made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
        made.PixelData = data.reshape(-1, 2)[:, ::-1].tobytes()
        made["PixelData"].VR = "OW"
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"

    array, _ = read_image(dicom_file(tmp_path / "big.dcm", frames, edit))
    assert np.array_equal(array, true.transpose(2, 1, 0))


def test_each_frame_has_its_own_slope(tmp_path, dicom_file):
    """ITK 5.4.7 (SimpleITK 2.5.7) multiplies all frames of an enhanced image by the slope of the first one."""
    from pydicom.dataset import Dataset

    def edit(made, slopes=(1, 1, 1)):
        made.PixelData = made.PixelData * 3
        for group, slope in zip(made.PerFrameFunctionalGroupsSequence, slopes, strict=True):
            rescale = Dataset()
            rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, 0, "US"
            group.PixelValueTransformationSequence = [rescale]

    plain, _ = read_image(dicom_file(tmp_path / "plain.dcm", 3, edit))
    array, _ = read_image(dicom_file(tmp_path / "own.dcm", 3, lambda made: edit(made, (2, 4, 8))))
    assert np.array_equal(array, plain * [2, 4, 8])


def test_monochrome1_is_turned_around_unless_it_is_measured(make_series):
    """ITK 5.4.7 (SimpleITK 2.5.7) turns the stored values around and then applies the rescale: 40 HU become 2007."""
    inverse = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 100, "WindowWidth": 50}
    plain, _ = read_image(make_series(2))
    array, meta = read_image(make_series(2, "inverse", **inverse))
    assert np.array_equal(array, plain.min() + plain.max() - plain)
    assert "MONOCHROME1: values turned around" in meta["notes"][0] and meta["windows"] == [(23.0, 50.0, "")]
    slopes = {"edit": lambda n, made: setattr(made, "RescaleSlope", 1 + n), "RescaleIntercept": 0}
    steep, _ = read_image(make_series(2, "steep", **slopes))
    array, _ = read_image(make_series(2, "steep inverse", **slopes, **inverse))
    assert np.array_equal(array, steep.min() + steep.max() - steep)
    hounsfield, _ = read_image(make_series(2, "ct", Modality="CT"))
    array, meta = read_image(make_series(2, "ct inverse", Modality="CT", **inverse))
    assert np.array_equal(array, hounsfield) and "the values are HU and stay so" in meta["notes"][0]


@pytest.mark.parametrize(
    ("uid", "name"),
    [("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"), ("1.2.840.10008.1.2.4.100", "MPEG2"), ("1.2.3.4", "in 1.2.3.2")],
)
def test_an_unknown_transfer_syntax_is_named(make_series, uid, name):
    folder = make_series(2)
    for file in folder.iterdir():
        made = file.read_bytes()
        longer = uid.encode() + b"\0" * (len(uid) % 2)
        at = made.index(b"\x02\x00\x10\x00UI")
        length = int.from_bytes(made[at + 6 : at + 8], "little")
        size = int.from_bytes(made[140:144], "little") + len(longer) - length
        made = made[:at] + b"\x02\x00\x10\x00UI" + len(longer).to_bytes(2, "little") + longer + made[at + 8 + length :]
        file.write_bytes(made[:140] + size.to_bytes(4, "little") + made[144:])
    with pytest.raises(FusionInputError, match=rf"transfer syntax \(0002,0010\) that .*found {uid}.*{name}"):
        read_image(folder)


def test_rle_of_two_bytes_and_signs(make_series):
    def edit(number, made):
        from pydicom.uid import RLELossless

        put(made, volume(1, -3000, 3000)[..., 0])
        made.PixelRepresentation = 1
        made.compress(RLELossless, generate_instance_uid=False)

    array, _ = read_image(make_series(1, edit=edit, **FULL))
    assert np.array_equal(array[..., 0], volume(1, -3000, 3000)[..., 0].T)


@pytest.mark.parametrize(("least", "warned"), [(0, True), (-800, False)])
def test_bright_pixels_that_a_wrong_sign_makes_dark_are_told(make_series, least, warned):
    true = np.linspace(least, least + 3600, 24).astype(int).reshape(6, 4) - (0 if warned else 1000)

    def edit(number, made):
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 1
        made.PixelData = (true & 0xFFF).astype("<u2").tobytes()  # no sign above the 12 bits

    array, meta = read_image(make_series(2, edit=edit))
    if warned:
        (told,) = meta["warnings"]
        assert "PixelRepresentation (0028,0103)" in told and "to 20 pixels (such as in" in told
    else:
        assert meta["warnings"] == [] and np.array_equal(array[..., 0].T, true)


def test_padding_that_lies_far_below_is_no_wrong_sign(make_series):
    true = np.full((6, 4), 1000)
    true[:2] = -2000

    def edit(number, made):
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 1
        made.PixelData = (true & 0xFFF).astype("<u2").tobytes()
        made.add_new("PixelPaddingValue", "SS", -2000)

    _, meta = read_image(make_series(2, edit=edit))
    assert not any("PixelRepresentation" in told for told in meta["warnings"])
