"""Malformed inputs of the shared data folder through the real command line: one line, nothing written."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

GOOD = ("png/good_mri.png", "png/good_ct.png")
# File -> words of the cause.
REFUSED_PNG = {
    "png/truncated.png": "truncated",
    "png/bomb_30000.png": "30000 x 30000",
    "png/size_255x240.png": "size_255x240.png",
}
REFUSED_NIFTI = {
    "nifti/truncated.nii.gz": "truncated",
    "nifti/zero_bytes.nii.gz": "0 bytes",
    "nifti/text.nii.gz": "text.nii.gz",
    "nifti/huge_dims_header.nii": "30000 x 30000 x 30000",
    "nifti/nan_1pct.nii.gz": "NaN",
    "nifti/dim4d.nii.gz": "dim4d.nii.gz",
    "nifti/complex64.nii.gz": "complex64",
    "nifti/constant.nii.gz": "constant.nii.gz",
}
# getrusage would count what this process used before the child replaced it; VmHWM begins anew.
MEASURE = (
    "import sys\nfrom clinicalfmamba_nets.cli import main\ncode = main(sys.argv[1:])\n"
    "peak = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
    "print('peak', int(peak) // 1024)\nsys.exit(code)\n"
)


@pytest.fixture
def bad(shared_data: Path) -> Path:
    """Folder of the malformed inputs."""
    if not (shared_data / "bad" / "index.json").is_file():
        pytest.skip(f"no malformed inputs in {shared_data / 'bad'}")
    return shared_data / "bad"


def assert_refused(outcome, out: Path, *words: str) -> None:
    """A refusal: exit code 1, the cause in the last line, no image left behind."""
    assert outcome.code == 1
    assert "Traceback" not in outcome.err and outcome.cause.startswith("error: ")
    assert all(word in outcome.cause for word in words), outcome.cause
    assert [path.name for path in out.glob("*")] in ([], ["run.json"])
    if (out / "run.json").exists():
        entry = json.loads((out / "run.json").read_text())["outputs"][0]
        assert entry["status"] == "failed" and entry["fused"] is None and entry["error"] in outcome.cause


def test_every_entry_of_the_index_is_known_here(bad):
    kinds = {entry["path"]: entry["kind"] for entry in json.loads((bad / "index.json").read_text())}
    handled = {"png/good_ct.png", "png/good_mri.png", "png/rgba.png", "png/gray16.png", "png/odd_size_253x251.png"}
    assert {path for path, kind in kinds.items() if kind == "png"} == handled | set(REFUSED_PNG)
    assert set(REFUSED_NIFTI) <= set(kinds)


@pytest.mark.parametrize("name", REFUSED_PNG)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("task", [(), ("--task", "ct_mri")], ids=["any task", "named task"])
def test_bad_png_is_refused(toy_cli, bad, tmp_path, name, place, task):
    pair = [bad / good for good in GOOD]
    pair[place] = bad / name
    assert_refused(toy_cli("fuse", *pair, "-o", tmp_path / "out", *task), tmp_path / "out", name, REFUSED_PNG[name])


@pytest.mark.parametrize("name", REFUSED_NIFTI)
def test_bad_nifti_is_refused(toy_cli, bad, tmp_path, name):
    outcome = toy_cli("fuse", bad / name, bad / "nifti/good_pair/flair.nii.gz", "-o", tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", Path(name).name, REFUSED_NIFTI[name])


@pytest.mark.parametrize(
    ("name", "word"),
    [("missing_file.json", "nowhere.nii.gz"), ("traversal.json", "leads out of it"), ("not_json.json", "not JSON")],
)
def test_bad_list_is_refused(toy_cli, bad, tmp_path, name, word):
    outcome = toy_cli("fuse", "--datalist", bad / "datalists" / name, "-o", tmp_path / "out", "--task", "ct_mri")
    assert outcome.code == 1 and "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("*_fused*")) and not list(tmp_path.rglob("*_preview*"))
    told = outcome.err + (tmp_path / "out" / "run.json").read_text() if (tmp_path / "out").exists() else outcome.err
    assert word in told and name in outcome.cause


@pytest.mark.parametrize("name", ["png/rgba.png", "png/gray16.png"])
def test_odd_png_gives_the_result_of_the_plain_one(toy_cli, bad, tmp_path, name):
    assert toy_cli("fuse", bad / GOOD[0], bad / GOOD[1], "-o", tmp_path / "plain").code == 0
    outcome = toy_cli("fuse", bad / GOOD[0], bad / name, "-o", tmp_path / "odd")
    assert outcome.code == 0
    plain, odd = (np.asarray(Image.open(tmp_path / f / "good_mri_fused.png")).astype(int) for f in ("plain", "odd"))
    assert odd.shape == plain.shape == (256, 256) and np.abs(odd - plain).max() <= 1
    if name == "png/rgba.png":
        assert "alpha channel ignored" in outcome.out


def test_odd_size_is_fused(toy_cli, bad, tmp_path):
    path = bad / "png/odd_size_253x251.png"
    assert toy_cli("fuse", path, path, "-o", tmp_path / "out").code == 0
    with Image.open(path) as source, Image.open(tmp_path / "out" / "odd_size_253x251_fused.png") as fused:
        assert fused.size == source.size and set(fused.size) == {251, 253}


def test_constant_and_equal_to_nothing_images(toy_cli, tmp_path):
    flat, other = tmp_path / "flat.png", tmp_path / "other.png"
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(flat)
    Image.fromarray(np.arange(1600).reshape(40, 40).astype(np.uint8)).save(other)
    for pair in ((flat, other), (other, flat)):
        assert_refused(toy_cli("fuse", *pair, "-o", tmp_path / "out"), tmp_path / "out", "flat.png", "contrast")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0 a JPEG"])
@pytest.mark.parametrize("suffix", [".png", ".nii", ".nii.gz", ".img", ""])
def test_files_that_are_no_images_are_refused(toy_cli, tmp_path, content, suffix):
    path, good = tmp_path / f"bad{suffix}", tmp_path / "good.png"
    path.write_bytes(content)
    Image.fromarray(np.arange(1600).reshape(40, 40).astype(np.uint8)).save(good)
    assert_refused(toy_cli("fuse", path, good, "-o", tmp_path / "out"), tmp_path / "out", path.name)


def test_odd_file_names_are_told_without_an_error_of_their_own(toy_cli, bad, tmp_path):
    with tarfile.open(bad / "odd_names.tar", errors="surrogateescape") as archive:
        archive.extraction_filter = lambda member, path: member  # the argument `filter` is new in 3.11.4
        archive.extractall(tmp_path / "odd")
    files = [path for path in (tmp_path / "odd").rglob("*") if path.is_file()]
    assert len(files) >= 4
    small = nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 900, (24, 24, 2)).astype(np.int16), np.eye(4))
    for number, path in enumerate(files):
        path.write_bytes(gzip.compress(small.to_bytes()))  # the names are what matters
        out = tmp_path / f"out{number}"
        outcome = toy_cli("fuse", path, path, "-o", out)
        assert outcome.code == 0 and len(list(out.glob("*_fused.nii.gz"))) == 1, outcome.cause


@pytest.mark.parametrize("name", ["png/bomb_30000.png", "nifti/huge_dims_header.nii"])
def test_bombs_are_refused_fast_and_with_little_memory(toy_bundles, bad, tmp_path, name):
    words = ["fuse", str(bad / name), str(bad / name), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "CLINICALFMAMBA_BUNDLES": str(toy_bundles)},
    )
    assert done.returncode == 1 and Path(name).name in done.stderr.strip().splitlines()[-1]
    assert int(done.stdout.split("peak")[-1]) < 1500, "MiB of memory at the peak"
