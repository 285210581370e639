"""A list of pairs shared by two processes of torchrun: each case once, one report, resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from clinicalfmamba_nets.engine.run.processes import own_cases
from clinicalfmamba_nets.io import read_image, write_image

CASES = 7


@pytest.fixture
def cohort(tmp_path):
    """A data list of seven small pairs, the fourth of them with a file that is no image."""
    noise = np.random.default_rng(0)
    entries = []
    for number in range(CASES):
        names = [f"{number}_{kind}.png" for kind in ("mri", "ct")]
        for name in names:
            write_image(tmp_path / name, noise.integers(0, 255, (32, 32), dtype=np.uint8))
        entries.append({"image": names[0], "image2": names[1], "case": str(number)})
    (tmp_path / "3_ct.png").write_bytes(b"no image")
    (tmp_path / "list.json").write_text(json.dumps({"testing": entries}))
    return tmp_path / "list.json"


def fuse(cohort, out, toy_bundles, processes, *options):
    """Run the command line by torchrun."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    program = ["-m", "clinicalfmamba_nets.cli", "fuse", "--datalist", cohort, "-o", out, "--task", "ct_mri"]
    environment = {**os.environ, "CLINICALFMAMBA_BUNDLES": str(toy_bundles), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *program, "--device", "cpu", *options]
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_every_case_has_one_process(monkeypatch, count):
    cases = [{"case": str(number)} for number in range(CASES)]
    monkeypatch.setenv("WORLD_SIZE", str(count))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    shares = []
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        shares += own_cases(cases)
    assert sorted(number for number, _ in shares) == list(range(1, CASES + 1))
    assert all(cases[number - 1] is case for number, case in shares)


@pytest.mark.slow
def test_two_processes_fuse_each_case_once_and_tell_of_all(cohort, toy_bundles, tmp_path):
    out = tmp_path / "out"
    done = fuse(cohort, out, toy_bundles, 2)
    assert done.returncode and f"{CASES} cases: 6 done, 1 failed, 0 skipped" in done.stdout
    assert done.stdout.count(" done in ") == 6 and done.stdout.count("cases:") == 1
    told = json.loads((out / "run.json").read_text())
    assert [entry["case"] for entry in told["outputs"]] == [str(number) for number in range(CASES)]
    assert told["finished"] and "3_ct.png" in told["outputs"][3]["error"] and len(told["settings"]["weights"]) == 1
    alone = tmp_path / "alone"
    assert fuse(cohort, alone, toy_bundles, 1).returncode
    for number in {*range(CASES)} - {3}:
        pair = [read_image(folder / f"{number}_fused.png")[0] for folder in (out, alone)]
        assert np.array_equal(*pair)

    write_image(cohort.parent / "3_ct.png", np.arange(1024, dtype=np.uint8).reshape(32, 32))
    (out / "5_fused.png").unlink()
    again = fuse(cohort, out, toy_bundles, 2)
    assert again.returncode == 0, again.stderr
    assert f"{CASES} cases: 2 done, 0 failed, 5 skipped" in again.stdout
