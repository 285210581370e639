"""Names and kinds of overrides are checked, with the nearest right name in the message."""

from __future__ import annotations

import json

import pytest
from monai.bundle import ConfigWorkflow, create_workflow

from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.engine.run.overrides import check_override_names
from clinicalfmamba_nets.errors import FusionInputError

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
CONFIG = {
    "imports": ["$import clinicalfmamba_nets.engine as engine"],
    "epochs": 100,
    "learning_rate": 1e-3,
    "resume": False,
    "datalist": None,
    "output_dir": "$'out'",
    "patch_size": [8, 8],
    "task": "ct_mri",
    "train": {"batch": 1},
    "initialize": ["$engine.check_overrides()"],
    "run": ["$@resume"],
}


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "metadata.json").write_text("{}")
    (folder / "train.json").write_text(json.dumps(CONFIG))
    (folder / "other.json").write_text('{"sectional": 1, "initialize": []}')
    return str(folder / "train.json")


@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 3},
        {"learning_rate": 1},
        {"datalist": "list.json"},
        {"output_dir": "there"},
        {"patch_size": (4, 4)},
        {"train::batch": 2},
        {"train#batch": 2},
        {"epochs": "@other"},
        {"resume": True},
        {"run": ["$@epochs"]},
        {"run": "%train"},
        {"output_dir": None},
    ],
    ids=str,
)
def test_right_overrides_pass(config, given):
    check_override_names(given, [config])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"epochz": 3}, "override 'epochz': .*did you mean 'epochs'"),
        ({"Epochs": 3}, "did you mean 'epochs'"),
        ({"trane::batch": 3}, "override 'trane': .*did you mean 'train'"),
        ({"xyzzy": 3}, "known are .*epochs"),
        ({"sectional": 3}, "override 'sectional': expected the name"),
        ({"epochs": "ten"}, "override 'epochs': expected a whole number such as 100, found 'ten'"),
        ({"epochs": 2.5}, "expected a whole number"),
        ({"epochs": True}, "expected a whole number"),
        ({"learning_rate": "fast"}, "expected a number such as 0.001"),
        ({"patch_size": 4}, "expected a list"),
        ({"resume": "later"}, "expected true or false"),
        ({"run": "run1"}, "override 'run': expected expressions that begin with .*found 'run1'"),
        ({"run": ["run1"]}, "override 'run': expected expressions"),
        ({"task": 3}, "expected a text such as 'ct_mri'"),
    ],
    ids=str,
)
def test_wrong_overrides_are_told(config, given, told):
    with pytest.raises(FusionInputError, match=told):
        check_override_names(given, [config])


def started(config, **given):
    try:
        workflow = create_workflow(config_file=config, **given)
    except RuntimeError as error:
        raise find_input_error(error) or error from None
    return workflow


def test_a_run_checks_itself(config):
    with pytest.raises(FusionInputError, match="did you mean 'epochs'"):
        started(config, epochz=3)
    assert started(config, epochs=3).parser["epochs"] == 3


def test_a_name_of_a_configuration_that_is_not_read_is_unknown(config):
    with pytest.raises(FusionInputError, match="override 'sectional'"):
        started(config, sectional=3)


def test_an_overlay_may_bring_names_of_its_own(config, tmp_path):
    overlay = tmp_path / "mine.json"
    overlay.write_text('{"my_size": 3}')
    assert started([config, str(overlay)], my_size=4).parser["my_size"] == 4


def test_a_workflow_made_without_the_command_checks_itself(config):
    workflow = ConfigWorkflow(config, logging_file=False, epochz=1)
    with pytest.raises(RuntimeError) as caught:
        workflow.initialize()
    assert "did you mean 'epochs'" in str(find_input_error(caught.value))


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False)])
def test_true_and_false_of_the_command_line_are_truth_values(config, word, value):
    assert started(config, resume=word).run() == [value]


def test_names_of_experiment_tracking_are_known(config):
    check_override_names({"experiment_name": "mine"}, [config])
