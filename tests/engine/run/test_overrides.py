"""Names and kinds of overrides are checked, with the nearest right name in the message."""

from __future__ import annotations

import functools
import json
import sys
import types

import fire
import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow, run

from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.engine.run.overrides import check_data, check_override_names, literal
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
    "runs": ["@task"],
    "task": "ct_mri",
    "train": {"batch": 1, "amp": False, "loader": {"_target_": "DataLoader", "num_workers": 0}},
    "losses": {"ct_mri": {"pixel_weight": 6.0}},
    "initialize": ["$engine.check_overrides(globals())"],
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
        {"runs": ["other"]},
        {"train::batch": 2},
        {"train#batch": 2},
        {"train::loader::pin_memory": True},
        {"train::loader::num_workers": "@epochs"},
        {"losses#ct_mri#spot_weight": 1.5},
        {"losses#ct_mri#pixel_weight": 2},
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
        ({"train::epochs": 3}, "override 'train::epochs': expected the name of a part of it.*train has amp, batch, lo"),
        ({"train#bach": 2}, "override 'train#bach': .*did you mean 'batch'"),
        ({"train::batch": "two"}, "override 'train::batch': expected a whole number such as 1, found 'two'"),
        ({"losses::ct_mri::pixel_weight": "nan"}, "expected a number such as 6.0, found 'nan'"),
        ({"train::loader::num_workers": "many"}, "expected a whole number such as 0, found 'many'"),
        ({"task": 3}, "expected a text such as 'ct_mri'"),
    ],
    ids=str,
)
def test_wrong_overrides_are_told(config, given, told):
    with pytest.raises(FusionInputError, match=told):
        check_override_names(given, [config])


def started(config, **given):
    return create_workflow("clinicalfmamba_nets.engine.CheckedWorkflow", config_file=config, **given)


def test_a_workflow_checks_itself(config):
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


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False)])
def test_true_and_false_are_truth_values(config, word, value):
    assert started(config, resume=word).run() == [value]


def test_names_of_experiment_tracking_are_known(config):
    check_override_names({"experiment_name": "mine"}, [config])


def commanded(monkeypatch, *arguments):
    """Make a plain ConfigWorkflow as `python -m monai.bundle` does in its own process, and run it."""
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", types.SimpleNamespace(name="monai.bundle.__main__"))
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *arguments])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    made: list[ConfigWorkflow] = []

    class Kept(ConfigWorkflow):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    try:
        fire.Fire({"run": functools.partial(run, workflow_name=Kept)}, command=[*arguments, "--logging_file", "False"])
    except RuntimeError as error:
        raise find_input_error(error) or error from None
    return made[0]


FORMS = {
    "with a space": ["--epochz", "3"],
    "with an equals sign": ["--epochz=3"],
    "alone": ["--epochz"],
    "denied": ["--noepochz"],
    "with a dash": ["--epo-chz", "3"],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_plain_command_is_checked_in_every_form_of_its_arguments(config, monkeypatch, form):
    with pytest.raises(FusionInputError, match="override '(no)?epo_?chz': .*did you mean 'epochs'"):
        commanded(monkeypatch, "run", "run", "--config_file", config, *form)


def test_a_plain_command_with_right_arguments_runs(config, monkeypatch):
    made = commanded(monkeypatch, "run", "run", f"--config_file={config}", "--epochs", "3", "--train::batch", "2")
    assert made.parser["epochs"] == 3


def test_a_file_of_arguments_is_checked_too(config, monkeypatch, tmp_path):
    file = tmp_path / "arguments.json"
    file.write_text(json.dumps({"config_file": config, "epochz": 3}))
    with pytest.raises(FusionInputError, match="did you mean 'epochs'"):
        commanded(monkeypatch, "run", "run", "--args_file", str(file))


def test_what_is_to_be_run_is_checked(config, monkeypatch):
    with pytest.raises(FusionInputError, match=r"^run 'infer': expected what .* an unknown name; choose among run$"):
        commanded(monkeypatch, "run", "infer", "--config_file", config)


def test_several_configurations_are_all_known_to_a_command(config, monkeypatch, tmp_path):
    overlay = tmp_path / "mine.json"
    overlay.write_text('{"my_size": 3}')
    made = commanded(monkeypatch, "run", "--config_file", f"['{config}','{overlay}']", "--my_size", "4")
    assert made.parser["my_size"] == 4


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False), ("True", True)])
def test_words_of_a_plain_command_are_truth_values(config, monkeypatch, word, value):
    made = commanded(monkeypatch, "run", "run", "--config_file", config, "--resume", word)
    assert made.parser.get_parsed_content("resume") is value


def test_another_program_is_left_alone(config, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mine", "run", "--config_file", config, "--epochz", "3"])
    ConfigWorkflow(config, logging_file=False).initialize()


@pytest.mark.parametrize("mark", ["#", "::"])
def test_words_inside_a_setting_are_refused_where_they_would_count_as_true(tmp_path, monkeypatch, mark):
    block = {"_target_": "types.SimpleNamespace", "deep": True, "name": "true", "parts": [{"on": True}]}
    (tmp_path / "metadata.json").write_text("{}")
    file = tmp_path / "train.json"
    file.write_text(json.dumps({key: CONFIG[key] for key in ("imports", "initialize")} | {"block": block, "run": []}))

    def made(name, word):
        name = f"--block{mark}{name.replace('#', mark)}"
        return commanded(monkeypatch, "run", "run", "--config_file", str(file), name, word).parser

    for name in ("deep", "added", "parts#0#on"):
        with pytest.raises(
            FusionInputError, match=f"block{mark}.*expected False, .*found the text 'false'; write False"
        ):
            made(name, "false")
    assert made("deep", "False").get_parsed_content("block").deep is False
    assert made("name", "false").get_parsed_content("block").name == "false"


def test_words_inside_a_setting_are_truth_values_where_the_workflow_checks_itself(config):
    assert started(config, **{"train#loader#shuffle": "false"}).parser["train::loader::shuffle"] is False


@pytest.mark.parametrize(
    "value", ["$1 + 1", "@task", "%task", ["a", "$1"], {"_target_": "os.getcwd"}, {"a": [{"b": "$1"}]}], ids=str
)
def test_what_a_bundle_would_run_is_no_data(value):
    with pytest.raises(FusionInputError, match=r"setting 'window_b': expected a value .* which a bundle would run"):
        check_data({"window_a": "40/80", "window_b": value})
    plain = {"window_a": "40/80", "roi_size": [8, 8], "refine": False, "palette": None, "text": "a $b"}
    assert check_data(plain) == plain


@pytest.mark.parametrize("text", ["out", "$out", "@task", "%task", "$it's", '$\\ "x" @task %task', "$\n\u00e9\udcff"])
def test_a_text_is_taken_for_itself(text):
    parser = ConfigParser({"task": "ct_mri", "output_dir": literal(text), "folder": "@output_dir"})
    assert parser.get_parsed_content("output_dir") == parser.get_parsed_content("folder") == text
