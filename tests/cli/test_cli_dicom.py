"""DICOM studies on the command line: listed, chosen, fused slice by slice, written as a series or as NIfTI."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from clinicalfmamba_nets.io import read_image


def study(shared_data):
    """A folder with two contrasts of one head-sized phantom in one series."""
    return shared_data / "dicom" / "mr_pd_t2_dual_echo"


def small_study(shared_data, folder):
    """Three positions of both contrasts of `study`."""
    import pydicom

    folder.mkdir()
    files = sorted(study(shared_data).iterdir())
    places = sorted({float(pydicom.dcmread(file).ImagePositionPatient[0]) for file in files})[:3]
    for file in files:
        if float(pydicom.dcmread(file).ImagePositionPatient[0]) in places:
            shutil.copy(file, folder)
    return folder


def test_info_lists_the_series(run_cli, shared_data):
    done = run_cli("info", study(shared_data))
    assert done.code == 0 and "#2 MR 3 pd+t2_tse_sag_ISO_1.8mm EchoTime=92 64 x 64 x 35" in done.out
    assert "2 series, 2 of them volumes" in done.out
    gap = run_cli("info", shared_data / "bad" / "dicom" / "missing_slice")
    assert "PROBLEM: expected slices every 5 mm, found 10 mm" in gap.out


def test_a_study_becomes_a_series_that_a_validator_accepts(toy_cli, shared_data, tmp_path):
    folder = small_study(shared_data, tmp_path / "study")
    done = toy_cli("fuse", folder, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    fused, meta = read_image(tmp_path / "out" / "study_fused")
    source, place = read_image(f"{folder}::EchoTime=11")
    assert fused.shape == source.shape and np.abs(meta["affine"] - place["affine"]).max() < 1e-3
    assert source.min() <= fused.min() and fused.max() <= source.max()
    assert (tmp_path / "out" / "study_preview.png").is_file()
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert told["outputs"][0]["image2"].endswith("EchoTime=92")
    assert told["details"]["study"]["task"] == "t2_flair", "two MR series"
    again = toy_cli("fuse", folder, "-o", tmp_path / "out")
    assert again.code == 0 and "already there" in again.out
    if not shutil.which("dciodvfy"):
        pytest.skip("fused, not validated: dciodvfy is not installed (Debian: apt install dicom3tools)")
    file = tmp_path / "out" / "study_fused" / "IM0001.dcm"
    verdict = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False).stderr
    assert "MRImage" in verdict and "Error" not in verdict


def test_format_and_series_can_be_named(toy_cli, shared_data, tmp_path):
    folder = small_study(shared_data, tmp_path / "study")
    options = ("--series", "EchoTime=92", "--series", "EchoTime=11", "--format", "nifti")
    done = toy_cli("fuse", folder, "-o", tmp_path / "out", *options)
    assert done.code == 0, done.err
    fused, meta = read_image(tmp_path / "out" / "study_fused.nii.gz")
    _, place = read_image(f"{folder}::EchoTime=92")
    assert fused.shape == (64, 64, 3) and np.abs(meta["affine"] - place["affine"]).max() < 1e-3
    assert toy_cli("fuse", folder, "-o", tmp_path / "out", "--series", "MR").code == 2


@pytest.mark.parametrize("name", ["missing_slice", "rgb", "rows_cols_lie", "truncated_slice", "mixed_series"])
def test_what_is_no_volume_leaves_no_output(toy_cli, shared_data, tmp_path, name):
    bad = shared_data / "bad" / "dicom"
    done = toy_cli("fuse", bad / "good_ct", bad / name, "-o", tmp_path / "out")
    assert done.code == 1 and name in done.cause and "expected" in done.cause and "Traceback" not in done.err
    assert {item.name for item in (tmp_path / "out").iterdir()} <= {"run.json"}


def test_a_data_list_names_a_series(toy_cli, shared_data, tmp_path):
    folder = small_study(shared_data, tmp_path / "study")
    entries = [{"image": f"{folder}::EchoTime=11", "image2": f"{folder}::EchoTime=92", "case": "one"}]
    (tmp_path / "list.json").write_text(json.dumps({"testing": entries}))
    done = toy_cli("fuse", "--datalist", tmp_path / "list.json", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "one_fused" / "IM0003.dcm").is_file()


def test_series_of_images_of_another_format_name_the_option(run_cli, tmp_path):
    for name in ("mr.nii.gz", "ct.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    done = run_cli(
        "fuse", tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz", "-o", tmp_path / "out", *["--series", "MR"] * 2
    )
    assert done.code == 1 and not list((tmp_path / "out").glob("*_fused*"))
    cause = done.err.splitlines()[-1]
    assert "mr.nii.gz: expected a DICOM folder for --series, found an image that ends in .nii.gz; leave it out" in cause
