"""Voxels without data: tags of either sign, ranges, values that BitsStored cannot hold, and CT without any tag."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.padding import far_below_air

PADDING, LIMIT = 0x00280120, 0x00280121


def padded(make_series, value, signed, tags, bits=16, alloc=16, count=7, folder="padded", **settings):
    """A series of 2 slices of 40..63 whose first `count` pixels hold `value`; tags are (tag, VR, value)."""

    def edit(number, made):
        pixels = np.arange(40, 64)
        pixels[:count] = value
        kind = f"<{'i' if signed else 'u'}{alloc // 8}"
        made.PixelData = pixels.astype(np.int64).astype(kind).tobytes()
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = alloc, bits, bits - 1, int(signed)
        for tag, representation, stated in tags:
            made.add_new(tag, representation, stated)

    return make_series(2, folder, edit=edit, **settings)


@pytest.mark.parametrize(
    ("value", "signed", "tags", "bits", "alloc"),
    [
        (-2000, True, [(PADDING, "US", 63536)], 16, 16),
        (-2000, True, [(PADDING, "SS", -2000)], 16, 16),
        (63536, False, [(PADDING, "SS", -2000)], 16, 16),
        (63536, False, [(PADDING, "US", 63536)], 12, 16),
        (-2000, True, [(PADDING, "US", 63536)], 12, 16),
        (0x830, False, [(PADDING, "US", 0x830)], 12, 16),
        (-1, True, [(PADDING, "US", 255)], 8, 8),
        (255, False, [(PADDING, "SS", -1)], 8, 8),
        (-3000, True, [(PADDING, "US", 62536)], 32, 32),
        (-1500, True, [(PADDING, "US", 63536), (LIMIT, "US", 64536)], 16, 16),
        (-1500, True, [(PADDING, "SS", -1000), (LIMIT, "SS", -2000)], 16, 16),
    ],
)
def test_tags_are_compared_modulo_the_allocated_bits(make_series, value, signed, tags, bits, alloc):
    array, meta = read_image(padded(make_series, value, signed, tags, bits, alloc))
    expected = np.maximum(np.arange(40, 64), 47).reshape(6, 4).T
    assert np.array_equal(array[..., 1], expected)
    assert meta["background"].sum() == 14 and meta["background"][..., 0].T.ravel()[:7].all()
    assert meta["warnings"] == [] and "14 voxels without data set to 47" in meta["notes"][0]


@pytest.mark.parametrize(
    ("tags", "bits"), [([(PADDING, "US", 63536)], 12), ([(PADDING, "US", 300)], 8), ([(PADDING, "SS", -5)], 16)]
)
def test_true_values_are_no_padding(make_series, tags, bits):
    # 63536 cut to 12 bits would be 2096, 300 in 8 bits 44: both are true values here.
    value = {12: 2096, 8: 44, 16: 5}[bits]
    array, meta = read_image(padded(make_series, value, False, tags, bits, 8 if bits == 8 else 16))
    assert (array == value).sum() >= 14 and meta["background"] is None and meta["notes"] == []


def test_padding_in_each_frame_of_a_series_of_mixed_signs(make_series):
    def edit(number, made):
        pixels = np.arange(24, dtype=np.int64) + 100
        pixels[0] = -50 if number % 2 else 65486
        made.PixelData = (pixels % 65536).astype("<u2").tobytes()
        made.PixelRepresentation, made.BitsStored, made.HighBit = number % 2, 16, 15
        made.add_new(PADDING, "US", 65486)

    array, meta = read_image(make_series(3, edit=edit))
    assert array.min() == 101 and meta["background"].sum() == 3


def test_a_series_of_nothing_but_padding_is_left_alone(make_series):
    array, meta = read_image(padded(make_series, 5, False, [(PADDING, "US", 5)], count=24))
    assert (array == 5).all() and meta["background"] is None and "every voxel" in meta["notes"][0]


@pytest.mark.parametrize(
    ("value", "modality", "missing"),
    [(0, "CT", 0), (-1976, "CT", 14), (0, "MR", 0), (-500, "MR", 14), (4000, "MR", 14)],
)
def test_padding_that_is_about_the_dark_of_the_image_is_filled_and_not_missing(make_series, value, modality, missing):
    def edit(number, made):
        pixels = np.arange(40, 64)
        pixels[:7], pixels[-1] = value, 3000
        made.PixelData = pixels.astype("<i2").tobytes()
        made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 15, 1
        made.add_new(PADDING, "SS", value)

    settings = {"Modality": "CT", "RescaleIntercept": -1024} if modality == "CT" else {}  # air: -977 HU
    array, meta = read_image(make_series(2, edit=edit, **settings))
    assert array.min() == 47 + settings.get("RescaleIntercept", 0)
    assert (0 if meta["background"] is None else meta["background"].sum()) == missing


@pytest.mark.parametrize("value", [-3024, -2000, -32768])
def test_values_far_below_air_are_no_data_without_any_tag(make_series, value):
    settings = {"Modality": "CT", "RescaleIntercept": 0}
    array, meta = read_image(padded(make_series, value, True, [], **settings))
    assert array.min() == 47 and meta["background"].sum() == 14
    assert "far below air, without PixelPaddingValue: 14 voxels" in meta["notes"][0]
    magnetic, meta = read_image(padded(make_series, value, True, [], folder="mr"))
    assert magnetic.min() == value and meta["background"] is None


def test_negative_values_that_the_header_calls_unsigned_are_told(make_series):
    settings = {"Modality": "CT", "RescaleIntercept": -1024}
    array, meta = read_image(padded(make_series, 63536, False, [], **settings))
    assert array.max() == 62512 and "14 voxels above 32767 HU: PixelRepresentation (0028,0103)" in meta["warnings"][0]


def test_noise_of_air_is_data():
    noise = np.random.default_rng(0).normal(-1000, 40, 10000).round()
    assert far_below_air(noise) is None
    constant = np.where(np.arange(10000) % 5 == 0, -1200.0, np.maximum(noise, -1024))
    assert far_below_air(constant).sum() == 2000
    assert far_below_air(np.full(9, -2000.0)) is None
