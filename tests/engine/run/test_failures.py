"""A user's error is found under the errors that are wrapped around it and told in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
from monai.data import DataLoader, Dataset
from monai.transforms import Compose

from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.errors import FusionInputError


def refuse(item):
    raise FusionInputError("ct.png: expected an image, found text; export it again")


def load(workers):
    list(DataLoader(Dataset([{"image": 1}], Compose([refuse])), num_workers=workers))


@pytest.mark.parametrize("workers", [0, 1], ids=["this process", "a worker"])
def test_found_under_the_errors_of_a_data_loader(workers):
    with pytest.raises(RuntimeError) as caught:
        load(workers)
    assert str(find_input_error(caught.value)) == "ct.png: expected an image, found text; export it again"


def test_another_error_is_left_alone():
    assert find_input_error(KeyError("image")) is None
    assert find_input_error(None) is None


def test_a_circle_of_causes_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert find_input_error(first) is None


@pytest.mark.parametrize(
    ("error", "debug", "last"),
    [
        ("FusionInputError('ct.png: no')", "", "error: ct.png: no"),
        ("KeyboardInterrupt()", "", "error: stopped by the user; a training goes on from its last whole epoch"),
        ("KeyError('x')", "", "KeyError: 'x'"),
        ("FusionInputError('ct.png: no')", "1", "clinicalfmamba_nets.errors.FusionInputError: ct.png: no"),
    ],
)
def test_last_line_and_exit_code_of_a_bundle_program(error, debug, last):
    code = (
        "import sys, types; from clinicalfmamba_nets.engine.run import failures;"
        "from clinicalfmamba_nets.errors import FusionInputError;"
        "sys.modules['__main__'].__spec__ = types.SimpleNamespace(name='monai.bundle.__main__');"
        f"failures.tell_errors_in_one_line(); raise {error}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"CLINICALFMAMBA_DEBUG": debug}
    )
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith(last)
    assert ("Traceback" in done.stderr) == (bool(debug) or "KeyError" in error)


def test_other_programs_keep_their_traceback():
    code = (
        "from clinicalfmamba_nets.engine.run import failures; from clinicalfmamba_nets.errors import FusionInputError;"
        "failures.tell_errors_in_one_line(); raise FusionInputError('ct.png: no')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Traceback" in done.stderr
