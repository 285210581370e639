"""Presentation states over two source series: references, windows, what is shown, validity, and what is refused."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.colour import palette_table
from clinicalfmamba_nets.io.dicom.presentation import Blending, write_presentation
from clinicalfmamba_nets.io.dicom.study import open_study

pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'clinicalfmamba-nets[dicomweb]'")

# dciodvfy of 2022 does not look into the sequences of an Advanced Blending state for references, and its table of the
# object lacks the modules that PS3.3 C.11.33 and A.33.7 put there.
FALSE_ERROR = "ReferencedSeriesSequence present but Instance does not reference Instances"
NOT_IN_ITS_TABLE = {
    "Frame of Reference UID", "Position Reference Indicator", "Window Center", "Window Width", "VOI LUT Function",
    "Softcopy VOI LUT Sequence", "Palette Color Lookup Table Sequence", "Rescale Intercept", "Rescale Slope",
    "Rescale Type", "Referenced Image Sequence", "Referenced SOP Class UID", "Referenced SOP Instance UID",
    "Referenced Frame Number",
    *(f"{color} Palette Color Lookup Table Data" for color in ("Red", "Green", "Blue")),
    *(f"{color} Palette Color Lookup Table Descriptor" for color in ("Red", "Green", "Blue")),
}  # fmt: skip
EXTENDED = "Dicom dataset contains attributes not present in standard DICOM IOD"


def renderer():
    """The module beside this file, which is no test."""
    spec = importlib.util.spec_from_file_location("renderer", Path(__file__).with_name("renderer.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(state, folder):
    """What a viewer shows, (columns, rows, slices, 3) in [0, 1]."""
    return renderer().render(state, folder).transpose(2, 1, 0, 3)


def pair(make_series, modality="CT", count=4, edit=None, **settings):
    """An MR series and another one in one study; the study's folder and both series."""

    def change(number, made):
        made.SOPInstanceUID = f"1.2.3.4.{number + 1}"
        if edit:
            edit(number, made)

    known = {"StudyDate": "20240102", "StudyTime": "101112", "StudyID": "S1"}
    make_series(count, "study", **known)
    told = {"Modality": modality, "SeriesInstanceUID": "1.2.3.4", "SeriesNumber": 6, **known, **settings}
    folder = make_series(count, "study", change, **told)
    study = open_study(folder)
    return folder, study.choose("MR"), study.choose("1.2.3.4")


def expected(folder, palette, windows, opacity):
    """The blending of both images by the formula, (columns, rows, slices, 3), where both lie on one grid."""
    shares = []
    for name, (low, high), colors in zip(("1.2.3.2", "1.2.3.4"), windows, ("grey", palette), strict=True):
        values, _ = read_image(f"{folder}::{name}")
        unit = np.clip((values - low) / (high - low), 0, 1)
        shares.append(palette_table(colors)[np.rint(unit * 255).astype(int)] / 255)
    return (1 - opacity) * shares[0] + opacity * shares[1]


def faults(file):
    """What dciodvfy says of a file beside what it is known to say wrongly."""
    verdict = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in (verdict.stdout + verdict.stderr).splitlines() if line.strip()]
    assert verdict.returncode == 0, lines
    left = []
    for line in lines:
        absent = re.fullmatch(r"Warning - Attribute is not present in standard DICOM IOD - \(\w+,\w+\) \w\w (.*)", line)
        known = absent and absent[1].strip() in NOT_IN_ITS_TABLE
        if not known and FALSE_ERROR not in line and EXTENDED not in line:
            left.append(line)
    return left


COLOR = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0, "BitsAllocated": 8}
COLOR |= {"BitsStored": 8, "HighBit": 7, "PixelData": bytes(range(72))}
WINDOWS = ((20.0, 280.0), (-1000.0, -740.0))


@pytest.mark.parametrize(
    ("palette", "opacity"), [("grey", 0.35), ("hot_iron", 0.0), ("hot_iron", 0.6), ("winter", 1.0)]
)
def test_a_viewer_shows_the_linear_blending_of_both_sources(make_series, tmp_path, palette, opacity):
    folder, first, second = pair(make_series)
    blending = Blending(windows=WINDOWS, palettes=("grey", palette), opacity=opacity)
    write_presentation(tmp_path / "set", first, second, blending)
    (file,) = (tmp_path / "set").iterdir()
    wanted = expected(folder, palette, WINDOWS, opacity)
    assert np.abs(shown(file, folder) - wanted).max() < 1e-6 and np.ptp(wanted) > 0.3


def test_references_identity_and_geometry(make_series, tmp_path):
    folder, first, second = pair(make_series, BodyPartExamined="BRAIN")
    write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS))
    state = pydicom.dcmread(tmp_path / "set" / "PR0001.dcm")
    assert state.SOPClassUID.name == "Advanced Blending Presentation State Storage" and state.Modality == "PR"
    kept = (state.PatientID, state.PatientName, state.StudyInstanceUID, state.FrameOfReferenceUID)
    assert kept == ("P7", "Test^Head", "1.2.3.1", "1.2.3.3") and state.SeriesNumber == 12005
    assert state.SeriesDescription.startswith("Not for diagnostic use")
    listed = {item.SeriesInstanceUID: len(item.ReferencedInstanceSequence) for item in state.ReferencedSeriesSequence}
    assert listed == {"1.2.3.2": 4, "1.2.3.4": 4}
    for item, uid in zip(state.AdvancedBlendingSequence, ("1.2.3.2", "1.2.3.4"), strict=True):
        named = {reference.ReferencedSOPInstanceUID for reference in item.ReferencedImageSequence}
        assert (item.StudyInstanceUID, item.SeriesInstanceUID) == ("1.2.3.1", uid)
        assert named == {f"{uid}.{number}" for number in (1, 2, 3, 4)}
    area = state.DisplayedAreaSelectionSequence[0]
    assert list(area.PresentationPixelSpacing) == [0.5, 0.75] and "PresentationPixelAspectRatio" not in area
    assert area.DisplayedAreaBottomRightHandCorner == [4, 6]


def test_a_registered_series_is_shown_where_its_tissue_lies(make_series, tmp_path):
    folder, first, second = pair(make_series)
    turn, center = np.eye(4), np.array([8.9, 18.8, 33.0])  # RAS: a quarter turn about the middle, and one slice up
    turn[:2, :2] = [[0, -1], [1, 0]]
    turn[:3, 3] = center - turn[:3, :3] @ center + [0.3, -0.2, 2.0]
    write_presentation(tmp_path / "study" / "set", first, second, Blending(windows=WINDOWS, matrix=turn))
    names = sorted(item.name for item in (tmp_path / "study" / "set").iterdir())
    assert names == ["PR0001.dcm", "REG0001.dcm"]
    picture = shown(tmp_path / "study" / "set" / "PR0001.dcm", folder)
    values, meta = read_image(f"{folder}::1.2.3.2")
    other, place = read_image(f"{folder}::1.2.3.4")
    # A place p of the first shows what the second has at turn @ p.
    index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij")).reshape(3, -1)
    points = turn @ meta["affine"] @ np.vstack([index, np.ones(index.shape[1])])
    found = np.rint(np.linalg.solve(place["affine"], points)[:3]).astype(int)
    inside = np.all((found >= 0) & (found < np.array(other.shape)[:, None]), axis=0)
    over = np.zeros((index.shape[1], 3))
    unit = np.clip((other[tuple(found[:, inside])] - WINDOWS[1][0]) / 260, 0, 1)
    over[inside] = palette_table("hot_iron")[np.rint(unit * 255).astype(int)] / 255
    under = np.rint(np.clip((values - 20) / 260, 0, 1) * 255) / 255
    assert 0.05 < inside.mean() < 0.9
    assert np.abs(picture - 0.5 * (under[..., None] + over.reshape(*values.shape, 3))).max() < 1e-6


def test_frames_of_reference_that_differ_need_a_registration(make_series, tmp_path):
    _, first, second = pair(make_series, FrameOfReferenceUID="1.2.3.99")
    with pytest.raises(FusionInputError, match=r"another FrameOfReferenceUID \(0020,0052\) in #\d CT"):
        write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS))
    assert not (tmp_path / "set").exists()
    write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS, matrix=np.eye(4)))
    registration = pydicom.dcmread(tmp_path / "set" / "REG0001.dcm")
    frames = [item.FrameOfReferenceUID for item in registration.RegistrationSequence]
    assert frames == ["1.2.3.3", "1.2.3.99"] and registration.FrameOfReferenceUID == "1.2.3.3"


@pytest.mark.parametrize("slopes", [[2.0], [0.5, 3.0], [0.25, 1.5, 4.0]])
def test_slopes_of_pet_slices_that_differ_keep_one_window(make_series, tmp_path, slopes):
    def edit(number, made):
        made.RescaleSlope, made.RescaleIntercept = slopes[number % len(slopes)], 0
        made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.128"

    folder, first, second = pair(make_series, "PT", 6, edit)
    windows = ((20.0, 280.0), (0.0, 900.0))
    write_presentation(tmp_path / "set", first, second, Blending(windows=windows))
    wanted = expected(folder, "hot_iron", windows, 0.5)
    assert np.abs(shown(tmp_path / "set" / "PR0001.dcm", folder) - wanted).max() < 0.01


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"StudyInstanceUID": "1.2.9"}, "different studies"),
        ({"FrameOfReferenceUID": None}, "or none"),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", **COLOR}, "in color"),
    ],
)
def test_what_cannot_be_shown_as_one_is_refused(make_series, tmp_path, change, reason):
    _, first, second = pair(make_series, **change)
    with pytest.raises(FusionInputError, match=reason):
        write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_in_every_character_set(make_series, tmp_path, charset, name):
    folder, *_ = pair(make_series)
    for file in folder.iterdir():
        made = pydicom.dcmread(file)
        made.SpecificCharacterSet, made.PatientName = charset, name
        made.save_as(file)
    study = open_study(folder)
    first, second = study.choose("MR"), study.choose("1.2.3.4")
    write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS))
    state = pydicom.dcmread(tmp_path / "set" / "PR0001.dcm")
    assert str(state.PatientName) == name


def test_what_highdicom_does_not_take_is_told_as_such(make_series, tmp_path, monkeypatch):
    from highdicom import pr

    _, first, second = pair(make_series)

    def refuse(*_, **__):
        raise ValueError("no valid header")

    monkeypatch.setattr(pr, "AdvancedBlendingPresentationState", refuse)
    with pytest.raises(FusionInputError, match="expected headers that highdicom takes, found ValueError: no valid"):
        write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS))
    assert not (tmp_path / "set").exists()


def test_a_validator_finds_nothing_but_what_it_does_not_know(make_series, tmp_path):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (Debian: apt install dicom3tools)")
    _, first, second = pair(make_series)
    write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS, matrix=np.eye(4)))
    assert faults(tmp_path / "set" / "PR0001.dcm") == ["AdvancedBlendingSoftcopyPresentationState"]
    assert faults(tmp_path / "set" / "REG0001.dcm") == ["SpatialRegistration"]


def test_without_highdicom_the_command_that_installs_it_is_told(make_series, tmp_path, monkeypatch):
    _, first, second = pair(make_series)
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(FusionInputError, match=r"pip install 'clinicalfmamba-nets\[dicomweb\]'"):
        write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS))


def test_highdicom_reads_windows_and_palettes_back(make_series, tmp_path):
    import highdicom

    _, first, second = pair(make_series)
    write_presentation(tmp_path / "set", first, second, Blending(windows=WINDOWS, palettes=("grey", "hot_metal_blue")))
    state = pydicom.dcmread(tmp_path / "set" / "PR0001.dcm")
    for item, palette, (low, high) in zip(
        state.AdvancedBlendingSequence, ("grey", "hot_metal_blue"), WINDOWS, strict=True
    ):
        read = highdicom.PaletteColorLUTTransformation.extract_from_dataset(item.PaletteColorLookupTableSequence[0])
        table = np.stack([read.red_lut.lut_data, read.green_lut.lut_data, read.blue_lut.lut_data], axis=-1)
        assert np.array_equal(table, palette_table(palette).astype(int) * 257)
        window = item.SoftcopyVOILUTSequence[0]
        voi = highdicom.VOILUTTransformation(
            float(window.WindowCenter), float(window.WindowWidth), voi_lut_function=window.VOILUTFunction
        )
        assert np.allclose(voi.apply(np.array([low, (low + high) / 2, high])), [0, 0.5, 1])


def spect(make_series, frames=5):
    """An MR series and a SPECT of one multi-frame file, its place in DetectorInformationSequence."""
    from pydicom.dataset import Dataset

    make_series(frames, "study")

    def change(number, made):
        made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.20", "1.2.3.4.1"
        made.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
        made.NumberOfFrames = made.NumberOfSlices = frames
        made.SliceVector, made.SpacingBetweenSlices = list(range(1, frames + 1)), 2.0
        detector = Dataset()
        detector.ImageOrientationPatient, detector.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -20, 30]
        made.DetectorInformationSequence = [detector]
        made.PixelData = np.arange(24 * frames, dtype="<u2").tobytes()
        del made.ImagePositionPatient, made.ImageOrientationPatient

    folder = make_series(1, "study", change, Modality="NM", SeriesInstanceUID="1.2.3.4", SeriesNumber=6)
    study = open_study(folder)
    return study.choose("MR"), study.choose("NM")


def test_a_spect_of_many_frames_is_one_reference(make_series, tmp_path):
    first, second = spect(make_series)
    write_presentation(tmp_path / "set", first, second, Blending(windows=((20.0, 280.0), (0.0, 110.0))))
    state = pydicom.dcmread(tmp_path / "set" / "PR0001.dcm")
    (reference,) = state.AdvancedBlendingSequence[1].ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == "1.2.3.4.1" and "ReferencedFrameNumber" not in reference
    if shutil.which("dciodvfy"):
        left = [line for line in faults(tmp_path / "set" / "PR0001.dcm") if "DICOMDIR" not in line]
        assert left == ["AdvancedBlendingSoftcopyPresentationState"]


def test_one_contrast_of_a_series_is_named_slice_by_slice(make_series, tmp_path):
    def edit(number, made):
        made.EchoTime = 11 if number < 3 else 92
        made.ImagePositionPatient = [-10, -20, 30 + 2 * (number % 3)]

    rows = open_study(make_series(6, "study", edit)).series
    assert [row.split for row in rows] == ["EchoTime=11", "EchoTime=92"]
    write_presentation(tmp_path / "set", *rows, Blending(windows=((0.0, 500.0), (0.0, 500.0))))
    items = pydicom.dcmread(tmp_path / "set" / "PR0001.dcm").AdvancedBlendingSequence
    named = [{part.ReferencedSOPInstanceUID for part in item.ReferencedImageSequence} for item in items]
    assert named == [{f"1.2.3.2.{n}" for n in (1, 2, 3)}, {f"1.2.3.2.{n}" for n in (4, 5, 6)}]


def test_frames_of_an_enhanced_image_with_slopes_of_their_own_are_named(dicom_file, make_series, tmp_path):
    from pydicom.dataset import Dataset

    def edit(made):
        made.SOPInstanceUID, made.SeriesInstanceUID = "1.2.3.4.1", "1.2.3.4"
        made.PixelData = np.arange(24 * 4, dtype="<u2").tobytes()
        for number, group in enumerate(made.PerFrameFunctionalGroupsSequence):
            rescale = Dataset()
            rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1 + number % 2, 0, "US"
            group.PixelValueTransformationSequence = [rescale]

    folder = make_series(4, "study")
    dicom_file(folder / "enhanced.dcm", 4, edit)
    study = open_study(folder)
    first, second = study.choose("1.2.3.2"), study.choose("1.2.3.4")
    write_presentation(tmp_path / "set", first, second, Blending(windows=((0.0, 500.0), (0.0, 90.0))))
    item = pydicom.dcmread(tmp_path / "set" / "PR0001.dcm").AdvancedBlendingSequence[1]
    assert (float(item.RescaleSlope), float(item.RescaleIntercept)) == (1, 0), "stored values, windows of their own"
    found = {
        float(window.WindowWidth): list(window.ReferencedImageSequence[0].ReferencedFrameNumber)
        for window in item.SoftcopyVOILUTSequence
    }
    assert found == {90.0: [1, 3], 45.0: [2, 4]}
