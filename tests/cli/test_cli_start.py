"""How the program starts: what it sets for torch's threads, and its names as a module."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROBE = """
import os, sys
sys.argv = ["clinicalfmamba", "--version"]
from clinicalfmamba_nets.cli import program
assert "torch" not in sys.modules  # which reads the variable as it is loaded
try:
    program()
except SystemExit:
    print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_wait_briefly_unless_the_user_has_said_how_long(given, found):
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", PROBE], env=environment | given, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"{found} False", done.stderr


@pytest.mark.parametrize("module", ["clinicalfmamba_nets", "clinicalfmamba_nets.cli"])
def test_the_program_is_a_module_too(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "clinicalfmamba")
