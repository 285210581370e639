"""The DICOM cases beside the data: what is chosen, read and placed, or refused, in a table (-s)."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io.dicom.read import read_series
from clinicalfmamba_nets.io.dicom.study import open_study

# Case -> words of the refusal, or of what is noted or warned; "" where nothing is to be told.
WANTED = {
    "control_study": "",
    "position_rounded_01": "mm off even distances",
    "orientation_jitter": "",
    "localizer_in_series": "1 scout image (localizer) in the series, left out: scout0000.dcm",
    "echo_time_jitter": "",
    "echo_time_missing_in_one": "no EchoTime in im0005.dcm",
    "echo_time_half_and_half": "expected two series to fuse, found 1 of 1",
    "echo_time_jitter_alone": "expected two series to fuse, found 1 of 1",
    "dixon_one_series": "",
    "dwi_b0_and_directions": "",
    "duplicate_files": "equal copies, left out",
    "frame_of_reference_missing_second": "no FrameOfReferenceUID (0020,0052)",
    "gantry_tilt": "14.9 degrees off their normal",
    "two_studies": "expected two series to fuse, found 4 of 4",
    "enhanced_two_echoes": "EchoTime=92",
    "enhanced_flip_angles": "FlipAngle=20",
    "enhanced_slopes": "",
    "nm_recon_tomo": "",
    "nm_own_grid": "",
    "symlinked_series_folders": "linked folders, followed: ct, mr",
    "study_zip": "",
    "main_mr_broken_scout_taken": "(MR 1): expected slices every 3 mm, found 6 mm",
    "pet_dynamic": "FrameReferenceTime=30000",
    "flair_before_t2": "first image: T2 (#2 MR 5 AX T2 TSE",
    "patient_cd_with_viewer": "not DICOM, left out: AUTORUN_0000.HTM",
    "pet_bqml": "",
    "ct_half_coverage_study": "",
}
KEYS = {"MR": "mr", "CT": "ct", "PT": "pt", "NM": "spect"}


@pytest.fixture(scope="module")
def cases(shared_data):
    """The modules that write the cases and know their true values."""
    folder = shared_data.parent / "cases"
    if not (folder / "scanner_inputs.py").is_file():
        pytest.skip(f"no cases at {folder}: they lie beside the folder that CLINICALFMAMBA_DATA names")
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("scanner_inputs"), importlib.import_module("truth")
    finally:
        sys.path.remove(str(folder))


def told(case, folder, writer):
    """The pair of a case, and all that is told of it in one text."""
    arguments = writer.make(case, folder)
    selectors = [after for word, after in zip(arguments, arguments[1:], strict=False) if word == "--series"]
    study = open_study(arguments[1])
    pair = study.pair(selectors)
    texts = [*study.notes, *study.warnings, *pair.notes, *pair.warnings]
    for row in pair.series:
        texts += [row.split, *row.notes, *row.warnings]
    return pair.series, "; ".join(filter(None, texts))


def faults(pair, true):
    """What is not as the truth says: value, or place in mm."""
    found = []
    for row, key in zip(pair, ("affine", "affine2"), strict=True):
        place = true.get(key, true.get("affine"))
        if place is not None and not np.allclose(row.affine, place, atol=1e-3):
            found.append(f"{row.modality} {np.abs(row.affine - place).max():.2g} mm off")
        values = true.get(KEYS.get(row.modality, ""))
        array = read_series(row)[0] if values is not None else None
        if array is not None and (array.shape != values.shape or np.abs(array - values).max() > true["tolerance"]):
            found.append(f"{row.modality} has other values")
    return found


def test_every_case_of_choosing_and_geometry(cases, tmp_path):
    writer, truth = cases
    wrong = []
    for case, words in WANTED.items():
        try:
            pair, text = told(case, tmp_path / case, writer)
            verdict = " + ".join(row.name for row in pair)
            bad = faults(pair, truth.truth(case)) if case in truth.names() else []
        except FusionInputError as error:
            verdict, text, bad = "refused", str(error), [] if words else ["refused"]
        bad += [] if words in text else [f"not told: {words}"]
        bad += ["told more"] if not words and text and "Series" not in text and "=" not in text else []
        wrong += [(case, bad, text)] if bad else []
        print(f"{'BAD' if bad else 'ok ':<4}{case:<36}{verdict[:80]:<82}{text.replace(str(tmp_path), '')[:120]}")
    assert not wrong
