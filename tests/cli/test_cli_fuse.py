"""`clinicalfmamba fuse` from files to files: what it writes, skips, refuses and reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = (40, 48)


def write_pair(folder: Path, case: str, seed: int = 0, color: bool = False) -> tuple[Path, Path]:
    """Write two 8-bit PNG images with contrast and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (5, *SIZE)).astype(np.uint8)
    second = np.moveaxis(values[2:], 0, -1) if color else values[1]
    paths = folder / f"{case}.png", folder / f"{case}_second.png"
    Image.fromarray(values[0]).save(paths[0])
    Image.fromarray(second).save(paths[1])
    return paths


def write_list(path: Path, entries: list[dict]) -> Path:
    """Write a MONAI data list."""
    path.write_text(json.dumps({"testing": entries}))
    return path


def report_of(folder: Path) -> dict:
    """Read run.json."""
    return json.loads((folder / "run.json").read_text())


def names_in(folder: Path) -> list[str]:
    """Names of everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_pair(toy_cli, tmp_path):
    image, image2 = write_pair(tmp_path, "one")
    out = tmp_path / "new" / "out"
    outcome = toy_cli("fuse", image, image2, "-o", out)
    assert outcome.code == 0 and outcome.err == ""
    assert names_in(out) == ["one_fused.png", "one_preview.png", "run.json"]
    assert str(out / "one_fused.png") in outcome.out and str(out / "one_preview.png") in outcome.out
    assert "taken as ct_mri" in outcome.out
    with Image.open(out / "one_fused.png") as fused:
        assert fused.mode == "L" and fused.size == SIZE[::-1]
    report = report_of(out)
    assert report["outputs"] == [
        {
            "case": "one",
            "image": str(image),
            "image2": str(image2),
            "fused": "one_fused.png",
            "preview": "one_preview.png",
            "status": "done",
            "error": None,
        }
    ]
    assert "model.pt sha256 " in report["settings"]["weights"]["ct_mri"]


def test_the_weight_map_goes_beside_the_result_and_explains_it(toy_cli, tmp_path):
    image, image2 = write_pair(tmp_path, "one")
    outcome = toy_cli("fuse", image, image2, "-o", tmp_path / "out", "--weights-map")
    assert outcome.code == 0 and "share of the first image" in outcome.out
    pixels = [np.asarray(Image.open(path), float) for path in (image, image2)]
    fused, share = (
        np.asarray(Image.open(tmp_path / "out" / f"one_{kind}.png"), float) for kind in ("fused", "weights")
    )
    apart = np.abs(fused - (share * pixels[0] + (255 - share) * pixels[1]) / 255)
    assert apart[np.max(pixels, axis=0) > 16].max() <= 2  # what is darker may be background, which has no share
    assert report_of(tmp_path / "out")["settings"]["weights_map"] is True


def test_fused_file_equals_that_of_the_bundle_run(toy_cli, toy_bundles, tmp_path):
    from clinicalfmamba_nets.engine.run.workflows import run_bundle

    image, image2 = write_pair(tmp_path, "one")
    assert toy_cli("fuse", image, image2, "-o", tmp_path / "cli").code == 0
    listed = write_list(tmp_path / "list.json", [{"image": image.name, "image2": image2.name, "case": "one"}])
    run_bundle("fusion_2d", overrides={"datalist": str(listed), "output_dir": str(tmp_path / "bundle")})
    assert (tmp_path / "cli" / "one_fused.png").read_bytes() == (tmp_path / "bundle" / "one_fused.png").read_bytes()


def test_done_cases_are_skipped_unless_overwrite(toy_cli, tmp_path):
    image, image2 = write_pair(tmp_path, "one")
    out = tmp_path / "out"
    words = ("fuse", image, image2, "-o", out)
    assert toy_cli(*words).code == 0
    old = (out / "one_fused.png").stat().st_mtime_ns
    second = toy_cli(*words)
    assert second.code == 0 and "already there" in second.out
    assert report_of(out)["outputs"][0]["status"] == "skipped"
    assert report_of(out)["outputs"][0]["fused"] == "one_fused.png"
    assert (out / "one_fused.png").stat().st_mtime_ns == old
    assert toy_cli(*words, "--overwrite").code == 0
    assert (out / "one_fused.png").stat().st_mtime_ns > old
    (out / "one_preview.png").unlink()
    assert toy_cli(*words).code == 0 and report_of(out)["outputs"][0]["status"] == "done"


@pytest.mark.parametrize("change", ["image", "task"])
def test_result_of_other_images_or_task_is_not_passed_off_as_done(toy_cli, tmp_path, change):
    image, image2 = write_pair(tmp_path / "a", "one")
    out = tmp_path / "out"
    assert toy_cli("fuse", image, image2, "-o", out).code == 0
    if change == "image":
        outcome = toy_cli("fuse", *write_pair(tmp_path / "b", "one", seed=1), "-o", out)
    else:
        outcome = toy_cli("fuse", image, image2, "-o", out, "--task", "pet_mri")
    assert outcome.code == 1 and "add --overwrite or change -o" in outcome.cause
    assert (out / "one_fused.png").is_file()


def test_two_folders_are_fused_pair_by_pair(toy_cli, tmp_path):
    for seed, case in enumerate(("a", "b")):
        for folder, path in zip(("MRI", "CT"), write_pair(tmp_path / "in", case, seed=seed), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            path.rename(tmp_path / folder / f"{case}.png")
    out = tmp_path / "out"
    assert toy_cli("fuse", tmp_path / "MRI", tmp_path / "CT", "-o", out).code == 0
    entries = [(entry["case"], entry["status"], entry["image2"]) for entry in report_of(out)["outputs"]]
    assert entries == [(case, "done", str(tmp_path / "CT" / f"{case}.png")) for case in ("a", "b")]


def test_list_goes_on_after_a_failed_case(toy_cli, tmp_path):
    write_pair(tmp_path / "data", "b", seed=1)
    write_pair(tmp_path / "data", "a", seed=2)
    (tmp_path / "data" / "broken.png").write_bytes((tmp_path / "data" / "a.png").read_bytes()[:200])
    entries = [
        {"image": "b.png", "image2": "b_second.png"},
        {"image": "nowhere.png", "image2": "b_second.png", "case": "gone"},
        {"image": "broken.png", "image2": "a_second.png"},
        {"image": "../../outside.png", "image2": "a_second.png", "case": "outside"},
        {"image": "a.png", "image2": "a_second.png", "case": "last"},
    ]
    out = tmp_path / "out"
    outcome = toy_cli("fuse", "--datalist", write_list(tmp_path / "data" / "list.json", entries), "-o", out)
    assert outcome.code == 1
    assert outcome.cause.startswith("error: 3 of 5 cases failed") and "nowhere.png" in outcome.cause
    outputs = report_of(out)["outputs"]
    assert [entry["case"] for entry in outputs] == ["b", "gone", "broken", "outside", "last"]
    assert [entry["status"] for entry in outputs] == ["done", "failed", "failed", "failed", "done"]
    assert "broken.png" in outputs[2]["error"] and outputs[2]["fused"] is None
    assert names_in(out) == [
        "b_fused.png",
        "b_preview.png",
        "last_fused.png",
        "last_preview.png",
        "run.json",
    ]
    assert "5 cases: 2 done, 3 failed, 0 skipped" in outcome.out
    assert "[3/5] broken: failed: " in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('{"testing": [', "not JSON"),
        ('{"testing": []}', "an empty list"),
        ('{"validation": [{}]}', "'testing'"),
        ("", "0 bytes"),
        (None, "no such file"),
    ],
)
def test_bad_list_is_refused_and_leaves_nothing(toy_cli, tmp_path, content, cause):
    path = tmp_path / "list.json"
    if content is not None:
        path.write_text(content)
    outcome = toy_cli("fuse", "--datalist", path, "-o", tmp_path / "out")
    assert outcome.code == 1 and "list.json" in outcome.cause and cause in outcome.cause
    assert not (tmp_path / "out").exists() or names_in(tmp_path / "out") == []


def test_cases_with_one_file_name_stay_apart(toy_cli, tmp_path):
    for folder, seed in (("c0", 1), ("c1", 2)):
        write_pair(tmp_path / folder, "m1", seed)
    entries = [{"image": f"{c}/m1.png", "image2": f"{c}/m1_second.png"} for c in ("c0", "c1")]
    out = tmp_path / "out"
    assert toy_cli("fuse", "--datalist", write_list(tmp_path / "list.json", entries), "-o", out).code == 0
    files = [entry["fused"] for entry in report_of(out)["outputs"]]
    assert len(set(files)) == 2 and all((out / name).is_file() for name in files)
    assert len(names_in(out)) == 5


@pytest.mark.parametrize("case", ["../escape", "/escape", "..", "a/b", "a\\..\\b"])
def test_case_names_never_leave_the_output_folder(toy_cli, tmp_path, case):
    image, image2 = write_pair(tmp_path / "data", "one")
    listed = write_list(
        tmp_path / "data" / "list.json", [{"image": "one.png", "image2": "one_second.png", "case": case}]
    )
    before = {path for path in tmp_path.rglob("*")}
    outcome = toy_cli("fuse", "--datalist", listed, "-o", tmp_path / "out")
    new = {path for path in tmp_path.rglob("*")} - before - {tmp_path / "out"}
    assert outcome.code == 0 and len(new) == 3
    assert all(path.parent == tmp_path / "out" for path in new)


def test_folder_of_pairs(toy_cli, tmp_path):
    for name, seed in (("7", 1), ("8", 2)):
        image, image2 = write_pair(tmp_path / "x", name, seed)
        for source, folder in ((image, "MRI"), (image2, "CT")):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            source.rename(tmp_path / "data" / folder / f"{name}.png")
    outcome = toy_cli("fuse", tmp_path / "data", "-o", tmp_path / "out", "--task", "ct_mri")
    assert outcome.code == 0
    assert [entry["case"] for entry in report_of(tmp_path / "out")["outputs"]] == ["7", "8"]
    assert report_of(tmp_path / "out")["outputs"][0]["image"].endswith("/MRI/7.png")
    assert "contact_sheet.png" in names_in(tmp_path / "out")
    scores = report_of(tmp_path / "out")["details"]["7"]["scores"]
    assert scores["coverage"] == 1 and 0 <= scores["outside_sources"] <= 1


def test_how_the_task_was_chosen_is_told_once_a_run(toy_cli, tmp_path):
    entries = []
    for name, seed in (("7", 1), ("8", 2), ("9", 3)):
        image, image2 = write_pair(tmp_path / name, name, seed, color=name == "9")
        entries.append({"case": name, "image": str(image), "image2": str(image2)})
    out = tmp_path / "out"
    outcome = toy_cli("fuse", "--datalist", write_list(tmp_path / "list.json", entries), "-o", out)
    told = [line for line in outcome.out.splitlines() if "taken as" in line]
    assert [line.split(":")[0] for line in told] == ["note", "note"] and "ct_mri" in told[0] and "spect_mri" in told[1]
    assert all("taken as" in report_of(out)["details"][name]["notes"][0] for name in "789")


def test_scores_and_ranges_are_told(toy_cli, tmp_path):
    outcome = toy_cli("fuse", *write_pair(tmp_path, "a"), "-o", tmp_path / "out", "--scores", "--window-b", "p1/p99")
    assert outcome.code == 0 and "scores: SSIM to " in outcome.out and "(percentiles p1/p99)" in outcome.out
    assert report_of(tmp_path / "out")["details"]["a"]["intensity"][1]["window"] == "percentiles p1/p99"


@pytest.mark.parametrize("window", ["-1000-2000", "-1000..2000", "-500/3000", "-.5..1000"])
def test_a_window_that_begins_below_zero_is_no_option(toy_cli, tmp_path, window):
    outcome = toy_cli("fuse", *write_pair(tmp_path, "a"), "-o", tmp_path / "out", "--window-b", window)
    assert outcome.code == 0, outcome.err
    low = {"-500/3000": -2000.0, "-.5..1000": -0.5}.get(window, -1000.0)
    assert report_of(tmp_path / "out")["details"]["a"]["intensity"][1]["low"] == low


@pytest.mark.parametrize("options", [("--window-b", "brian"), ("--palette", "rainbow"), ("--window-a", "80-0")])
def test_ranges_and_palettes_that_are_none(toy_cli, tmp_path, options):
    outcome = toy_cli("fuse", *write_pair(tmp_path, "a"), "-o", tmp_path / "out", *options)
    assert outcome.code == 2 and repr(options[1]).strip("'") in outcome.cause
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("folder", "task"), [("SPECT", "spect_mri"), ("PET", "pet_mri"), ("other", "spect_mri")])
def test_color_chooses_the_task_and_stays(toy_cli, tmp_path, folder, task):
    image, image2 = write_pair(tmp_path / folder, "one", color=True)
    outcome = toy_cli("fuse", image, image2, "-o", tmp_path / "out")
    assert outcome.code == 0 and f"taken as {task}" in outcome.out
    assert report_of(tmp_path / "out")["details"]["one"]["task"] == task
    with Image.open(tmp_path / "out" / "one_fused.png") as fused:
        assert fused.mode == "RGB" and fused.size == SIZE[::-1]


def test_nifti_keeps_geometry_and_type(toy_cli, tmp_path):
    import nibabel

    affine = np.array([[0.0, -0.9, 0, 5], [0.8, 0, 0, -7], [0, 0, 5.5, 11], [0, 0, 0, 1]])
    values = np.random.default_rng(0).integers(-1000, 3000, (2, *SIZE, 1)).astype(np.int16)
    paths = [tmp_path / name for name in ("mri.nii.gz", "ct.nii.gz")]
    for path, array in zip(paths, values, strict=True):
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
    outcome = toy_cli("fuse", *paths, "-o", tmp_path / "out", "--task", "ct_mri")
    assert outcome.code == 0, outcome.err
    fused = nibabel.load(tmp_path / "out" / "mri_fused.nii.gz")
    assert np.allclose(fused.affine, affine, atol=1e-4) and fused.get_data_dtype() == np.int16
    data = fused.get_fdata()
    assert data.shape == (*SIZE, 1) and values[0].min() <= data.min() and data.max() <= values[0].max()


def test_inputs_are_never_written_over(toy_cli, tmp_path):
    image, image2 = write_pair(tmp_path, "one")
    image2 = image2.rename(tmp_path / "one_fused.png")
    before = image2.read_bytes()
    outcome = toy_cli("fuse", image, image2, "-o", tmp_path, "--overwrite")
    assert outcome.code == 1 and "one of the inputs" in outcome.cause
    assert image2.read_bytes() == before


def test_output_folder_that_is_a_file(toy_cli, tmp_path):
    image, image2 = write_pair(tmp_path, "one")
    outcome = toy_cli("fuse", image, image2, "-o", image)
    assert outcome.code == 1 and "expected a folder for the results" in outcome.cause


def test_missing_weights_are_told_and_nothing_is_fused(toy_cli, toy_bundles, tmp_path, monkeypatch):
    import shutil

    bundles = shutil.copytree(toy_bundles, tmp_path / "bundles", ignore=shutil.ignore_patterns("*.pt"))
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(bundles))
    image, image2 = write_pair(tmp_path, "one")
    outcome = toy_cli("fuse", image, image2, "-o", tmp_path / "out")
    assert outcome.code == 1 and "expected trained weights of ct_mri, found no such file" in outcome.cause
    assert "clinicalfmamba train --task ct_mri" in outcome.cause and "model.pt" in outcome.cause
    assert not list((tmp_path / "out").glob("*"))


def test_weights_of_another_network_are_refused(toy_cli, toy_bundles, tmp_path, monkeypatch):
    import shutil

    import torch

    bundles = shutil.copytree(toy_bundles, tmp_path / "bundles")
    torch.save({"other": torch.zeros(1)}, bundles / "fusion_2d" / "models" / "model.pt")
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(bundles))
    outcome = toy_cli("fuse", *write_pair(tmp_path, "one"), "-o", tmp_path / "out")
    assert outcome.code == 1 and "weights of this network" in outcome.cause and outcome.err.count("\n") == 1


def test_unknown_device_is_refused(toy_cli, tmp_path):
    outcome = toy_cli("fuse", *write_pair(tmp_path, "one"), "-o", tmp_path / "out", "--device", "abacus")
    assert outcome.code == 1 and "expected a device of this machine" in outcome.cause


@pytest.mark.parametrize("fault", ["device", "image"])
def test_debug_shows_the_traceback_and_still_ends_with_the_cause(toy_cli, tmp_path, fault):
    image, image2 = write_pair(tmp_path, "one")
    if fault == "image":
        image2.write_bytes(image2.read_bytes()[:100])
    words = ["fuse", image, image2, "-o", tmp_path / "out", *(["--device", "abacus"] if fault == "device" else [])]
    assert "Traceback" not in toy_cli(*words).err
    outcome = toy_cli(*words, "--debug")
    assert "Traceback" in outcome.err
    assert outcome.cause.startswith("error: device 'abacus'" if fault == "device" else f"error: {image2}")


def test_folder_in_the_place_of_a_result_fails_that_case_alone(toy_cli, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        write_pair(tmp_path / "data", name, seed)
    (tmp_path / "out" / "a_fused.png").mkdir(parents=True)
    entries = [{"image": f"{name}.png", "image2": f"{name}_second.png"} for name in "ab"]
    listed = write_list(tmp_path / "data" / "list.json", entries)
    outcome = toy_cli("fuse", "--datalist", listed, "-o", tmp_path / "out")
    assert outcome.code == 1 and "1 of 2 cases failed" in outcome.cause
    assert [entry["status"] for entry in report_of(tmp_path / "out")["outputs"]] == ["failed", "done"]
    assert names_in(tmp_path / "out") == ["a_fused.png", "b_fused.png", "b_preview.png", "run.json"]


def test_names_that_are_not_text(toy_cli, tmp_path):
    image, image2 = write_pair(tmp_path, "one")
    odd = tmp_path / os.fsdecode(b"caf\xe9 \xe8\x84\xb3.png")
    image.rename(odd)
    outcome = toy_cli("fuse", odd, image2, "-o", tmp_path / "out")
    assert outcome.code == 0 and len(names_in(tmp_path / "out")) == 3
    assert os.fsencode(report_of(tmp_path / "out")["outputs"][0]["image"]) == os.fsencode(odd)


@pytest.mark.parametrize(("task", "second"), [("ct_mri", "ct"), ("spect_mri", "spect")])
def test_phantom(toy_cli, tmp_path, task, second):
    words = ("--task", task) if task != "ct_mri" else ()
    outcome = toy_cli("fuse", "--phantom", "-o", tmp_path / "out", *words)
    assert outcome.code == 0 and "note:" not in outcome.out, outcome.err
    assert names_in(tmp_path / "out") == ["phantom", "phantom_fused.png", "phantom_preview.png", "run.json"]
    assert names_in(tmp_path / "out" / "phantom") == sorted(["mri.png", f"{second}.png"])


def run_program(*words: object, bundles: Path, **options) -> subprocess.Popen:
    """Start the command line as a process of its own."""
    environment = {**os.environ, "CLINICALFMAMBA_BUNDLES": str(bundles)}
    command = [sys.executable, "-m", "clinicalfmamba_nets.cli", *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_kill_leaves_whole_files_and_the_next_run_goes_on(toy_bundles, tmp_path, signal_name):
    import signal

    entries = []
    count = 40  # so many that a fast machine is not done before the signal comes
    for number in range(count):
        write_pair(tmp_path / "data", f"p{number:03}", number)
        entries.append({"image": f"p{number:03}.png", "image2": f"p{number:03}_second.png"})
    listed, out = write_list(tmp_path / "data" / "list.json", entries), tmp_path / "out"
    words = ("fuse", "--datalist", listed, "-o", out, "--task", "ct_mri")
    process = run_program(*words, bundles=toy_bundles)
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(getattr(signal, signal_name))
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    if signal_name != "SIGKILL":
        assert not [item for item in out.iterdir() if item.name.startswith(".")]
        assert "stopped" in error.strip().splitlines()[-1] and "Traceback" not in error
        assert report_of(out)["counts"]["done"] >= 3
    for path in out.glob("[!.]*.png"):
        with Image.open(path) as picture:
            picture.load()
    done = len(list(out.glob("*_preview.png")))
    assert 3 <= done < count
    process = run_program(*words, bundles=toy_bundles)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert report_of(out)["counts"] == {"done": count - done, "failed": 0, "skipped": done}


def test_a_page_of_an_earlier_run_is_told_as_that(toy_cli, tmp_path):
    """The page stood there as if it showed the new result."""
    pair, out = write_pair(tmp_path, "one"), tmp_path / "out"
    assert "shows earlier" not in toy_cli("fuse", *pair, "-o", out, "--html").out
    told = f"{out / 'view.html'} shows earlier results; `clinicalfmamba view {out}` writes it anew"
    assert told in toy_cli("fuse", *pair, "-o", out, "--overwrite").out
    assert "shows earlier" not in toy_cli("fuse", *pair, "-o", out).out, "nothing was fused"


def test_a_sheet_of_an_earlier_run_is_told_as_that(toy_cli, tmp_path):
    """It stood beside the result of a single pair as if it showed that."""
    data, out = tmp_path / "data", tmp_path / "out"
    pairs = [write_pair(data, name, seed) for name, seed in (("one", 1), ("two", 2), ("three", 3))]
    entries = [{"image": str(pair[0]), "image2": str(pair[1]), "case": pair[0].stem} for pair in pairs[:2]]
    both = toy_cli("fuse", "--datalist", write_list(data / "list.json", entries), "-o", out, "--scores")
    assert f"sheet    {out / 'contact_sheet.png'}\n" in both.out and "shows earlier" not in both.out
    told = f"sheet    {out / 'contact_sheet.png'} shows earlier results, none of this run; remove it, or change -o\n"
    assert told in toy_cli("fuse", *pairs[2], "-o", out).out
