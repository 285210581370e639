"""MONAI loaded on demand by the program: the same bytes, less of it; nothing of it where others run the show."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from clinicalfmamba_nets.engine.run.monai_on_demand import load_on_demand
from clinicalfmamba_nets.io import write_image


def test_a_process_that_has_monai_is_left_alone():
    import monai

    before = list(sys.meta_path)
    assert monai and not load_on_demand() and sys.meta_path == before


def test_bundles_of_the_users_own_get_all_of_monai(monkeypatch):
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", "elsewhere")
    monkeypatch.delitem(sys.modules, "monai", raising=False)
    assert not load_on_demand()


@pytest.mark.slow
def test_the_program_and_a_whole_monai_give_the_same_bytes(tmp_path):
    for name, values in zip(("mri", "ct"), np.random.default_rng(0).integers(0, 255, (2, 64, 64)), strict=True):
        write_image(tmp_path / f"{name}.png", values.astype(np.uint8))
    words = ["fuse", str(tmp_path / "mri.png"), str(tmp_path / "ct.png"), "--device", "cpu", "-o"]
    environment = {name: value for name, value in os.environ.items() if name != "CLINICALFMAMBA_BUNDLES"}
    loaded = (
        "import sys, atexit; atexit.register(lambda: print('loaded', 'ignite' in sys.modules)); sys.argv[0] = 'x'; "
    )
    for start, out, whole in (("program()", "a", False), ("sys.exit(main(sys.argv[1:]))", "b", True)):
        code = f"{loaded}from clinicalfmamba_nets.cli import main, program; {start}"
        done = subprocess.run(
            [sys.executable, "-c", code, *words, str(tmp_path / out)], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0 and f"loaded {whole}" in done.stdout, done.stderr
    names = ("mri_fused.png", "mri_preview.png")
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
