"""What a series tells of its values: windows of its header, units, description."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets.io import read_image

TAGS = "(0028,1053 and 1052)"


def test_all_windows_of_a_header_are_told(make_series):
    settings = {
        "WindowCenter": [40, 400], "WindowWidth": [80, 2000], "WindowCenterWidthExplanation": ["BRAIN", "BONE"],
    }  # fmt: skip
    _, meta = read_image(make_series(2, Modality="CT", **settings))
    assert meta["windows"] == [(40.0, 80.0, "BRAIN"), (400.0, 2000.0, "BONE")] and meta["notes"] == []
    assert (meta["modality"], meta["units"], meta["description"]) == ("CT", "HU", "test series")


@pytest.mark.parametrize(
    ("settings", "windows"),
    [
        ({}, []),
        ({"WindowCenter": "40"}, []),
        ({"WindowCenter": "40", "WindowWidth": "0"}, []),
        ({"WindowCenter": [40, 50], "WindowWidth": "80"}, [(40.0, 80.0, "")]),
        ({"WindowCenter": "40.5", "WindowWidth": "80", "WindowCenterWidthExplanation": "A"}, [(40.5, 80.0, "A")]),
    ],
)
def test_windows_that_are_none_are_left_out(make_series, settings, windows):
    assert read_image(make_series(1, **settings))[1]["windows"] == windows


def test_windows_that_differ_are_those_of_the_middle_slice(make_series):
    def edit(number, made):
        made.WindowCenter, made.WindowWidth = 100 + number, 50

    _, meta = read_image(make_series(3, edit=edit))
    assert meta["windows"] == [(101.0, 50.0, "")] and "the middle slice" in meta["notes"][0]


def test_windows_of_frames(tmp_path, dicom_file):
    def edit(made):
        from pydicom.dataset import Dataset

        made.PixelData = made.PixelData * 3
        for number, group in enumerate(made.PerFrameFunctionalGroupsSequence):
            window = Dataset()
            window.WindowCenter, window.WindowWidth = 10 * number, 5
            group.FrameVOILUTSequence = [window]

    _, meta = read_image(dicom_file(tmp_path / "frames.dcm", 3, edit))
    assert meta["windows"] == [(10.0, 5.0, "")]


@pytest.mark.parametrize(
    ("settings", "units"),
    [
        ({}, ""),
        ({"RescaleType": "US"}, ""),
        ({"Modality": "CT", "RescaleType": "EDW"}, "EDW"),
        ({"Modality": "CT"}, "HU"),
        ({"Modality": "CT", "RescaleType": "HU_MOD"}, "HU"),
    ],
)
def test_units(make_series, settings, units):
    assert read_image(make_series(1, **settings))[1]["units"] == units


@pytest.mark.parametrize(
    ("rescale", "units", "warnings"),
    [
        ({"RescaleSlope": 1, "RescaleIntercept": 0}, "", []),
        ({}, "HU", []),
        (
            {"RescaleSlope": None, "RescaleIntercept": None},
            "",
            [f"no RescaleSlope and RescaleIntercept {TAGS}: stored values are taken as a picture, no HU"],
        ),
    ],
)
def test_a_ct_of_eight_bits_without_rescale_is_no_hu(make_series, rescale, units, warnings):
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": bytes(range(24))}
    array, info = read_image(make_series(3, Modality="CT", **bits, **rescale))
    assert info["units"] == units and info["warnings"] == warnings
    assert array.max() == 23 - (1024 if units else 0)


@pytest.mark.parametrize(
    ("slopes", "scales", "told"),
    [
        ((2.5, 2.5, 2.5), (0.01, 0.02, 0.04), "differs up to 4 times"),
        ((1.0, 2.0, 4.0), (0.04, 0.02, 0.01), ""),
        ((2.5, 2.5, 2.5), (0.01, 0.01, 0.01), ""),
        ((2.5, 2.5, 2.5), (0.01, 0.0, float("nan")), ""),
    ],
)
def test_slices_of_several_scales_of_philips_are_told(make_series, slopes, scales, told):
    def edit(number, made):
        made.RescaleSlope, made.RescaleIntercept = slopes[number], 0
        made.add_new(0x20050010, "LO", "Philips MR Imaging DD 001")
        made.add_new(0x2005100E, "FL", scales[number])

    warnings = read_image(make_series(3, edit=edit))[1]["warnings"]
    assert [told in text for text in warnings] == [True] * bool(told)


def test_a_description_in_broken_text_is_left_out(make_series):
    folder = make_series(1, SpecificCharacterSet="ISO_IR 100", SeriesDescription="T1 Sch\u00e4del")
    assert read_image(folder)[1]["description"] == "T1 Sch\u00e4del"
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 192"))
    _, meta = read_image(folder)
    assert meta["description"] == "" and "SeriesDescription (0008,103E)" in meta["notes"][0]


def test_a_list_of_series_holds_no_replacement_characters(make_series):
    from clinicalfmamba_nets.io.dicom.study import open_study

    folder = make_series(1, SpecificCharacterSet="ISO_IR 100", SeriesDescription="T1 Sch\u00e4del")
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 192"))
    told = open_study(folder).text()
    assert "T1 Sch?del" in told and "\ufffd" not in told


@pytest.mark.parametrize(
    ("ratio", "told"), [([10.0], ", 10 times smaller"), ([4, 2.5], ", 10 times smaller"), (None, "")]
)
def test_compression_with_loss_is_told(make_series, ratio, told):
    settings = {"LossyImageCompression": "01"} | ({} if ratio is None else {"LossyImageCompressionRatio": ratio})
    assert read_image(make_series(2, **settings))[1]["notes"] == [
        f"compressed with loss (0028,2110){told}: small contrasts may be gone"
    ]
    assert read_image(make_series(2, LossyImageCompression="00"))[1]["notes"] == []


@pytest.mark.parametrize(
    ("slope", "unit", "notes"),
    [
        (0.002, "{SUVbw}g/ml", ["a mapping of the stored values to {SUVbw}g/ml (0040,9096) is not used"]),
        (0.002, None, ["a mapping of the stored values to other values (0040,9096) is not used"]),
        (3.0, "[hnsf'U]", []),  # the same as RescaleSlope and RescaleIntercept
    ],
)
def test_a_mapping_to_real_world_values_is_told(make_series, slope, unit, notes):
    from pydicom.dataset import Dataset

    def edit(number, made):
        mapping, code = Dataset(), Dataset()
        mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 0.0
        if unit is not None:
            code.CodeValue = unit
            mapping.MeasurementUnitsCodeSequence = [code]
        made.RealWorldValueMappingSequence = [mapping]

    assert read_image(make_series(2, edit=edit, RescaleSlope=3, RescaleIntercept=0))[1]["notes"] == notes


def test_a_mapping_of_frames_is_held_against_their_own_slope(tmp_path, dicom_file):
    from pydicom.dataset import Dataset

    def told(slope):
        def edit(made):
            made.PixelData = made.PixelData * 2
            rescale, mapping = Dataset(), Dataset()
            rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, 1, "US"
            mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 1.0
            for group in made.PerFrameFunctionalGroupsSequence:
                group.PixelValueTransformationSequence = [rescale]
                group.RealWorldValueMappingSequence = [mapping]

        return read_image(dicom_file(tmp_path / f"frames{slope}.dcm", 2, edit))[1]["notes"]

    assert not [note for note in told(2.0) if "0040,9096" in note]
    assert len([note for note in told(5.0) if "0040,9096" in note]) == 1
