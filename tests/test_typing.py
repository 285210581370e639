"""Type checkers read the package: `py.typed` is there, and mypy judges a user's script by its annotations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import clinicalfmamba_nets

SCRIPT = """import torch
from clinicalfmamba_nets.losses import FusionLoss
from clinicalfmamba_nets.metrics import compute_all, compute_ssim

image_a, image_b = torch.rand(2, 1, 1, 32, 32)
value: torch.Tensor = compute_ssim(image_a, image_a, image_b).value
scores: dict[str, float] = compute_all(image_a, image_a, image_b)
loss = FusionLoss(pixel_weight=1.0)
{more}
"""


def test_the_package_says_that_it_is_typed():
    assert (Path(clinicalfmamba_nets.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "told"), [("", ""), ("wrong: int = scores", "Incompatible types"), ("FusionLoss(depth='x')", "Unexpected")]
)
def test_mypy_on_a_users_script(tmp_path, more, told):
    pytest.importorskip("mypy", reason="mypy is one of the tools for tests")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(more=more))
    words = ["--ignore-missing-imports", "--follow-imports=silent", "--cache-dir", str(tmp_path.parent / "mypy")]
    # mypy does not see what an editable install's import hook finds, and takes all of it for Any.
    environment = {**os.environ, "MYPYPATH": str(Path(clinicalfmamba_nets.__file__).parents[1])}
    command = [sys.executable, "-m", "mypy", *words, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode == 0) == (not told), done.stdout
    assert told in done.stdout
