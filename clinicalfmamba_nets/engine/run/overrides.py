"""Check the names and types of the settings given to a bundle: MONAI takes any name in silence."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.engine.run.failures import is_bundle_program
from clinicalfmamba_nets.errors import input_error

# The command line of MONAI hands these over as texts, of which "false" too would count as true.
WORDS = {"true": True, "false": False}
# Names that `--tracking mlflow` of MONAI adds to every configuration.
TRACKING = ("tracking_uri", "experiment_name", "run_name", "is_not_rank0", "save_execute_config", "output_dir")
EXPRESSION_MARKS = ("$", "@", "%")
KINDS = ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (list, "a list"), (str, "a text"))


def check_data(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse settings that a bundle would run: expressions, references and components, however deep in a value.

    For whatever comes from a request, a file or a record: a configuration is a program, and what begins with `$` in it
    is run, a `_target_` imported.

    Args:
        settings: ids and values.

    Returns:
        The settings.

    Raises:
        FusionInputError: a value that is no plain data.

    Example:
        >>> check_data({"window_b": "40/80", "roi_size": [8, 8]})
        {'window_b': '40/80', 'roi_size': [8, 8]}
    """
    for name, value in settings.items():
        if _runs(value):
            found = f"{str(value)[:60]!r}, which a bundle would run"
            raise input_error(
                f"setting {name!r}", "a value without $, @ or % at its start", found, "give a plain value"
            )
    return dict(settings)


def _runs(value: Any) -> bool:
    """Whether a bundle runs a value, or a part of it."""
    if isinstance(value, Mapping):
        return any(str(key).startswith("_") for key in value) or any(map(_runs, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_runs, value))
    return isinstance(value, str) and value.startswith(EXPRESSION_MARKS)


def literal(text: str) -> str:
    """Return a text, such as a path, as a bundle takes it for itself where it begins like an expression.

    Example:
        >>> literal("out"), literal("$out")
        ('out', "$'\\\\x24out'")
    """
    if not text.startswith(EXPRESSION_MARKS):
        return text
    escaped = text.encode("unicode_escape", "surrogatepass").decode("ascii")
    for char in ("'", *EXPRESSION_MARKS):
        escaped = escaped.replace(char, f"\\x{ord(char):02x}")
    return f"$'{escaped}'"


def _kind(value: Any) -> str | None:
    value = list(value) if isinstance(value, tuple) else value
    return next((words for kind, words in KINDS if isinstance(value, kind)), None)


def _is_open(value: Any) -> bool:
    return _kind(value) is None or (isinstance(value, str) and value.startswith(EXPRESSION_MARKS))


def _is_program(value: Any) -> bool:
    """Whether a value is a list of expressions, such as `initialize` or `run`."""
    return isinstance(value, (list, tuple)) and any(str(part).startswith("$") for part in value)


def _path(name: str) -> list[str]:
    return name.replace("#", "::").split("::")


def _fits(default: Any, value: Any) -> bool:
    if _is_open(default):
        return True
    return _kind(value) == _kind(default) or (_kind(default) == "a number" and _kind(value) == "a whole number")


def _check_one(name: str, value: Any, known: Mapping[str, Any]) -> None:
    top = _path(name)[0]
    if top not in known and top not in TRACKING:
        near = difflib.get_close_matches(top, list(known), n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
        raise input_error(f"override {top!r}", "the name of a setting of this configuration", "an unknown name", remedy)
    if top == name and top in known and not _is_open(value):
        _check_value(name, value, known)
    if top != name and top in known:
        _check_inside(name, value, known)


def _check_inside(name: str, value: Any, known: Any) -> None:
    """Check a setting inside another: a name that no part of a group has would be ignored in silence."""
    *groups, last = _path(name)
    for part in groups:
        known = known.get(part) if isinstance(known, Mapping) else None  # what lies in lists is left to MONAI
    if not isinstance(known, Mapping):
        return
    holds_components = any(isinstance(part, Mapping) and "_target_" in part for part in known.values())
    if last not in known and "_target_" not in known and holds_components:
        near = difflib.get_close_matches(last, list(known), n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"{'::'.join(groups)} has {', '.join(sorted(known))}"
        raise input_error(f"override {name!r}", "the name of a part of it", "an unknown name", remedy)
    if isinstance(known.get(last), int | float) and isinstance(value, str) and not _is_open(value):
        expected = f"{_kind(known[last])} such as {known[last]!r}"
        raise input_error(f"override {name!r}", expected, repr(value), "give a value of that kind")


def _check_run(name: str, known: Mapping[str, Any]) -> None:
    if _path(name)[0] not in known:
        runs = ", ".join(other for other, value in known.items() if other == "run" or value == "%run")
        raise input_error(f"run {name!r}", "what this configuration can run", "an unknown name", f"choose among {runs}")


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
    checked_overrides(overrides, config_files, words=False)


def check_overrides(names: MutableMapping[str, Any] | None = None) -> None:
    """Check what `python -m monai.bundle run` was given, for the `initialize` expressions of a bundle.

    A workflow that checks itself is `CheckedWorkflow`, MONAI's own way (`--workflow_name`). The plain command makes a
    ConfigWorkflow, which tells an expression neither its overrides nor its files; they are read from the command line
    as MONAI reads it. So this one route is checked by what the program was called with, and a plain ConfigWorkflow
    made in Python is not checked at all. The words true and false become truth values where one is expected; inside a
    setting (`network_def#cmca`), where they cannot and the text would count as true, they are refused.

    Args:
        names: `globals()` of the expression, in which MONAI keeps the values of ids; without it, true and false as
            words are refused.

    Raises:
        FusionInputError: a top-level id of the command, or what it is to run, is in none of its configurations, or a
            value is of another kind.
    """
    if not is_bundle_program():
        return
    from monai.bundle import ReferenceResolver

    given, files, run_id = _command_line(sys.argv[1:])
    _check_run(run_id, _declared(files))
    values = (names or {}).get(ReferenceResolver._vars)
    for name, value in checked_overrides(given, files, words=values is not None).items():
        if value is not given[name] and values is not None:
            if _path(name)[1:]:  # what lies inside a component is no value of an id: it cannot be replaced here
                wanted = f"{value}, as the plain command of MONAI reads a truth value inside a setting"
                raise input_error(f"override {name!r}", wanted, f"the text {given[name]!r}", f"write {value}")
            values[name] = value


def checked_overrides(
    overrides: Mapping[str, Any], config_files: Iterable[str | Path], words: bool = True
) -> dict[str, Any]:
    """Return overrides with true and false as truth values where one is expected, all of them checked.

    Args:
        overrides: as in `check_override_names`.
        config_files: as in `check_override_names`.
        words: take the words true and false for truth values.

    Raises:
        FusionInputError: as in `check_override_names`.
    """
    known = _declared(config_files)
    told = dict(overrides)
    for name, value in overrides.items():
        if words and isinstance(value, str) and value in WORDS and _takes_truth(name, known):
            told[name] = WORDS[value]
        _check_one(name, told[name], known)
    return told


def _takes_truth(name: str, known: Any) -> bool:
    """Whether a setting is true or false by default; one inside another (`network_def#cmca`) unless it is a text."""
    parts = _path(name)
    for part in parts:
        if isinstance(known, list):
            known = known[int(part)] if part.isdecimal() and int(part) < len(known) else None
        else:
            known = known.get(part) if isinstance(known, Mapping) else None
    return isinstance(known, bool) if len(parts) == 1 else known is None or _is_open(known) or isinstance(known, bool)


def _declared(config_files: Iterable[str | Path]) -> dict[str, Any]:
    from monai.bundle import ConfigParser

    files = [str(file) for file in config_files]
    declared = dict(ConfigParser.load_config_files(files[0] if len(files) == 1 else files))
    for name in [name for name in declared if _path(name)[1:]]:  # as in an overlay: "train::sampler"
        *groups, last = _path(name)
        place: Any = declared
        for part in groups:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = declared[name]
    return declared


def _command_line(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str], str]:
    """Return the overrides, the configurations, and what is to be run, that a command of monai.bundle names."""
    import fire
    from monai.bundle import run, run_workflow, update_kwargs
    from monai.utils import ensure_tuple

    read: dict[str, Any] = {}

    def reader(command: Callable[..., Any]) -> Callable[..., None]:
        signature = inspect.signature(command)

        @functools.wraps(command)
        def keep(*args: Any, **kwargs: Any) -> None:
            found = signature.bind(*args, **kwargs).arguments
            read.update(found.pop(next(reversed(signature.parameters)), {}), **found)

        return keep

    ends = [*arguments, "--"].index("--")  # what follows is for Fire itself
    fire.Fire({"run": reader(run), "run_workflow": reader(run_workflow)}, command=list(arguments[:ends]))
    read = update_kwargs(args=read.pop("args_file", None), **read)
    files = ensure_tuple(read.get("config_file") or ())
    given = {name: value for name, value in read.items() if name not in _own_arguments()}
    return given, [str(file) for file in files], str(read.get("run_id") or "run")


def _own_arguments() -> set[str]:
    """Return the names that MONAI keeps for itself: no override can have them."""
    from monai.bundle import ConfigWorkflow, run, run_workflow

    return {name for part in (run, run_workflow, ConfigWorkflow) for name in inspect.signature(part).parameters}
