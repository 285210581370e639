"""Find the project's bundles and run them in this process, as `python -m monai.bundle run` does in its own."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinicalfmamba_nets.errors import input_error

if TYPE_CHECKING:
    from monai.bundle import ConfigParser, ConfigWorkflow

PACKAGE_DIR = Path(__file__).resolve().parents[2]
WORKFLOW_TYPES = {"train": "train", "train_fusion": "train", "inference": "infer"}


def bundle_folders() -> list[Path]:
    """Return the folders searched for bundles, first match first.

    They are the environment variable CLINICALFMAMBA_BUNDLES, the folder inside the installed package, and the one
    beside the package in a checkout.
    """
    folders = [PACKAGE_DIR / "bundles", PACKAGE_DIR.parent / "bundles"]
    named = os.environ.get("CLINICALFMAMBA_BUNDLES")
    return [Path(named).expanduser(), *folders] if named else folders


def list_bundles() -> dict[str, Path]:
    """Return every bundle that can be found: its name and its folder."""
    found: dict[str, Path] = {}
    for folder in bundle_folders():
        for metadata in sorted(folder.glob("*/configs/metadata.json")):
            found.setdefault(metadata.parents[1].name, metadata.parents[1])
    return found


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle.

    Args:
        name: the bundle's folder name, such as "fusion_2d".

    Raises:
        FusionInputError: no folder that is searched holds a bundle of this name.

    Example:
        >>> find_bundle("fusion_2d").name
        'fusion_2d'
    """
    found = list_bundles()
    if name not in found:
        known = ", ".join(found) or f"no bundle in {', '.join(map(str, bundle_folders()))}"
        raise input_error(
            f"bundle {name!r}", "the name of a bundle", known, "set CLINICALFMAMBA_BUNDLES to their folder"
        )
    return found[name]


def open_bundle(
    name: str, workflow: str = "inference", overlays: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> ConfigWorkflow:
    """Read a bundle's configuration and run its `initialize` expressions.

    Parsed content is then to be had by id (`workflow.parser.get_parsed_content("evaluator")`), and `workflow.run()`
    runs it. Logging is left as the caller set it.

    Args:
        name: the bundle's name, for `find_bundle`.
        workflow: the base configuration, "train" or "inference".
        overlays: names of configurations laid over it, such as "evaluate".
        overrides: ids and values that replace those of the configurations; None keeps the configuration's value.

    Raises:
        FusionInputError: the bundle, a configuration or the name of an override is not known.
    """
    from clinicalfmamba_nets.engine.run.checked_workflow import CheckedWorkflow

    root, files, settings = _located(name, workflow, overlays, overrides)
    quiet = logging.getLogger("monai.bundle.workflows")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # the workflow warns that logging_file=False leaves logging alone, as is wanted here
    try:
        opened = CheckedWorkflow(
            config_file=[str(file) for file in files],
            meta_file=str(root / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=WORKFLOW_TYPES.get(workflow, "infer"),
            **settings,
        )
    finally:
        quiet.setLevel(level)
    opened.initialize()
    return opened


def read_bundle(
    name: str, workflow: str = "inference", overlays: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> ConfigParser:
    """Read a bundle's configuration and change nothing else: its `initialize` expressions are not run.

    Args:
        name: as in `open_bundle`.
        workflow: as in `open_bundle`.
        overlays: as in `open_bundle`.
        overrides: as in `open_bundle`.

    Returns:
        The parser; content is to be had by id (`get_parsed_content("network")`).

    Raises:
        FusionInputError: the bundle, a configuration or the name of an override is not known.
    """
    from monai.bundle import ConfigParser

    from clinicalfmamba_nets.engine.run.monai_on_demand import load_transforms
    from clinicalfmamba_nets.engine.run.overrides import checked_overrides

    _, files, settings = _located(name, workflow, overlays, overrides)
    settings = checked_overrides(settings, files)
    load_transforms([file.read_text(encoding="utf-8") for file in files])
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update(settings)
    return parser


def _located(
    name: str, workflow: str, overlays: Sequence[str], overrides: Mapping[str, Any] | None
) -> tuple[Path, list[Path], dict[str, Any]]:
    """Return folder, configurations and settings of a bundle, the settings not yet checked."""
    root = find_bundle(name)
    files = [root / "configs" / f"{config}.json" for config in (workflow, *overlays)]
    for file in files:
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in file.parent.glob("*.json")))
            raise input_error(file, "a configuration of the bundle", "no such file", f"choose one of {known}")
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return root, files, {"bundle_root": str(root), **given}


def run_bundle(
    name: str, workflow: str = "inference", overlays: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> ConfigWorkflow:
    """Open a bundle, run it, run its `finalize` expressions, and return it; see `open_bundle`.

    Its progress goes to the terminal where the program has not set up logging.

    Raises:
        FusionInputError: an input of the run is bad; MONAI's wrapping of the error is taken off.
    """
    from clinicalfmamba_nets.engine.run.failures import find_input_error

    show_progress()
    try:
        opened = open_bundle(name, workflow, overlays, overrides)
        opened.run()
        opened.finalize()
    except Exception as error:
        cause = find_input_error(error)
        if cause is None:
            raise
        raise cause from error
    return opened


def show_progress() -> None:
    """Let progress go to the terminal where the program has not set up logging."""
    progress = logging.getLogger("clinicalfmamba")
    if not progress.hasHandlers():
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        progress.addHandler(handler)
        progress.setLevel(logging.INFO)
