"""Every result has an identity: records, names, what is never written over, what a failure or a kill leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from clinicalfmamba_nets.engine.fusion.case import Case, file_digest
from clinicalfmamba_nets.engine.fusion.results import Results, clean_drafts, output_names
from clinicalfmamba_nets.engine.run.record import Records
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import case_name, write_image

RNG = np.random.default_rng(3)


def pair(folder: Path, name: str = "mri", size: int = 40) -> tuple[Path, Path]:
    """Two small pictures with contrast."""
    for one in (name, "ct"):
        write_image(folder / f"{one}.png", RNG.integers(0, 255, (size, size), dtype=np.uint8))
    return folder / f"{name}.png", folder / "ct.png"


def report(out: Path) -> dict:
    """What run.json tells."""
    return json.loads((out / "run.json").read_text())


def test_another_patient_under_the_same_name_is_never_done(toy_cli, tmp_path):
    out, words = tmp_path / "out", ("--task", "ct_mri")
    for patient, name in (("a", "mri"), ("b", "t1"), ("c", "t2")):
        assert toy_cli("fuse", *pair(tmp_path / patient, name), *words, "-o", out).code == 0
    first = (out / "mri_fused.png").read_bytes()
    again = toy_cli("fuse", *pair(tmp_path / "d", "mri"), *words, "-o", out)
    assert again.code == 1 and "a/mri.png" in again.cause and "--overwrite" in again.cause
    assert (out / "mri_fused.png").read_bytes() == first
    assert {record["fused"] for record in report(out)["records"]} == {
        f"{name}_fused.png" for name in ("mri", "t1", "t2")
    }


def test_the_same_images_elsewhere_are_the_same_case(toy_cli, tmp_path):
    out = tmp_path / "out"
    assert toy_cli("fuse", *pair(tmp_path / "a"), "-o", out).code == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    again = toy_cli("fuse", tmp_path / "b" / "mri.png", tmp_path / "b" / "ct.png", "-o", out)
    assert again.code == 0 and "already there" in again.out


@pytest.mark.parametrize("change", ["no record", "input", "result", "weights", "setting"])
def test_what_does_not_match_its_record_is_told(toy_cli, toy_bundles, tmp_path, monkeypatch, change):
    out, (image, image2) = tmp_path / "out", pair(tmp_path / "in")
    assert toy_cli("fuse", image, image2, "-o", out, "--task", "ct_mri").code == 0
    words = []
    if change == "no record":
        (out / "run.json").unlink()
    elif change == "input":
        pair(tmp_path / "in")
    elif change == "result":
        write_image(out / "mri_fused.png", np.eye(40, dtype=np.uint8))
    elif change == "weights":
        bundles = shutil.copytree(toy_bundles, tmp_path / "bundles")
        models = bundles / "fusion_2d" / "models"
        shutil.copy(models / "model_pet_mri.pt", models / "model.pt")
        monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(bundles))
    else:
        words = ["--window-a", "minmax"]
    told = toy_cli("fuse", image, image2, "-o", out, "--task", "ct_mri", *words)
    assert told.code == 1 and "add --overwrite or change -o" in told.cause
    assert toy_cli("fuse", image, image2, "-o", out, "--task", "ct_mri", *words, "--overwrite").code == 0


def test_a_record_holds_the_sums_of_all_that_counts(toy_cli, toy_bundles, tmp_path):
    image, image2 = pair(tmp_path / "in")
    assert toy_cli("fuse", image, image2, "-o", tmp_path / "out", "--task", "ct_mri").code == 0
    (record,) = report(tmp_path / "out")["records"]
    sums = {"image": image, "image2": image2, "fused": tmp_path / "out" / "mri_fused.png"}
    assert record["sha256"] == {name: file_digest(path) for name, path in sums.items()}
    assert record["weights"] == file_digest(toy_bundles / "fusion_2d" / "models" / "model.pt")
    assert record["bundle"] == "fusion_2d" and record["version"] and record["time"]


def test_a_failed_overwrite_keeps_the_result_and_says_so(toy_cli, tmp_path):
    out, (image, image2) = tmp_path / "out", pair(tmp_path / "in")
    assert toy_cli("fuse", image, image2, "-o", out).code == 0
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    write_image(image2, np.eye(32, dtype=np.uint8))
    failed = toy_cli("fuse", image, image2, "-o", out, "--overwrite")
    assert failed.code == 1 and "mri_fused.png and mri_preview.png stay as they were" in failed.cause
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == before
    assert sorted(path.name for path in out.iterdir()) == ["mri_fused.png", "mri_preview.png", "run.json"]


def test_no_case_is_written_over_the_input_of_another(toy_cli, tmp_path):
    folder = tmp_path / "in"
    pair(folder, "7"), pair(folder, "8")
    shutil.copy(folder / "8.png", folder / "7_fused.png")
    entries = [{"image": "7.png", "image2": "ct.png"}, {"image": "7_fused.png", "image2": "ct.png", "case": "8"}]
    (folder / "list.json").write_text(json.dumps({"testing": entries}))
    before = (folder / "7_fused.png").read_bytes()
    done = toy_cli("fuse", "--datalist", folder / "list.json", "-o", folder, "--overwrite")
    assert done.code == 1 and "7_fused.png" in done.cause and "one of the inputs" in done.cause
    assert (folder / "7_fused.png").read_bytes() == before


def test_a_data_list_named_run_json_is_kept(toy_cli, tmp_path):
    pair(tmp_path)
    listed = tmp_path / "run.json"
    listed.write_text(json.dumps({"testing": [{"image": "mri.png", "image2": "ct.png"}]}))
    before = listed.read_bytes()
    done = toy_cli("fuse", "--datalist", listed, "-o", tmp_path)
    assert done.code == 1 and "one of the inputs" in done.cause and listed.read_bytes() == before


@pytest.mark.parametrize("names", [("a.nii", "a"), ("x" * 200 + "1", "x" * 200 + "2"), ("b" * 255, "b" * 254)])
def test_two_cases_never_share_a_name(names):
    made = [output_names(name, ".png")[0] for name in names]
    assert made[0] != made[1] and all(len(name.encode()) <= 255 for name in made)
    assert case_name("x" * 200 + "1.png") != case_name("x" * 200 + "2.png")


def test_what_a_killed_run_left_is_cleaned_and_an_earlier_result_put_back(tmp_path):
    draft = tmp_path / ".0123456789abcdef.tmp"
    (draft / "old.7_fused").mkdir(parents=True)
    (tmp_path / ".fedcba9876543210.tmp").write_text("half")
    for kept in (".hidden", ".git.tmp", "7.tmp"):
        (tmp_path / kept).write_text("the user's")
    clean_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git.tmp", ".hidden", "7.tmp", "7_fused"]


def test_records_survive_a_kill(tmp_path):
    Records(tmp_path).add({"fused": "7_fused.png", "case": "7"})
    with open(tmp_path / ".run.0.journal", "a") as journal:
        journal.write('{"fused": "8_fu')
    found = Records(tmp_path)
    assert found.find("7_fused.png")["case"] == "7" and found.find("8_fused.png") is None


@pytest.mark.parametrize("content", ['{"epochs": {"done": 3}}', "[1, 2]", '{"outputs": [', "notes of my own"])
def test_the_report_of_something_else_is_not_replaced(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(
        FusionInputError, match="run.json: expected a report of fusions, found .*, or put the file away"
    ):
        Results(tmp_path, [Case.of({"case": "7", "image": "7.png", "image2": "ct.png"})])
    assert (tmp_path / "run.json").read_text() == content


@pytest.mark.parametrize("content", ["", "{}"])
def test_an_empty_report_is_none(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert Results(tmp_path, [Case.of({"case": "7", "image": "7.png", "image2": "ct.png"})]).records.find("7") is None


def test_a_stopped_run_is_not_finished(toy_cli, tmp_path, monkeypatch):
    entries = []
    for name in ("1", "2"):
        pair(tmp_path / name)
        entries.append({"image": f"{name}/mri.png", "image2": f"{name}/ct.png", "case": name})
    (tmp_path / "list.json").write_text(json.dumps({"testing": entries}))
    from clinicalfmamba_nets.engine.fusion import batch

    whole = batch.CaseFuser._fuse

    def stopped(self, case, *others):
        if case.name == "2":
            raise KeyboardInterrupt
        return whole(self, case, *others)

    monkeypatch.setattr(batch.CaseFuser, "_fuse", stopped)
    done = toy_cli("fuse", "--datalist", tmp_path / "list.json", "-o", tmp_path / "out")
    assert done.code == 1 and report(tmp_path / "out")["finished"] is None
    assert report(tmp_path / "out")["counts"]["done"] == 1


@pytest.mark.parametrize(
    ("first", "second", "told", "labels"),
    [
        ("MRI/1.png", "CT/1.png", False, ("MRI", "CT")),
        ("CT/1.png", "MRI/1.png", True, ("MRI", "CT")),
        ("7_pet.png", "7_t1.png", True, ("T1", "PET")),
        ("flair.png", "t2.png", True, ("T2", "FLAIR")),
        ("a/x.png", "b/x.png", False, ("A", "B")),
        ("a/x.png", "b/ct.png", False, ("A", "CT")),
    ],
)
def test_images_in_the_wrong_order_are_exchanged_with_a_warning(tmp_path, first, second, told, labels):
    for name in (first, second):
        write_image(tmp_path / name, np.eye(8, dtype=np.uint8))
    case = Case.of({"case": "1", "image": str(tmp_path / first), "image2": str(tmp_path / second)})
    ordered, warning = case.in_order(case.task()[0])
    assert bool(warning) == told and ordered.labels(None) == labels


@pytest.mark.parametrize(
    ("first", "second", "told", "labels"),
    [
        ({"x": "MET_MOD_CT"}, {"y": "MET_MOD_MR"}, True, ("MRI", "CT")),
        ({"x": "MET_MOD_MR"}, {"y": "MET_MOD_CT"}, False, ("MRI", "CT")),
        ({"t1": "MET_MOD_MR"}, {"y": "MET_MOD_CT"}, False, ("T1", "CT")),
        ({"mri": "MET_MOD_CT"}, {"ct": "MET_MOD_MR"}, True, ("MRI", "CT")),
        ({"ct": ""}, {"mri": ""}, True, ("MRI", "CT")),
    ],
)
def test_the_modality_in_a_header_counts_more_than_the_name(tmp_path, first, second, told, labels):
    names = []
    for name, modality in (first | second).items():
        header = "ObjectType = Image\nNDims = 2\nDimSize = 8 8\nElementSpacing = 1 1\nElementType = MET_UCHAR\n"
        header += f"Modality = {modality}\n" if modality else ""
        (tmp_path / f"{name}.mha").write_bytes(header.encode() + b"ElementDataFile = LOCAL\n" + bytes(64))
        names.append(str(tmp_path / f"{name}.mha"))
    case = Case.of({"case": "1", "image": names[0], "image2": names[1]})
    ordered, warning = case.in_order(case.task()[0])
    assert bool(warning) == told and ordered.labels(None) == labels


def test_scores_name_the_source_that_they_are_of_when_images_are_exchanged(toy_cli, tmp_path):
    mri, ct = pair(tmp_path / "1")
    told = []
    for number, files in enumerate(((mri, ct), (ct, mri))):
        done = toy_cli("fuse", *files, "-o", tmp_path / f"out{number}", "--scores")
        assert done.code == 0 and ("exchanged" in done.out) == bool(number)
        told.append(next(line for line in done.out.splitlines() if line.startswith("scores:")))
    assert told[0] == told[1] and "SSIM to MRI" in told[0] and "SSIM to CT" in told[0]
