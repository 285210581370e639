"""Check the names and types of the settings given to a bundle: MONAI takes any name in silence."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from clinicalfmamba_nets.errors import input_error

META_KEY = "_meta_"
# The command line of MONAI hands these over as texts, of which "false" too would count as true.
WORDS = {"true": True, "false": False}
# Names that `--tracking mlflow` of MONAI adds to every configuration.
TRACKING = ("tracking_uri", "experiment_name", "run_name", "is_not_rank0", "save_execute_config", "output_dir")
EXPRESSION_MARKS = ("$", "@", "%")
KINDS = ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (list, "a list"), (str, "a text"))


def _kind(value: Any) -> str | None:
    value = list(value) if isinstance(value, tuple) else value
    return next((words for kind, words in KINDS if isinstance(value, kind)), None)


def _is_open(value: Any) -> bool:
    return _kind(value) is None or (isinstance(value, str) and value.startswith(EXPRESSION_MARKS))


def _is_program(value: Any) -> bool:
    """Whether a value is a list of expressions, such as `initialize` or `run`."""
    return isinstance(value, (list, tuple)) and any(str(part).startswith(EXPRESSION_MARKS) for part in value)


def _fits(default: Any, value: Any) -> bool:
    if _is_open(default):
        return True
    return _kind(value) == _kind(default) or (_kind(default) == "a number" and _kind(value) == "a whole number")


def _check_one(name: str, value: Any, known: Mapping[str, Any]) -> None:
    top = name.replace("#", "::").split("::")[0]
    if top not in known and top not in TRACKING:
        near = difflib.get_close_matches(top, list(known), n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
        raise input_error(f"override {top!r}", "the name of a setting of this configuration", "an unknown name", remedy)
    if top == name and top in known and not _is_open(value):
        _check_value(name, value, known)


def _check_value(name: str, value: Any, known: Mapping[str, Any]) -> None:
    if _is_program(known[name]) and not _is_program(value):
        near = [other for other in difflib.get_close_matches(name, list(known), n=3, cutoff=0.4) if other != name]
        remedy = f"did you mean {near[0]!r}?" if near else "leave it out"
        raise input_error(f"override {name!r}", "expressions that begin with $", repr(value), remedy)
    if not _fits(known[name], value):
        expected = f"{_kind(known[name])} such as {known[name]!r}"
        raise input_error(f"override {name!r}", expected, repr(value), "give a value of that kind")


def check_override_names(overrides: Mapping[str, Any], config_files: Iterable[str | Path]) -> None:
    """Raise an error for the first override whose name, or kind of value, no configuration knows.

    Args:
        overrides: ids and values, as on the command line; `train::trainer::amp` is judged by its first part.
        config_files: the configurations that the overrides apply to.

    Raises:
        FusionInputError: naming the nearest known name.
    """
    known = _declared(config_files)
    for name, value in overrides.items():
        _check_one(name, value, known)


def check_overrides() -> None:
    """Check the overrides of the bundle run that is being initialized; for the `initialize` expressions of a bundle.

    The words true and false are made truth values where one is expected.
    An expression is given no access to the parser, so the workflow that evaluates it is looked up among the callers.

    Raises:
        FusionInputError: a top-level id of the run is in none of its configurations, or its value is of another kind.
    """
    workflow, config_files = _running_workflow()
    if workflow is None:
        return
    settings = {name: value for name, value in workflow.parser.get().items() if name != META_KEY}
    known = _declared(config_files or _active_files(Path(workflow.config_root_path), settings))
    for name, value in settings.items():
        if isinstance(known.get(name), bool) and isinstance(value, str) and value in WORDS:
            value = WORDS[value]
            workflow.parser.get()[name] = value
            workflow.parser.ref_resolver.get_item(name).update_config(value)
        _check_one(name, value, known)


def _declared(config_files: Iterable[str | Path]) -> dict[str, Any]:
    from monai.bundle import ConfigParser

    return dict(ConfigParser.load_config_files([str(file) for file in config_files]))


def _running_workflow() -> tuple[Any, list[str] | None]:
    from monai.bundle import ConfigWorkflow
    from monai.utils import ensure_tuple

    workflow = config_files = None
    frame: FrameType | None = sys._getframe()
    while frame is not None and config_files is None:
        owner = frame.f_locals.get("self")
        if workflow is None and isinstance(owner, ConfigWorkflow):
            workflow = owner
        if workflow is not None and frame.f_code.co_name == "create_workflow":
            named = frame.f_locals.get("config_file")
            config_files = [str(file) for file in ensure_tuple(named)] if named else None
        frame = frame.f_back
    return workflow, config_files


def _active_files(folder: Path, settings: Mapping[str, Any]) -> list[Path]:
    """Return the folder's configurations all of whose names are among the settings: those that can have been read."""
    from monai.bundle import ConfigParser

    files = [file for file in sorted(folder.glob("*.json")) if file.name != "metadata.json"]
    return [file for file in files if all(name in settings for name in ConfigParser.load_config_file(file))]
