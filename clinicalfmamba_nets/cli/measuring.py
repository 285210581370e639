"""The commands that run a bundle's training or evaluation, or score fused images."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.cli.arguments import Parser, nearest, say
from clinicalfmamba_nets.cli.checks import check_named_once, check_task, check_windows
from clinicalfmamba_nets.errors import FusionInputError


def run_evaluate(parser: Parser, options: argparse.Namespace) -> int:
    """Run the bundle's evaluation."""
    if options.datalist is not None and options.split is not None:
        parser.error("expected --datalist FILE or a split of --dataset_dir, found both; leave --split out")
    settings = {"split": options.split, **({"runs": options.run} if options.run else {})}
    settings |= {"fused": options.fused} if options.fused else {}
    overlays = [name.removesuffix(".json") for name in options.overlay]
    code = run_configured(parser, options, "inference", ["evaluate", *overlays], settings)
    say(f"table    {Path(options.output) / 'table.md'}")
    return code


def run_score(parser: Parser, options: argparse.Namespace) -> int:
    """Score folders of fused images; 1 when some could not be scored."""
    if options.range is not None and not 0 < options.range < math.inf:
        parser.error(f"--range: expected a number above 0, found {options.range:g}")
    check_task(parser, options)
    check_windows(parser, options)
    from clinicalfmamba_nets.engine.evaluation.score import score_folders
    from clinicalfmamba_nets.engine.run.workflows import show_progress
    from clinicalfmamba_nets.ops.native.allocator import tune_allocator

    names = options.metrics.split(",") if options.metrics is not None else None
    more = {"metrics": names, "convention": options.convention, "baselines": options.baselines}
    more |= {"window_a": options.window_a, "window_b": options.window_b}
    show_progress()
    tune_allocator()
    score_folders(options.folders, options.pairs, options.output, options.task, options.rule, options.range, **more)
    say(f"table    {Path(options.output) / 'table.md'}")
    return 0


def run_train(parser: Parser, options: argparse.Namespace) -> int:
    """Run the bundle's training and tell where the weights lie."""
    from clinicalfmamba_nets.engine.run.processes import process_rank

    overlays = [name.removesuffix(".json") for name in options.overlay]
    code = run_configured(parser, options, "train", overlays, {"resume": options.resume})
    if not process_rank()[0]:  # the first process tells for all
        say(f"weights  {Path(options.output) / 'model.pt'}")
    return code


def run_configured(
    parser: Parser, options: argparse.Namespace, workflow: str, overlays: list[str], settings: dict[str, Any]
) -> int:
    """Run a configuration of the bundle; settings that it does not know are wrong arguments."""
    free = free_settings(parser, options.settings)
    given = {"dataset_dir": options.dataset_dir, "datalist": options.datalist, "output_dir": options.output}
    given |= {"task": options.task, "device": options.device, "split": settings.get("split")}
    check_named_once(parser, given, free)
    options.task = options.task or free.get("task")
    bundle = check_task(parser, options)
    settings |= {name: value for name, value in given.items() if value is not None and name != "device"}
    settings |= free
    if not {"dataset_dir", "datalist"} & settings.keys():
        parser.error("expected --dataset_dir DIR or --datalist FILE, found neither")
    from clinicalfmamba_nets.engine.run.overrides import check_override_names, literal
    from clinicalfmamba_nets.engine.run.settings import check_settings
    from clinicalfmamba_nets.engine.run.tasks import VOLUMES
    from clinicalfmamba_nets.engine.run.workflows import find_bundle, run_bundle

    configs = find_bundle(bundle) / "configs"
    check_overlays(parser, configs, workflow, overlays)
    try:
        check_override_names(settings, [configs / f"{name}.json" for name in (workflow, *overlays)])
        check_settings(3 if bundle == VOLUMES else 2, **{k: v for k, v in settings.items() if k != "device"})
    except FusionInputError as error:
        parser.error(str(error))
    device = options.device or settings.get("device")
    if device:
        from clinicalfmamba_nets.engine.run.devices import named_device

        settings["device"] = named_device(device)
    settings |= {name: literal(settings[name]) for name in ("dataset_dir", "datalist", "output_dir") if given[name]}
    run_bundle(bundle, workflow, overlays, settings)
    return 0


def check_overlays(parser: Parser, configs: Path, workflow: str, overlays: Sequence[str]) -> None:
    """Leave with exit code 2 unless each overlay is one of the bundle for a training or an evaluation."""
    trainings = sorted(path.stem for path in configs.glob("*_train.json")) if workflow == "train" else ["evaluate"]
    known = trainings + sorted(f"peers/{path.stem}" for path in configs.glob("peers/*.json"))
    for name in overlays:
        if name not in known:
            parser.error(f"overlay {name!r}: expected one of {', '.join(known)}{nearest(name, known)}")


def free_settings(parser: Parser, words: Sequence[str]) -> dict[str, Any]:
    """Turn NAME=VALUE words into settings; values are JSON where they can be, else text."""
    settings: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not mark or not name:
            parser.error(f"expected NAME=VALUE, found {word!r}")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            from fire.parser import DefaultParseValue  # Python's literals, as monai.bundle takes them; else a string

            settings[name] = DefaultParseValue(value)
    return settings
