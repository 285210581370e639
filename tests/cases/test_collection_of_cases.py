"""Every case of the collection of scanner inputs, run by the command line, in one table.

The collection (`scanner_inputs.py`, `truth.py`, `python_api_cases.py`) lies beside the folder of the test data and is
no part of the project. A case holds when one of its rules does; where it is fused, values are compared with true ones.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image


@dataclass
class Run:
    """A case as it was run by the command line."""

    name: str
    arguments: list[str]
    output: Path
    code: int
    text: str
    cause: str
    seconds: float = 0.0
    true: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> list[str]:
        """The images, or the study, that were named."""
        words = self.arguments[1:]
        return words[: next((place for place, word in enumerate(words) if word.startswith("-")), len(words))]

    @property
    def results(self) -> list[Path]:
        """The fused images."""
        return [path for path in self.output.glob("*_fused*")] if self.output.is_dir() else []

    def fused(self) -> np.ndarray:
        """The fused image."""
        return read_image(self.results[0])[0].astype(float)


Rule = Callable[[Run], str]


def fused(told: str = "", values: bool = True, check: Rule | None = None) -> Rule:
    """A result is there, what must be told is told, and values are the true ones; a rule returns what is wrong."""

    def rule(run: Run) -> str:
        if run.code or not run.results:
            return f"not fused: {run.cause}"
        if told and not re.search(told, run.text, re.I):
            return f"fused, but nothing tells of {told!r}"
        return (wrong_values(run) if values and run.true else "") or (check(run) if check else "")

    return rule


def refused(told: str = "") -> Rule:
    """Refused in one line that names the cause, and nothing is left behind."""

    def rule(run: Run) -> str:
        if not run.code or run.results:
            return "not refused"
        if "Traceback" in run.text or not run.cause.startswith("error:"):
            return f"no one-line cause: {run.cause}"
        return "" if re.search(told, run.cause, re.I) else f"the cause does not name {told!r}: {run.cause}"

    return rule


def told(words: str) -> Rule:
    """Exit code 0, and the text says it."""
    return lambda run: "" if not run.code and re.search(words, run.text, re.I) else f"not told: {words}; {run.cause}"


def wrong_values(run: Run) -> str:
    """Return how what is read differs from the true values and places, "" for not at all."""
    keys = [key for key in ("mr", "ct", "pt", "spect", "rgb") if key in run.true]
    for key in keys:
        path = _path_of(run, key, keys)
        if path is None:
            continue
        try:
            array, meta = read_image(path)
        except FusionInputError as error:
            return f"{key} cannot be read: {error}"
        true = np.asarray(run.true[key], dtype=float)
        if array.squeeze().shape != true.squeeze().shape:
            return f"{key} has shape {array.shape} instead of {true.shape}"
        apart = np.abs(array.squeeze() - true.squeeze()).max()
        if not apart <= max(run.true.get("tolerance", 0.51), 1e-5 * np.abs(true).max()):
            return f"{key} differs by up to {apart:.4g}"
        place = run.true.get("affine" if key == keys[0] else "affine2")
        if place is not None and not np.allclose(meta["affine"], place, atol=1e-3):
            return f"{key} lies elsewhere: {np.round(meta['affine'], 3).tolist()}"
    return ""


def _path_of(run: Run, key: str, keys: list[str]) -> str | None:
    if len(run.inputs) == 2:
        return run.inputs[keys.index(key)] if keys.index(key) < 2 else None
    return f"{run.inputs[0]}::{ {'mr': 'MR', 'ct': 'CT', 'pt': 'PT', 'spect': 'NM', 'rgb': 'OT'}[key] }"


def bleeding_stands_out(run: Run) -> str:
    """The bleeding is far above brain in the fused image."""
    image, regions = run.fused(), run.true["regions"]
    above = image[regions["bleeding"]].mean() - image[regions["brain"]].mean()
    return "" if above > 100 else f"the bleeding is {above:.0f} above brain"


def uncovered_is_copied(run: Run) -> str:
    """Where the second image is missing, the fused one is the first."""
    image, where = run.fused(), run.true["regions"]["brain"] & ~run.true["covered"]
    apart = np.abs(image[where] - run.true["mr"][where]).max()
    return "" if apart < 10 else f"the part without the second image differs from the first by up to {apart:.0f}"


def brain_is_even(run: Run) -> str:
    """What is uniform in both images stays so within 15 %."""
    values = run.fused()[run.true["regions"]["brain"]]
    low, high = np.percentile(values, [1, 99])
    share = (high - low) / values.mean()
    return "" if share < 0.15 else f"the uniform brain varies by {100 * share:.0f} %"


def mirror_symmetric(run: Run) -> str:
    """Less than 1 % of the head differs by more than 10 % of the range from the other side."""
    image = run.fused()
    head = read_image(run.inputs[0])[0] > 100
    apart = np.abs(image - image[::-1])[head] > 0.1 * (image.max() - image.min())
    return "" if apart.mean() < 0.01 else f"{100 * apart.mean():.1f} % of the head differs from the other side"


def in_colour(run: Run) -> str:
    """The result is in color."""
    shape = run.fused().shape
    return "" if shape[-1] == 3 and len(shape) > 2 else f"the result has shape {shape}"


def at_most(seconds: float) -> Rule:
    """Done within a time, whatever else runs on the machine."""
    return lambda run: "" if not run.code and run.seconds < seconds else f"exit {run.code} after {run.seconds:.0f} s"


def results(count: int) -> Rule:
    """So many results."""
    return lambda run: "" if len(run.results) == count else f"{len(run.results)} results"


def free_of(*texts: bytes) -> Rule:
    """No result holds these bytes."""

    def rule(run: Run) -> str:
        import gzip

        contents = [path.read_bytes() for path in run.output.rglob("*") if path.is_file()]
        contents += [gzip.decompress(content) for content in contents if content.startswith(b"\x1f\x8b")]
        found = [text for text in texts if any(text in content for content in contents)]
        return f"{found} in a result" if found else ""

    return rule


FUSED, SHEAR = fused(), fused("shear|tilt")
RULES: dict[str, tuple[Rule, ...]] = {
    "padding_us_for_signed": (fused("padding|without data"),),
    "padding_ss_for_signed": (fused("padding|without data"),),
    "bits_stored_too_small": (fused("BitsStored"), refused("BitsStored")),
    "sc_palette": (FUSED, refused("PALETTE COLOR")),
    "jpeg_xl": (refused("1.2.840.10008.1.2.4.11|JPEG XL"),),
    "monochrome1": (fused("MONOCHROME1"), refused("MONOCHROME1")),
    "high_bit_15_of_12": (FUSED, refused("HighBit")),
    "position_rounded_01": (fused("spacing|position|rounded"),),
    "localizer_in_series": (fused("left out|localizer|scout"),),
    "echo_time_missing_in_one": (fused("EchoTime"), refused("EchoTime")),
    "echo_time_half_and_half": (refused(),),
    "dixon_one_series": (refused("ImageType"), FUSED),
    "dwi_b0_and_directions": (refused("DiffusionBValue"), FUSED),
    "duplicate_files": (fused("equal|duplicate|twice|copy|same"),),
    "frame_of_reference_missing_second": (fused("FrameOfReference"), refused("FrameOfReference")),
    "frame_of_reference_differs": (refused("FrameOfReference.*register"),),
    "gantry_tilt": (SHEAR,),
    "two_studies": (refused("stud"),),
    "patient_ids_differ_by_case": (refused("patient"),),
    "enhanced_two_echoes": (refused("EchoTime"), FUSED),
    "enhanced_flip_angles": (refused("FlipAngle"), FUSED),
    "multi_valued_window_and_text_numbers": (fused("window|WL|40"),),
    "symlinked_series_folders": (FUSED, refused("link")),
    "study_zip": (FUSED, refused("zip|archive")),
    "echo_time_jitter_alone": (refused(),),
    "main_mr_broken_scout_taken": (refused(), fused("left out")),
    "pixel_padding_outside_bits_stored": (fused("padding|without data"), refused("padding|BitsStored")),
    "dicom_many_slices": (at_most(60),),
    "pet_dynamic": (fused("frame|FrameReferenceTime|AcquisitionTime"), refused("FrameReferenceTime|AcquisitionTime")),
    "flair_before_t2": (FUSED, refused("T2|FLAIR")),
    "metal_3071_hu": (FUSED,),
    "frame_of_reference_differs_registered": (FUSED,),
    "ct_bleeding": (fused(check=bleeding_stands_out), fused("window")),
    "ct_bleeding_nifti": (fused(check=bleeding_stands_out), fused("window")),
    "ct_bleeding_and_filling": (fused(check=bleeding_stands_out), fused("window")),
    "ct_bleeding_and_padding": (fused("padding|without data", check=bleeding_stands_out),),
    "ct_bleeding_window_asked": (fused(check=bleeding_stands_out),),
    "ct_named_first": (fused("exchang|order|first"), refused()),
    "ct_half_coverage_study": (fused("warning.*cover", values=False, check=uncovered_is_copied),),
    "ct_half_coverage_nifti": (fused("warning.*cover", values=False, check=uncovered_is_copied),),
    "pet_palette_asked": (fused(check=in_colour), fused(check=results(1))),
    "bids_folder": (FUSED, refused("name the two")),
    "nifti_sform_qform_disagree": (fused(r"sform.*qform.*6\.7\d* mm"),),
    "nifti_no_place_second": (fused("voxel by voxel"), refused("place in space")),
    "nifti_second_is_mirror_without_codes": (fused("voxel by voxel"), refused("place in space")),
    "nrrd_no_place_second": (fused("voxel by voxel"), refused("place in space")),
    "nifti_vox_offset_zero": (fused("vox_offset"), refused("vox_offset")),
    "nifti_slope_one_inter_nan": (fused("scl_inter"), refused("scl_inter")),
    "nifti_units_micron_second": (FUSED, refused("micro|xyzt_units")),
    "nifti_trailing_bytes": (fused("behind"), refused("bytes")),
    "nifti_gz_not_compressed": (FUSED, refused("gzip-compressed")),
    "nifti_sagittal_slice": (FUSED, refused("slice")),
    "nifti_nan_background": (fused("NaN"), refused(r"\d+ NaN")),
    "nifti_hdr_img": (FUSED, refused("hdr|img")),
    "nrrd_rgb_vector": (refused("kinds|direction|color"),),
    "nrrd_4d_none": (refused("4D"),),
    "nrrd_4d_of_one": (FUSED, refused("4D")),
    "png_nearly_grey_rgb": (fused("nearly grey"), refused("nearly grey")),
    "png_ct_with_coloured_text": (fused("in color and named CT"),),
    "picture_jpeg": (FUSED, refused("JPEG")),
    "picture_tiff": (FUSED, refused("TIFF")),
    "metaimage_mha": (FUSED, refused("MetaImage")),
    "png_exif_rotated": (fused("EXIF"),),
    "nifti_patient_in_header": (fused(check=free_of(b"TEST", b"Test H", b"T.Head")),),
    "info_of_a_nifti": (told("48 x 48 x 24"),),
    "nifti_float64_huge": (FUSED, refused("values up to")),
    "nifti_spect_volume": (fused("spect_mri|t2_flair"),),
    "nifti_t1_t1ce": (fused("t2_flair|T2 and FLAIR"),),
    "nifti_far_fields_of_view": (fused("warning.*cover"), refused("cover")),
    "volume_uniform_brain": (fused(check=brain_is_even),),
    "volume_mirror_symmetric": (fused(check=mirror_symmetric),),
    "head_turned": (fused("warning.*register"), refused("register")),
    "png_folders_swapped": (fused("exchang|order"), refused("order")),
    "picture_pairs_folder": (fused(check=results(3)),),
}  # every other case is fused with its true values


TWICE = ("output_in_study", "picture_pairs_folder")


def collection() -> Path:
    """The folder of the collection; where it is absent the tests are skipped and say so."""
    data = Path(os.environ.get("CLINICALFMAMBA_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    return data.parent / "cases"


def run_case(name: str, folder: Path, run_cli: Callable[..., Any]) -> Run:
    """Write a case and run it."""
    import scanner_inputs
    import truth

    arguments = scanner_inputs.make(name, folder / "in")
    words = [str(folder / "out") if word == "OUT" else word for word in arguments]
    output = Path(words[words.index("-o") + 1]) if "-o" in words else folder / "out"
    start = time.monotonic()
    for _ in range(2 if name in TWICE else 1):
        outcome = run_cli(*words)
    true = truth.truth(name) if name in truth.names() else {}
    text, cause = (without_paths(part, folder) for part in (outcome.out + outcome.err, outcome.cause))
    return Run(name, words, output, outcome.code, text, cause, time.monotonic() - start, true)


def without_paths(text: str, folder: Path) -> str:
    """Take the paths of a case out of what was printed: its words must be in the message, not in a file's name."""
    return re.sub(rf"{re.escape(str(folder))}[^\s:;,'\"()]*", "PATH", text)


def judged(name: str, folder: Path, run_cli: Callable[..., Any]) -> str:
    """Return what is wrong about a case, "" for nothing."""
    run = run_case(name, folder, run_cli)
    wrong = [rule(run) for rule in RULES.get(name, (FUSED,))]
    return "" if "" in wrong else "; or ".join(wrong)


def test_words_of_a_rule_are_not_found_in_paths(tmp_path):
    folder = tmp_path / "000"
    printed = f"[1] note: {folder}/in/padding/ct: padding 3; done, {folder}/out/padding_fused\nerror: {folder}/a.png: b"
    assert without_paths(printed, folder) == "[1] note: PATH: padding 3; done, PATH\nerror: PATH: b"


@pytest.mark.slow
def test_table_of_cases(tmp_path, run_cli, capfd, monkeypatch):
    if not (collection() / "scanner_inputs.py").is_file():
        pytest.skip(f"no collection of cases at {collection()}: set CLINICALFMAMBA_DATA to the data folder beside it")
    monkeypatch.syspath_prepend(str(collection()))
    import scanner_inputs

    chosen = os.environ.get("CASES", "").split()
    states: dict[str, str] = {}
    for name in chosen or scanner_inputs.CASES:
        try:
            states[name] = judged(name, tmp_path / f"{len(states):03d}", run_cli)
        except ImportError as error:
            states[name] = f"not written: {error}"
        with capfd.disabled():
            state = states[name] or "holds"
            print(f"{'    ' if not states[name] or state.startswith('not written') else 'FAIL'} {name}: {state[:300]}")
    written = {name: state for name, state in states.items() if not state.startswith("not written")}
    failed = {name: state for name, state in written.items() if state}
    with capfd.disabled():
        print(f"{len(written) - len(failed)} of {len(written)} cases hold, {len(states) - len(written)} not written")
    assert not failed, json.dumps(failed, indent=1)


@pytest.mark.slow
def test_table_of_calls(capfd):
    script = collection() / "python_api_cases.py"
    if not script.is_file():
        pytest.skip(f"no collection of cases at {collection()}: set CLINICALFMAMBA_DATA to the data folder beside it")
    words = [sys.executable, str(script), *os.environ.get("CASES", "").split()]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    with capfd.disabled():
        print(done.stdout)
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if line.startswith("FAIL"))
