"""SUV by body weight: each branch of the rules against a value computed by hand, and a reason that names the tag."""

from __future__ import annotations

import math

import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.suv import acquisition_of, suv_factor

HALF_LIFE = 6586.2  # s, fluorine 18


def pet(dose=None, **elements):
    """Header of a PET slice: 70 kg, 350 MBq at 10:00, scan at 11:00; None takes an element away."""
    from pydicom.dataset import Dataset

    made, given = Dataset(), Dataset()
    made.Units, made.DecayCorrection, made.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "SCAT"]
    made.PatientWeight = 70
    made.SeriesDate = made.AcquisitionDate = "20240101"
    made.SeriesTime, made.AcquisitionTime = "110000", "110000"
    given.RadiopharmaceuticalStartTime = "100000"
    given.RadionuclideTotalDose, given.RadionuclideHalfLife = 350e6, HALF_LIFE
    for keyword, value in (dose or {}).items():
        setattr(given, keyword, value)
        if value is None:
            del given[keyword]
    made.RadiopharmaceuticalInformationSequence = [given]
    for keyword, value in elements.items():
        setattr(made, keyword, value)
        if value is None:
            del made[keyword]
    return made


def by_hand(weight=70.0, dose=350e6, seconds=3600.0):
    """SUV of 1 Bq/ml: grams over the becquerels that are left."""
    return weight * 1000 / (dose * math.exp(-math.log(2) * seconds / HALF_LIFE))


GIVEN = "RadiopharmaceuticalStartDateTime"
BRANCHES = {
    "series time": (pet(), by_hand()),
    "fraction of a second": (pet(SeriesTime="105959.25", AcquisitionTime="110000.5"), by_hand(seconds=3599.25)),
    "administration": (pet(DecayCorrection="ADMIN"), by_hand(seconds=0)),
    "date and time of injection": (pet({GIVEN: "20240101093000.000000"}), by_hand(seconds=5400)),
    "injection on the day before": (pet({GIVEN: "20231231235900"}, SeriesTime="000100"), by_hand(seconds=120)),
    "midnight, no date": (pet({"RadiopharmaceuticalStartTime": "235900"}, SeriesTime="000100"), by_hand(seconds=120)),
    "offset from UTC": (pet({GIVEN: "20240101090000+0000"}, TimezoneOffsetFromUTC="+0100"), by_hand()),
    "series made after the scan": (pet(SeriesTime="153000"), by_hand()),
    "series made on a later day": (pet(SeriesDate="20240203", SeriesTime="080000"), by_hand()),
    "frame reference time": (
        pet(SeriesTime="153000", AcquisitionTime="110500", FrameReferenceTime=450000, ActualFrameDuration=300000),
        None,
    ),
    "another weight": (pet(PatientWeight="3.25"), by_hand(weight=3.25)),
    "grams per millilitre": (pet(Units="GML", PatientWeight=None), 1.0),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_each_branch_equals_a_value_by_hand(name):
    dataset, expected = BRANCHES[name]
    if expected is None:  # the frame from 11:05 on counts 450 s after the scan's start as its average time
        decay = math.log(2) / HALF_LIFE
        average = math.log(decay * 300 / (1 - math.exp(-decay * 300))) / decay
        expected = by_hand(seconds=3900 + average - 450)
    factor, reason = suv_factor(dataset)
    assert reason == "" and factor == pytest.approx(expected, rel=1e-6)


def test_the_earliest_bed_position_counts():
    beds = [acquisition_of(pet(AcquisitionTime=time)) for time in ("112000", "110000", "114000")]
    assert suv_factor(pet(SeriesTime="120000"), beds)[0] == pytest.approx(by_hand(), rel=1e-6)
    assert suv_factor(pet(SeriesTime="105000"), beds)[0] == pytest.approx(by_hand(seconds=3000), rel=1e-6)


def test_the_scan_time_of_a_ge_scanner():
    made = pet(SeriesTime="153000")
    made.add_new(0x00090010, "LO", "GEMS_PETD_01")
    made.add_new(0x0009100D, "DT", "20240101104500.00")
    assert suv_factor(made)[0] == pytest.approx(by_hand(seconds=2700), rel=1e-6)


def test_the_factors_of_philips():
    made = pet(Units="CNTS")
    made.add_new(0x70530010, "LO", "Philips PET Private Group")
    made.add_new(0x70531000, "DS", "0.000587")
    made.add_new(0x70531009, "DS", "2.5")
    assert suv_factor(made) == (pytest.approx(0.000587, rel=1e-6), "")
    made[0x70531000].value = "0"
    assert suv_factor(made)[0] == pytest.approx(2.5 * by_hand(), rel=1e-6)
    made[0x70531009].value = "0"
    assert suv_factor(made) == (None, "Units (0054,1001) is CNTS, without a factor in (7053,xx00) or (7053,xx09)")


REFUSED = {
    "PatientWeight (0010,1030) is absent": pet(PatientWeight=None),
    "PatientWeight (0010,1030) is 0 kg": pet(PatientWeight=0),
    "PatientWeight (0010,1030) is 70000 kg": pet(PatientWeight=70000),
    "RadionuclideTotalDose (0018,1074) is absent": pet({"RadionuclideTotalDose": None}),
    "RadionuclideTotalDose (0018,1074) is 350 Bq": pet({"RadionuclideTotalDose": 350}),
    "RadionuclideTotalDose (0018,1074) is 350000 Bq": pet({"RadionuclideTotalDose": 350000}),  # in kBq
    "RadionuclideTotalDose (0018,1074) is 9460 Bq": pet({"RadionuclideTotalDose": 9460}),  # in uCi
    "RadionuclideHalfLife (0018,1075) is 0 s": pet({"RadionuclideHalfLife": 0}),
    "RadiopharmaceuticalStartTime (0018,1072) is absent": pet({"RadiopharmaceuticalStartTime": None}),
    "RadiopharmaceuticalStartTime (0018,1072 or 1078) lies -3600 s": pet({GIVEN: "20240101120000"}),
    "RadiopharmaceuticalStartTime (0018,1072 or 1078) lies 31": pet({GIVEN: "20230101100000"}),
    "(0018,1072 or 1078) lies 86100 s": pet({"RadiopharmaceuticalStartTime": "110500"}),  # a clock that is fast
    "SeriesDate, SeriesTime (0008,0021 and 0031)": pet(SeriesTime=None, AcquisitionTime=None),
    "DecayCorrection (0054,1102) is NONE": pet(DecayCorrection="NONE"),
    "DecayCorrection (0054,1102) is absent": pet(DecayCorrection=None),
    "CorrectedImage (0028,0051) does not hold DECY": pet(CorrectedImage=["ATTN"]),
    "CorrectedImage (0028,0051) does not hold ATTN": pet(CorrectedImage="DECY"),
    "Units (0054,1001) is PROPCPS": pet(Units="PROPCPS"),
    "Units (0054,1001) is absent": pet(Units=None),
    "SUVType (0054,1006) is LBM": pet(Units="GML", SUVType="LBM"),
    "RadiopharmaceuticalInformationSequence (0054,0016) has 0": pet(RadiopharmaceuticalInformationSequence=None),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_had_names_its_tag(words):
    factor, reason = suv_factor(REFUSED[words])
    assert factor is None and words in reason


def test_a_series_tells_its_factor_and_units(make_series):
    def edit(number, made):
        for element in pet(SeriesTime="153000", AcquisitionTime=f"11{10 * number:02d}00"):
            made[element.tag] = element
        made.SOPClassUID, made.RescaleSlope, made.RescaleIntercept = "1.2.840.10008.5.1.4.1.1.128", 1 + number, 0

    array, meta = read_image(make_series(3, edit=edit, Modality="PT"))
    assert meta["units"] == "Bq/ml" and meta["suv_reason"] == "" and meta["modality"] == "PT"
    assert meta["suv_factor"] == pytest.approx(by_hand(), rel=1e-6) and array.max() == 3 * 223


def test_a_series_without_suv_tells_why(make_series):
    settings = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Modality": "PT", "Units": "CNTS"}
    _, meta = read_image(make_series(2, **settings))
    assert meta["suv_factor"] is None and "(0054,1001) is CNTS" in meta["suv_reason"] and meta["units"] == "counts"


def test_slices_of_two_units_are_refused_and_of_two_weights_have_no_suv(make_series):
    def edit(number, made):
        made.Modality, made.SOPClassUID = "PT", "1.2.840.10008.5.1.4.1.1.128"
        made.Units, made.PatientWeight = "GML", 70 if number else 90

    _, meta = read_image(make_series(3, "weights", edit=edit))
    assert meta["suv_factor"] is None and "PatientWeight (0010,1030) differs from slice to slice" in meta["suv_reason"]

    def units(number, made):
        edit(1, made)
        made.Units = "CNTS" if number == 1 else "BQML"

    with pytest.raises(FusionInputError, match=r"expected one Units \(0054,1001\) of all slices, found BQML .*CNTS"):
        read_image(make_series(3, "units", edit=units))


@pytest.mark.parametrize(
    ("meaning", "half_life", "wrong"),
    [
        ("^18^Fluorine", 6586.2, ""),
        ("^18^Fluorine", 6600, ""),
        ("F-18", 1221, "not the 6586.2 s of fluorine-18"),
        ("^11^Carbon", 6586.2, "not the 1221.7 s of carbon-11"),
        ("^89^Zirconium", 282276, ""),
        ("Fluorodeoxyglucose", 1221, ""),
    ],
)
def test_a_half_life_of_another_nuclide_gives_no_suv(meaning, half_life, wrong):
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeMeaning = meaning
    factor, reason = suv_factor(pet({"RadionuclideCodeSequence": [code], "RadionuclideHalfLife": half_life}))
    assert (factor is None) == bool(wrong) and wrong in reason


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("RadionuclideTotalDose", (3.7e8, 3.9e8, 4.1e8)),
        ("RadiopharmaceuticalStartTime", ("100000", "100500", "101000")),
        ("RadionuclideHalfLife", (6586.2, 6586.2, 6580.0)),
    ],
)
def test_slices_of_two_doses_have_no_suv(make_series, keyword, values):
    def edit(number, made):
        for element in pet():
            made[element.tag] = element
        made.SOPClassUID, made.RescaleSlope, made.RescaleIntercept = "1.2.840.10008.5.1.4.1.1.128", 1, 0
        setattr(made.RadiopharmaceuticalInformationSequence[0], keyword, values[number])

    _, meta = read_image(make_series(3, edit=edit, Modality="PT"))
    assert meta["suv_factor"] is None and meta["suv_reason"].startswith(keyword)
    assert meta["suv_reason"].endswith("differs from slice to slice")
