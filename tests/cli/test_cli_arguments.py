"""The command line before any work: help, versions, wrong arguments, exit codes, no torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clinicalfmamba_nets import __version__
from clinicalfmamba_nets.cli.commands import COMMANDS


def test_overview_names_every_command(run_cli):
    outcome = run_cli("--help")
    assert outcome.code == 0 and outcome.err == ""
    assert all(name in outcome.out for name in COMMANDS) and "not a medical device" in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(run_cli, command):
    outcome = run_cli(command, "--help")
    assert outcome.code == 0 and outcome.out.startswith(f"usage: clinicalfmamba {command}") and outcome.err == ""


def test_version(run_cli):
    assert run_cli("--version").out == f"clinicalfmamba {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("", ""),
        ("fues a b", "unknown command 'fues'; did you mean fuse?"),
        ("fuse a b", "required: -o/--output"),
        ("fuse a b -o out --overwite", "unknown option --overwite; did you mean --overwrite?"),
        ("fuse a b -o out --taks=ct_mri", "unknown option --taks; did you mean --task?"),
        ("fuse a b -o out --over", "unknown option --over; did you mean --overwrite?"),
        ("fuse a b c -o out", "expected two images A B, found 3"),
        ("fuse nowhere -o out", "expected two images A B or a folder of pairs, found only 'nowhere'"),
        ("fuse -o out", "expected one of: two images A B"),
        ("fuse a b --datalist list.json -o out", "expected one of: two images A B"),
        ("fuse a b -o out --task ct_mir", "did you mean ct_mri?"),
        ("fuse a b -o", "expected one argument"),
        ("train -o out", "expected --dataset_dir DIR or --datalist FILE"),
        ("train --dataset_dir . -o out epochs", "expected NAME=VALUE, found 'epochs'"),
        ("train --dataset_dir . -o out epochz=1", "did you mean 'epochs'?"),
        ("train --dataset_dir . -o out epochs=many", "epochs"),
        ("evaluate --dataset_dir . -o out --spilt case3", "unknown option --spilt; did you mean --split?"),
        ("fuse a b --outptu out", "unknown option --outptu; did you mean --output?"),
        ("score out --pair list.json", "unknown option --pair; did you mean --pairs?"),
        ("score out --pairs list.json --task ct_mir", "did you mean ct_mri?"),
        ("info folder extra", "unexpected argument 'extra'"),
    ],
)
def test_wrong_arguments_end_with_code_2_and_the_cause(run_cli, monkeypatch, tmp_path, arguments, cause):
    monkeypatch.chdir(tmp_path)
    outcome = run_cli(*arguments.split())
    assert outcome.code == 2
    assert cause in outcome.cause and "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_empty_name_is_a_wrong_argument(run_cli, tmp_path):
    outcome = run_cli("fuse", "a.png", "", "-o", tmp_path / "out")
    assert outcome.code == 2 and "found an empty name" in outcome.cause
    outcome = run_cli("fuse", "a.png", "b.png", "-o", "")
    assert outcome.code == 2 and "expected a name behind -o/--output, found an empty one" in outcome.cause


@pytest.mark.parametrize("command", ["fuse", "grade"])
@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_an_archive_that_is_not_unpacked_is_named(run_cli, tmp_path, command, kind):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "a.dcm").write_bytes(bytes(600))
    made = shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "study")
    named = Path(made).rename(tmp_path / "patient.bin")
    outcome = run_cli(command, named, "-o", tmp_path / "out")
    kinds = {"tar": "a tar archive", "gztar": "a gzip archive", "zip": "a ZIP archive without .zip in its name"}
    expected = f"patient.bin': expected a folder, a DICOM file or a ZIP archive, found {kinds[kind]}; unpack it"
    assert outcome.code == 2 and expected in outcome.cause
    assert run_cli("info", named).cause.endswith(f"found {kinds[kind]}; unpack it")


def test_options_may_stand_between_the_images(run_cli, tmp_path):
    outcome = run_cli("fuse", tmp_path / "a.png", "-o", tmp_path / "out", tmp_path / "b.png")
    assert outcome.code == 1 and "a.png: expected an image file, found no such file" in outcome.cause


def test_light_paths_do_not_load_torch(tmp_path):
    words = [
        ["--help"],
        ["fuse", "--help"],
        ["fuse", "a", "b", "--wrong"],
        ["fuse", "a", "b", "-o", "x", "--task", "y"],
        ["fuse", "missing.png", "other.png", "-o", "x"],
        ["info", "missing"],
    ]
    program = (
        "import sys\nfrom clinicalfmamba_nets.cli import main\nimport clinicalfmamba_nets\n"
        f"for words in {words!r}:\n    main(words)\n"
        "from clinicalfmamba_nets.engine.run import info\ninfo.installation_text(info.installation_facts())\n"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules, 'torch was loaded'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_package_offers_its_public_names_late():
    program = (
        "import sys\nimport clinicalfmamba_nets as c\nassert 'torch' not in sys.modules\n"
        "assert 'fuse' in dir(c) and callable(c.ops.selective_scan) and callable(c.ops.backend_report)\n"
        "assert all(callable(getattr(c.nets, n)) for n in "
        "('ClinicalFMamba', 'clinicalfmamba_2d', 'clinicalfmamba_3d', 'from_official_state_dict'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_unknown_name_of_the_package_is_an_attribute_error():
    import clinicalfmamba_nets

    with pytest.raises(AttributeError, match="no attribute 'fusee'"):
        _ = clinicalfmamba_nets.fusee
