"""A made study in a real archive: found, fetched, fused, stored, read back; and what happens when the archive fails."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest

from clinicalfmamba_nets.io import read_image

pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed: pip install dicomweb-client")
pytest.importorskip("highdicom", reason="highdicom is not installed: pip install highdicom")
pytestmark = pytest.mark.slow
UID = "1.2.826.0.1.3680043.8.498.1000.1"
SECRET = "secret-word-41"


@pytest.fixture
def fuse(toy_cli, door, orthanc, monkeypatch, tmp_path):
    """`fuse(*options)` fuses the study behind the door into OUT, with the password in the environment."""
    monkeypatch.setenv("CLINICALFMAMBA_DICOMWEB_HEADERS", orthanc.header)

    def run(*options, study=UID, out="out"):
        return toy_cli("fuse", "--dicomweb", door.url, "--study", study, "-o", tmp_path / out, *options)

    return run


def everything(folder):
    """All bytes below a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def one_line(done, *words):
    """Whether a run failed in one line with these words, and told no secret."""
    lines = [line for line in done.err.splitlines() if "error" in line or "failed" in line or "Traceback" in line]
    assert done.code == 1 and len(lines) == 1 and SECRET not in done.out + done.err, (done.out, done.err)
    assert all(word in done.cause for word in words), done.cause
    return True


def test_round_trip(fuse, toy_cli, orthanc, door, head_study, tmp_path):
    study = head_study(slices=5)
    orthanc.add(study)
    done = fuse("--store")
    assert done.code == 0, done.err
    assert "stored   6 objects" in done.out and orthanc.count() == 10 + 6
    folder = tmp_path / "out" / f"{UID}_fused"
    local = toy_cli("fuse", study, "-o", tmp_path / "local", "--task", "ct_mri")
    assert local.code == 0, local.err
    beside = read_image(tmp_path / "local" / "study_fused")[0]
    assert np.array_equal(read_image(folder)[0], beside), "as from the folder"
    (state,) = orthanc.objects("PR")
    kept = pydicom.dcmread(io.BytesIO(state))
    assert kept == pydicom.dcmread(tmp_path / "out" / f"{UID}_presentation" / "PR0001.dcm")
    source = pydicom.dcmread(study / "MR00.dcm")
    assert kept.StudyInstanceUID == source.StudyInstanceUID and kept.PatientID == source.PatientID
    fused = [one for one in map(pydicom.dcmread, map(io.BytesIO, orthanc.objects("MR")))]
    fused = [one for one in fused if one.get("ManufacturerModelName") == "clinicalfmamba-nets"]
    assert len(fused) == 5 and len({one.SeriesInstanceUID for one in fused}) == 1
    assert not (tmp_path / "out" / ".dicomweb").exists(), "nothing that was fetched stays"
    assert SECRET.encode() not in everything(tmp_path / "out") and SECRET not in done.out + done.err
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(report["details"][UID]["dicomweb"]["stored"]) == 6
    assert orthanc.header.split()[-1] not in json.dumps(report)


def test_a_second_run_fetches_and_stores_nothing(fuse, orthanc, door, head_study):
    orthanc.add(head_study())
    assert fuse().code == 0 and door.fetched() == 8 and door.stored() == 0
    again = fuse()
    assert again.code == 0 and "already there" in again.out and door.fetched() == 8
    assert fuse("--store").code == 0 and door.stored() >= 1 and orthanc.count() == 8 + 5
    sent, count = door.stored(), door.fetched()
    third = fuse("--store")
    assert third.code == 0 and "already there" in third.out
    assert (door.stored(), door.fetched(), orthanc.count()) == (sent, count, 13)


def test_an_image_that_is_added_later_makes_the_earlier_result_another_one(fuse, orthanc, head_study, tmp_path):
    study = head_study(slices=5)
    late = [(study / name).rename(tmp_path / name) for name in ("MR04.dcm", "CT04.dcm")]
    orthanc.add(study)
    assert fuse().code == 0
    for file in late:
        orthanc.ask("/instances", file.read_bytes())
    assert one_line(fuse(), "--overwrite")
    assert fuse("--overwrite").code == 0 and read_image(tmp_path / "out" / f"{UID}_fused")[0].shape[2] == 5


@pytest.mark.parametrize("task", [(), ("--series", "CT", "--series", "MR")])
def test_series_are_chosen_as_in_a_folder(fuse, orthanc, head_study, task, tmp_path):
    orthanc.add(head_study())
    done = fuse(*task)
    assert done.code == 0, done.err
    assert pydicom.dcmread(tmp_path / "out" / f"{UID}_fused" / "IM0001.dcm").Modality == "MR"
    assert ("exchanged" in done.out) == bool(task)


def test_series_named_by_uid_are_all_that_is_fetched(fuse, orthanc, door, head_study):
    study = head_study()
    orthanc.add(study)
    for number in range(4):
        made = pydicom.dcmread(study / f"CT{number:02d}.dcm")
        made.SeriesInstanceUID, made.SOPInstanceUID = f"{UID}.77", f"{UID}.77.{number}"
        buffer = io.BytesIO()
        made.save_as(buffer, enforce_file_format=True)
        orthanc.ask("/instances", buffer.getvalue())
    assert one_line(fuse(), "two series to fuse")
    before = door.fetched()
    done = fuse("--series", f"{UID}.2", "--series", f"{UID}.77")
    assert done.code == 0 and door.fetched() - before == 8, done.err


def test_without_a_password(fuse, orthanc, door, head_study, monkeypatch, tmp_path):
    orthanc.add(head_study())
    monkeypatch.setenv("CLINICALFMAMBA_DICOMWEB_HEADERS", "Authorization: Basic bm9ib2R5Ondyb25nLXdvcmQ=")
    done = fuse("--store")
    assert one_line(done, "HTTP 401", "CLINICALFMAMBA_DICOMWEB_HEADERS") and orthanc.count() == 8
    assert "bm9ib2R5Ondyb25nLXdvcmQ" not in done.out + done.err + (tmp_path / "out" / "run.json").read_text()


def test_nobody_answers(toy_cli, tmp_path):
    start = time.monotonic()
    done = toy_cli(
        "fuse", "--dicomweb", "http://127.0.0.1:9/dicom-web", "--study", UID, "-o", tmp_path / "out", "--store"
    )
    assert one_line(done, "127.0.0.1:9", "found none", "whether the archive runs") and time.monotonic() - start < 30


def test_a_study_that_is_not_there(fuse, orthanc, head_study):
    orthanc.add(head_study())
    assert one_line(fuse(study="1.2.3.4.5"), "study 1.2.3.4.5")


@pytest.mark.parametrize("part", ["series?", "/instances?", "/instances/"])
def test_half_an_answer(fuse, orthanc, door, head_study, part, tmp_path):
    orthanc.add(head_study())

    def cut(method, path, code, told, content):
        half = part in path and method == "GET"
        if half and part == "/instances/":
            half = door.fetched() >= 4
        return code, told, content, len(content) // 2 if half else None

    door.alter = cut
    assert one_line(fuse("--store"), "half of one", "run it again") and orthanc.count() == 8
    left = list((tmp_path / "out").rglob("*.dcm"))
    assert len(left) == (3 if part == "/instances/" else 0), "whole images wait for the next run"
    door.alter, before = None, door.fetched()
    done = fuse("--store")
    assert done.code == 0 and door.fetched() - before == 8 - len(left) + 5, "and each object is read back"


def test_an_answer_that_lacks_images(fuse, orthanc, door, head_study):
    orthanc.add(head_study())

    def shorten(method, path, code, told, content):
        if "/instances?" in path and "offset" not in path:
            content = json.dumps(json.loads(content)[1:]).encode()
        elif "/instances?" in path:
            content = b"[]"
        return code, told, content, None

    door.alter = shorten
    assert one_line(fuse("--store"), "expected 4 images, found 3") and orthanc.count() == 8


def test_another_image_than_was_asked_for(fuse, orthanc, door, head_study):
    orthanc.add(head_study())
    seen = []

    def swap(method, path, code, told, content):
        if "/instances/" in path:
            seen.append((told, content))
            told, content = seen[0]
        return code, told, content, None

    door.alter = swap
    assert one_line(fuse("--store"), "expected this image, found another one") and orthanc.count() == 8


@pytest.mark.parametrize("moment", ["while it is fetched", "while it is fused"])
def test_a_study_that_changes(fuse, orthanc, door, head_study, tmp_path, moment):
    study = head_study(slices=5)
    late = (study / "CT04.dcm").rename(tmp_path / "late.dcm")
    orthanc.add(study)
    listed = []

    def grow(method, path, code, told, content):
        if "/instances?" in path:
            listed.append(path)
        at = door.fetched() == 3 if moment == "while it is fetched" else len(listed) == 4
        if at and late.exists():
            orthanc.ask("/instances", late.read_bytes())
            late.unlink()
        return code, told, content, None

    door.alter = grow
    assert one_line(fuse("--store"), "the images that it had, found others") and orthanc.count() == 10
    assert door.stored() == 0


def test_an_archive_that_keeps_something_else(fuse, orthanc, door, head_study):
    orthanc.add(head_study())

    def alter(method, path, code, told, content):
        if "/instances/" in path and door.stored():
            place = len(content) - 400  # in the pixels, or in the palette
            content = content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]
        return code, told, content, None

    door.alter = alter
    assert one_line(fuse("--store"), "expected the object as it was sent")


@pytest.mark.parametrize("code", [403, 404, 409, 413, 500, 503])
def test_a_refusal_to_store(fuse, orthanc, door, head_study, code):
    orthanc.add(head_study())

    def refuse(method, path, found, told, content):
        return (code, {}, b"", None) if method == "POST" else (found, told, content, None)

    door.alter = refuse
    done = fuse("--store")
    assert one_line(done, f"HTTP {code}") and door.stored() == 1, "sent once"
    door.alter = None
    assert fuse("--store").code == 0, "the next run sends what lies there"


def test_a_redirect_is_not_followed(fuse, orthanc, door, head_study):
    orthanc.add(head_study())
    door.alter = lambda method, path, code, told, content: (302, {"Location": f"{orthanc.url}/studies"}, b"", None)
    assert one_line(fuse(), "a redirect")


def test_a_cohort_is_one_run_with_one_summary(fuse, orthanc, door, head_study, tmp_path):
    uids = []
    for seed in range(3):
        orthanc.add(head_study(f"study{seed}", seed=seed))
        uids.append(f"1.2.826.0.1.3680043.8.498.{1000 + seed}.1")
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(["# made", *uids, "1.2.3", uids[0]]))
    done = fuse(study=listed)
    assert done.code == 1 and "4 cases: 3 done, 1 failed" in done.out and "1 of 4 cases failed" in done.cause
    assert (tmp_path / "out" / "contact_sheet.png").is_file() and door.fetched() == 24
    again = fuse(study=listed)
    assert "0 done, 1 failed, 3 skipped" in again.out and door.fetched() == 24
    assert not (tmp_path / "out" / ".dicomweb").exists() and os.listdir(tmp_path / "out").count("run.json") == 1


def test_the_page_is_written_from_what_was_fetched(fuse, orthanc, head_study, tmp_path):
    pytest.importorskip("nilearn", reason="nilearn is not installed: pip install nilearn")
    orthanc.add(head_study())
    done = fuse("--html")
    assert done.code == 0, done.err
    assert list((tmp_path / "out").glob("*.html")) and not (tmp_path / "out" / ".dicomweb").exists()
    assert fuse("--keep-fetched").code == 0
    assert len(list((tmp_path / "out" / ".dicomweb" / UID).rglob("*.dcm"))) == 8


def test_processes_of_torchrun_share_a_cohort(orthanc, door, head_study, toy_bundles, tmp_path, checkout):
    uids = []
    for seed in range(3):
        orthanc.add(head_study(f"study{seed}", seed=seed))
        uids.append(f"1.2.826.0.1.3680043.8.498.{1000 + seed}.1")
    words = [part for uid in uids for part in ("--study", uid)]
    archive = ["--dicomweb", door.url, *words, "-o", str(tmp_path / "out"), "--store", "--device", "cpu"]
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    told = {"CLINICALFMAMBA_DICOMWEB_HEADERS": orthanc.header, "CLINICALFMAMBA_BUNDLES": str(toy_bundles)}
    command = [*program, "-m", "clinicalfmamba_nets.cli", "fuse", *archive]
    settings = {"cwd": checkout, "env": {**os.environ, **told, "OMP_NUM_THREADS": "1"}}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, **settings)
    assert done.returncode == 0 and "3 cases: 3 done" in done.stdout, done.stdout + done.stderr
    assert door.fetched() == 24 + 15 and orthanc.count() == 24 + 15, "each study once, each object read back"
    assert SECRET not in done.stdout + done.stderr and "Traceback" not in done.stderr
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [entry["case"] for entry in report["outputs"]] == uids
    assert all(len(report["details"][uid]["dicomweb"]["stored"]) == 5 for uid in uids)
