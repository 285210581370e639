"""Fused images of other programs: found by name, read in every kind, and what is wrong with them told."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from clinicalfmamba_nets.data import write_phantom_study
from clinicalfmamba_nets.engine.evaluation.comparison import baseline_networks
from clinicalfmamba_nets.engine.evaluation.fused_files import FusedFiles
from clinicalfmamba_nets.engine.evaluation.score import listed_pairs, named_folders, score_folders
from clinicalfmamba_nets.engine.evaluation.suspicions import OtherPairs, find_shift, suspicions
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.metrics import compute_all
from clinicalfmamba_nets.transforms import LoadImagePair, WindowIntensityPair

SIZE = 64


def sources(number):
    """MRI and CT of a head, uint8; other numbers give other heads."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    head = (x / 0.8) ** 2 + (y / 0.9) ** 2 < 1
    mri = head * (120 + 100 * np.sin(4 * (number + 1) * x) * np.cos(3 * y))
    ct = head * 40.0 + (head & ((x / 0.7) ** 2 + (y / 0.8) ** 2 > 1)) * 200
    return mri.clip(0, 255).astype(np.uint8), ct.clip(0, 255).astype(np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    else:
        Image.fromarray(array).save(path)


@pytest.fixture
def data(tmp_path):
    """Two pairs and their list."""
    entries = []
    for number in range(2):
        mri, ct = sources(number)
        save(tmp_path / "in" / f"{number}_mri.png", mri)
        save(tmp_path / "in" / f"{number}_ct.png", ct)
        entries.append({"image": f"{number}_mri.png", "image2": f"{number}_ct.png", "case": f"c{number}"})
    (tmp_path / "in" / "list.json").write_text(json.dumps({"testing": entries}))
    return tmp_path


def average(number):
    mri, ct = sources(number)
    return np.rint((mri.astype(float) + ct) / 2).astype(np.uint8)


KINDS = {
    "8 bit": ("c{}.png", lambda fused: fused),
    "16 bit": ("c{}_fused.png", lambda fused: fused.astype(np.uint16) * 257),
    "grey as color": ("{}_mri.png", lambda fused: np.stack([fused] * 3, -1)),
    "by the second name": ("{}_ct_fused.png", lambda fused: fused),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_scores_of_its_values(kind, data):
    name, store = KINDS[kind]
    for number in range(2):
        save(data / "out" / name.format(number), store(average(number)))
    score_folders([str(data / "out")], data / "in" / "list.json", data / "scores", metrics=["ssim", "psnr"])
    rows = list(csv.DictReader((data / "scores" / "pairs.csv").open()))
    assert [row["case"] for row in rows] == ["c0", "c1"] and {row["network"] for row in rows} == {"out"}
    for number, row in enumerate(rows):
        expected = compute_all(average(number), *sources(number), data_range=255, names=["ssim", "psnr"])
        assert float(row["ssim"]) == pytest.approx(expected["ssim"], abs=1e-5)
        assert float(row["psnr_head"]) == pytest.approx(expected["psnr_head"], abs=1e-3)
    files = {path.name for path in (data / "scores").iterdir()}
    assert files == {"pairs.csv", "summary.json", "table.md", "contact_sheet.png", "box_plot.png"}


def test_volumes_are_read_in_the_range_of_their_kind(tmp_path):
    generator = np.random.default_rng(0)
    values = [generator.random((20, 20, 20)).astype(np.float32) * 900 for _ in "ab"]
    for name, array in zip(("t2", "flair"), values, strict=True):
        save(tmp_path / "in" / f"one_{name}.nii.gz", array)
    (tmp_path / "list.json").write_text(
        json.dumps({"testing": [{"image": "in/one_t2.nii.gz", "image2": "in/one_flair.nii.gz", "case": "one"}]})
    )
    save(tmp_path / "share" / "one.nii.gz", (values[0] / 1800 + values[1] / 1800).astype(np.float32))
    save(tmp_path / "bytes" / "one.nii.gz", (values[0] / 9 + values[1] / 9).astype(np.uint8))
    words = [str(tmp_path / name) for name in ("share", "bytes")]
    pairs, metrics = tmp_path / "list.json", ["psnr", "cc"]
    summary = score_folders(words, pairs, tmp_path / "out", "t2_flair", baselines=True, metrics=metrics)
    assert len(summary) == 2 + len(baseline_networks())
    share, eight = (summary[name]["over_runs"]["cc"]["mean"] for name in ("share", "bytes"))
    assert share > 0.6 and share == pytest.approx(eight, abs=0.02)
    save(tmp_path / "units" / "one.nii.gz", (values[0] * 100).astype(np.float32))
    with pytest.raises(FusionInputError, match="one.nii.gz: expected .*found .*--range"):
        score_folders([str(tmp_path / "units")], tmp_path / "list.json", tmp_path / "o", "t2_flair", metrics=["psnr"])


def read_rows(folder):
    return list(csv.DictReader((folder / "pairs.csv").open()))


def made_by_fuse(folder, windows):
    """A CT in HU and an MR, and their average in a folder as `fuse` leaves it; returns the list of the pair."""
    rows, columns, _ = np.mgrid[0:20, 0:20, 0:20]
    mr = (400 + 300 * np.sin(rows / 3)).astype(np.int16)
    ct = np.where(rows < 4, -1000, 30 * columns).astype(np.int16)
    for name, array in (("mr", mr), ("ct", ct)):
        save(folder / "in" / f"one_{name}.nii.gz", array)
    pair = {"image": "in/one_mr.nii.gz", "image2": "in/one_ct.nii.gz", "case": "one"}
    (folder / "list.json").write_text(json.dumps({"testing": [pair]}))
    loaded, _ = LoadImagePair()(folder / pair["image"], folder / pair["image2"])
    scaled = WindowIntensityPair(task="ct_mri", **windows)(loaded)
    low, high = scaled.meta["intensity_scale"][0].tolist()
    save(folder / "fused" / "one_fused.nii.gz", (scaled.mean(0) * (high - low) + low).numpy())
    facts = {"one": {"intensity": json.loads(scaled.meta["intensity_facts"])}}
    report = {"outputs": [{"case": "one", "fused": "one_fused.nii.gz"}], "details": facts}
    (folder / "fused" / "run.json").write_text(json.dumps(report))
    return folder / "list.json"


@pytest.mark.parametrize(
    ("windows", "told"),
    [
        (
            {"window_b": "bone"},
            "image B from -800 to 2000 HU (window bone 600/2800), scored from 0 to 80 HU (window brain",
        ),
        (
            {"window_b": "head"},
            "image B from -1000 to 1500 HU (curve head), scored from 0 to 80 HU (window brain 40/80)",
        ),
        ({"window_a": "100-650"}, "image A from 100 to 650 (range), scored from "),
        ({}, ""),
    ],
)
def test_images_are_scored_in_the_windows_they_were_fused_in_or_it_is_told(tmp_path, windows, told):
    pairs = made_by_fuse(tmp_path, windows)
    score_folders([str(tmp_path / "fused")], pairs, tmp_path / "usual", metrics=["outside", "ssim"])
    (row,) = read_rows(tmp_path / "usual")
    assert (f"fused with {told}" in row["remarks"]) == bool(told)
    score_folders([str(tmp_path / "fused")], pairs, tmp_path / "same", metrics=["outside", "ssim"], **windows)
    (row,) = read_rows(tmp_path / "same")
    assert "fused with" not in row["remarks"] and float(row["outside"]) == 0


def test_a_pair_of_another_task_is_told(tmp_path):
    """The task is that of CT unless another one is given: T2 with FLAIR was scored by other ranges in silence."""
    pairs = made_by_fuse(tmp_path, {})
    report = json.loads((tmp_path / "fused" / "run.json").read_text())
    report["details"]["one"]["intensity"][1] |= {"modality": "MR", "window": "range", "low": 100.0, "high": 300.0}
    report["details"]["one"]["task"] = "t2_flair"
    (tmp_path / "fused" / "run.json").write_text(json.dumps(report))
    score_folders([str(tmp_path / "fused")], pairs, tmp_path / "scores", metrics=["ssim"])
    (row,) = read_rows(tmp_path / "scores")
    assert "fused with image B from 100 to 300 HU (range), scored from 0 to 80 HU" in row["remarks"]
    assert "give --task t2_flair" in row["remarks"]


def test_dicom_series_are_scored_as_the_folders_they_lie_in(tmp_path):
    for study in ("study", "out"):
        write_phantom_study(tmp_path / study, size=32)
    (tmp_path / "out" / "MR").rename(tmp_path / "out" / "7_fused")
    pair = {"image": str(tmp_path / "study" / "MR"), "image2": str(tmp_path / "study" / "CT"), "case": "7"}
    (tmp_path / "list.json").write_text(json.dumps({"testing": [pair]}))
    words, pairs = [str(tmp_path / "out")], tmp_path / "list.json"
    score_folders(words, pairs, tmp_path / "scores", metrics=["psnr"], window_a="minmax")
    (row,) = read_rows(tmp_path / "scores")
    assert "a copy of image A" in row["remarks"] and float(row["psnr_a"]) > 60


def test_a_first_image_whose_curve_is_no_straight_line(tmp_path):
    pairs = made_by_fuse(tmp_path, {})
    (entry,) = json.loads(pairs.read_text())["testing"]
    turned = {"image": entry["image2"], "image2": entry["image"], "case": "one"}
    pairs.write_text(json.dumps({"testing": [turned]}))
    save(tmp_path / "fused" / "one_fused.nii.gz", nibabel.load(tmp_path / turned["image"]).get_fdata(dtype=np.float32))
    words = [str(tmp_path / "fused")]
    score_folders(words, pairs, tmp_path / "out", "generic", metrics=["psnr"], window_a="head", window_b="minmax")
    (row,) = read_rows(tmp_path / "out")
    assert "a copy of image A" in row["remarks"] and float(row["psnr_a"]) > 60
    with pytest.raises(FusionInputError, match="give --window-a as the image was fused, or give --range"):
        score_folders(words, pairs, tmp_path / "out", "generic", metrics=["psnr"], window_a="brain")


def test_missing_and_misfit_images_are_named_and_the_others_scored(data):
    save(data / "half" / "c0.png", average(0))
    save(data / "small" / "c0.png", average(0)[::2, ::2])
    save(data / "small" / "c1.png", average(1))
    (data / "small" / "c2.png").write_bytes(b"no image")
    words = [str(data / "half"), str(data / "small")]
    with pytest.raises(FusionInputError, match="expected all 2 pairs, found 2 that could not be scored"):
        score_folders(words, data / "in" / "list.json", data / "out", metrics=["ssim"])
    content = json.loads((data / "out" / "summary.json").read_text())
    told = {(one["case"], one["network"]): one["error"] for one in content["failures"]}
    assert "named c1_fused or c1, found none" in told["c1", "half"]
    assert "64 x 64" in told["c0", "small"] and "found 32 x 32" in told["c0", "small"]
    assert {(row["network"], row["case"]) for row in csv.DictReader((data / "out" / "pairs.csv").open())} == {
        ("half", "c0"),
        ("small", "c1"),
    }


def test_copies_greyed_and_shifted_images_are_told(data):
    mri, ct = sources(0)
    color = np.stack([ct, ct // 3, ct // 2], -1)
    save(data / "in" / "0_ct.png", color)
    image = torch.from_numpy(np.stack([mri, ct]).astype(np.float32) / 255)
    neutral, colored = torch.full((2, SIZE, SIZE), 0.5), torch.rand(2, SIZE, SIZE)
    fused = image.amax(0, keepdim=True)
    assert suspicions(fused, image, None, None) == []
    assert suspicions(image[1:] + 2 / 255, image, None, None) == ["a copy of image B"]
    assert suspicions(fused, image, None, colored) == ["greyed: image B is in color, the fused image is not"]
    assert suspicions(fused, image, neutral, colored)[0].startswith("greyed")
    assert not suspicions(fused, image, colored, colored)
    assert suspicions(fused, image, colored, None)[0].startswith("colored: both sources are grey")
    for shift in ((2, 0), (-3, 5), (0, -1)):
        assert find_shift(fused[0].roll(shift, (0, 1)), image) == shift
    save(data / "out" / "c0.png", average(0))
    save(data / "out" / "c1.png", np.roll(average(1), (4, 2), (0, 1)))
    score_folders([str(data / "out")], data / "in" / "list.json", data / "o", "spect_mri", metrics=["ssim"])
    remarks = [row["remarks"] for row in csv.DictReader((data / "o" / "pairs.csv").open())]
    assert "greyed" in remarks[0] and "shifted by 4 x 2 pixels" in remarks[1]
    assert "shifted by 4 x 2 pixels against the sources (1 of 2 pairs)" in (data / "o" / "table.md").read_text()


def pair_of(number):
    """The sources of a head, (2, H, W) in [0, 1], with a mark on one side."""
    image = torch.from_numpy(np.stack(sources(number))).float() / 255
    image[:, 20:26, 40 + number : 46 + number] = torch.tensor([1.0, 0.6])[:, None, None]
    return image


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda fused: fused, ""),
        (lambda fused: fused.flip(1), "mirrored along axis 1 against the sources"),
        (lambda fused: fused.flip(0), "mirrored along axis 0 against the sources"),
        (lambda fused: fused.flip(0, 1), "mirrored along axes 0 and 1 against the sources"),
        (lambda fused: fused.T, "transposed against the sources"),
        (lambda fused: 1 - fused, "inverted: dark where both sources are bright"),
        (lambda fused: (1 - fused).flip(1), "mirrored along axis 1 against the sources"),
        (lambda fused: 0.5 * fused, ""),
    ],
)
def test_mirrored_turned_and_inverted_images_are_told(change, told):
    image = pair_of(0)
    found = suspicions(change(image.mean(0))[None], image, None, None)
    assert told in found if told else found == []


def test_a_source_of_another_brightness_is_nearly_a_copy():
    image = pair_of(0)
    found = suspicions(0.8 * image[:1], image, None, None)
    assert [text[:25] for text in found] == ["nearly a copy of image A "]


def test_images_of_other_cases_are_told():
    pairs = [pair_of(number) for number in range(4)]
    right, wrong, same = OtherPairs(), OtherPairs(), OtherPairs()
    for number, image in enumerate(pairs):
        assert right(str(number), image.mean(0, keepdim=True), image) == []
    told = [wrong(str(n), pairs[(n + 1) % 4].mean(0, keepdim=True), image) for n, image in enumerate(pairs)]
    assert all("fits its sources better" in text[0] or "the names may be" in text[0] for text in told[1:])
    told = [same(str(n), pairs[0].mean(0, keepdim=True), image) for n, image in enumerate(pairs)]
    assert told[0] == [] and told[1][0] == "the same fused image as case 0 has"


def test_twelve_bits_in_sixteen_are_refused_without_a_range(data):
    for number in range(2):
        save(data / "out" / f"c{number}.png", average(number).astype(np.uint16) * 16)
    with pytest.raises(
        FusionInputError, match=r"expected values up to white, 65535, found 0 to .* of 16 bits; give --range"
    ):
        score_folders([str(data / "out")], data / "in" / "list.json", data / "scores", metrics=["ssim"])


def test_a_range_that_the_files_cannot_hold_is_refused(data):
    """Scored as 12 bits, pictures of 8 bits were nearly black."""
    for number in range(2):
        save(data / "out" / f"c{number}.png", average(number).astype(np.uint8))
    with pytest.raises(FusionInputError, match="c0.png: expected values up to 4095, found a file whose white is 255"):
        score_folders(
            [str(data / "out")], data / "in" / "list.json", data / "scores", metrics=["ssim"], data_range=4095
        )


def test_names_by_rule_and_by_list(data):
    for number in range(2):
        save(data / "out" / f"res-{number}_mri-x.png", average(number))
    entries = listed_pairs(data / "in" / "list.json")
    found = FusedFiles(data / "out", entries, rule="res-{image}-x.png")
    assert [found.file_of(entry).name for entry in entries] == ["res-0_mri-x.png", "res-1_mri-x.png"]
    named = json.loads((data / "in" / "list.json").read_text())
    for number, entry in enumerate(named["testing"]):
        entry["fused"] = f"res-{1 - number}_mri-x.png"
    (data / "in" / "named.json").write_text(json.dumps(named))
    listed = listed_pairs(data / "in" / "named.json")
    assert FusedFiles(data / "out", listed).file_of(listed[0]).name == "res-1_mri-x.png"


def test_no_file_is_taken_for_two_pairs(tmp_path):
    entries = [{"case": f"c{n}", "image": f"{n}/mri.png", "image2": f"{n}/ct.png"} for n in range(2)]
    save(tmp_path / "out" / "mri.png", average(0))
    with pytest.raises(FusionInputError, match="case c0 in .*named c0_fused or c0, found none"):
        FusedFiles(tmp_path / "out", entries).file_of(entries[0])
    same = FusedFiles(tmp_path / "out", entries, rule="{image}.png")
    same.file_of(entries[0])
    with pytest.raises(FusionInputError, match="found mri.png, which case c0 has"):
        same.file_of(entries[1])
    save(tmp_path / "two" / "c0.png", average(0))
    save(tmp_path / "two" / "c0.nii.gz", average(0))
    with pytest.raises(FusionInputError, match="found c0.nii.gz, c0.png"):
        FusedFiles(tmp_path / "two", entries).file_of(entries[0])


def test_wrong_folders_and_rules(data):
    with pytest.raises(FusionInputError, match="nowhere: expected a folder of fused images"):
        FusedFiles("nowhere", [])
    with pytest.raises(FusionInputError, match="rule: expected a name with {case}"):
        FusedFiles(data / "in", [], rule="fused.png")
    with pytest.raises(FusionInputError, match="method a: expected a name of its own"):
        named_folders(["a=x", "a=y"])
