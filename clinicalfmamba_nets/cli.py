"""The command line: `clinicalfmamba fuse | evaluate | train | info`. It parses, checks and calls; bundles do the work.

Exit codes: 0 done, 1 failed (in a batch: at least one case failed), 2 wrong arguments. The last line on stderr tells
the cause. argparse is used, not fire: fire accepts unknown options late or as attributes and has no fixed exit codes.
Modules are loaded where they are needed, so that help, wrong arguments and `info` answer without loading torch.
"""

from __future__ import annotations

import argparse
import difflib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from clinicalfmamba_nets import __version__

PROGRAM = "clinicalfmamba"
NOTICE = "Research use only: not a medical device."


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that end the output and name the nearest right option."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(f"{PROGRAM} {command}".strip(), description=f"{description} {NOTICE}", allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print usage and the cause, and leave with exit code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse all arguments, options and positions in any order."""
        found, unknown = self.parse_known_intermixed_args(arguments)
        for word in unknown:
            if word.startswith("-"):
                name = word.split("=")[0]
                self.error(f"unknown option {name}{nearest(name, self._option_string_actions)}")
        if unknown:
            self.error(f"unexpected argument {unknown[0]!r}")
        return found


def nearest(word: str, known: Any) -> str:
    """Return a question with the known word closest to `word`, or nothing when none is close."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def with_common_options(parser: Parser) -> Parser:
    """Add the options that every command has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def with_run_options(parser: Parser, output: str) -> Parser:
    """Add the options of the commands that compute."""
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help=output)
    parser.add_argument("--task", help="which images and weights: ct_mri, spect_mri, pet_mri, ct_mri_published")
    parser.add_argument("--device", help="device in torch's words, such as cpu; default: the bundle's own choice")
    return with_common_options(parser)


def fuse_parser() -> Parser:
    """Arguments of `fuse`."""
    parser = Parser("fuse", "Fuse a pair of images of one grid: A is the anatomical image (MRI), B the other.")
    parser.add_argument("inputs", nargs="*", metavar="A B", help="two images (PNG, NIfTI), or one folder of pairs")
    parser.add_argument("--datalist", metavar="FILE", help="MONAI data list: key testing, entries image, image2, case")
    parser.add_argument("--phantom", action="store_true", help="fuse a head phantom that the program computes itself")
    parser.add_argument("--overwrite", action="store_true", help="fuse again what OUT already holds")
    return with_run_options(parser, "folder for <case>_fused.<ext>, <case>_preview.png and run.json")


def evaluate_parser() -> Parser:
    """Arguments of `evaluate`."""
    parser = Parser("evaluate", "Measure fused test pairs, beside the free baselines on the same pairs.")
    parser.add_argument("--dataset_dir", "--dataset-dir", required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--split", default="random3", help="test lists: random3 (default), case3 or mydatasets")
    parser.add_argument("--run", action="append", metavar="RUN", help="run of the split; may be repeated; default: all")
    add_settings(parser)
    return with_run_options(parser, "folder for the tables (CSV, JSON) and pictures (PNG)")


def train_parser() -> Parser:
    """Arguments of `train`."""
    parser = Parser("train", "Train the network of a bundle by its training configuration.")
    parser.add_argument("--dataset_dir", "--dataset-dir", required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch in OUT")
    add_settings(parser)
    return with_run_options(parser, "folder for checkpoints, curves and logs")


def info_parser() -> Parser:
    """Arguments of `info`."""
    parser = Parser("info", "Show versions, machine, bundles, weights, device and the active scan backend.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return with_common_options(parser)


def add_settings(parser: Parser) -> None:
    """Add the free overrides of a bundle's configuration."""
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="settings of the bundle, such as epochs=2")


def run_fuse(parser: Parser, options: argparse.Namespace) -> int:
    """Fuse what the arguments name; 1 when a case failed."""
    check_fuse_inputs(parser, options)
    from clinicalfmamba_nets.engine.cases import collect_cases, fuse_cases, phantom_case

    output = Path(options.output)
    if options.phantom:
        cases = [phantom_case(output, options.task or "ct_mri")]
    else:
        cases = collect_cases(options.inputs, options.datalist)
    report = fuse_cases(cases, output, options.task, options.device, options.overwrite, tell=tell_case)
    if len(cases) > 1:
        counts = ", ".join(f"{report.count(status)} {status}" for status in ("done", "failed", "skipped"))
        say(f"{len(cases)} cases: {counts}")
    say(f"report   {report.path}")
    failed = report.count("failed")
    if failed and len(cases) > 1:
        return fail(f"{failed} of {len(cases)} cases failed, the first: {report.first_error()}")
    return fail(str(report.first_error())) if failed else 0


def check_fuse_inputs(parser: Parser, options: argparse.Namespace) -> None:
    """Leave with exit code 2 unless exactly one source of pairs is named."""
    sources = [bool(options.inputs), options.datalist is not None, options.phantom]
    if sum(sources) != 1:
        parser.error("expected one of: two images A B, a folder of pairs, --datalist FILE, --phantom")
    if len(options.inputs) > 2:
        parser.error(f"expected two images A B, found {len(options.inputs)}")
    if len(options.inputs) == 1 and not Path(options.inputs[0]).is_dir():
        parser.error(f"expected two images A B or a folder of pairs, found only {options.inputs[0]!r}")
    check_task(parser, options.task)


def check_task(parser: Parser, task: str | None) -> None:
    """Leave with exit code 2 when the bundle does not know the task."""
    from clinicalfmamba_nets.engine.info import bundle_tasks

    if task is not None and task not in (known := bundle_tasks()):
        parser.error(f"task {task!r}: expected one of {', '.join(known)}{nearest(task, known)}")


def tell_case(number: int, total: int, result: Any, seconds: float, notes: Sequence[str], output: Path) -> None:
    """Print what became of one case: lines of its own for a single pair, one line each in a batch."""
    head = f"[{number}/{total}] {result.case}: " if total > 1 else ""
    for note in notes:
        say(f"{head}note: {note}")
    if result.status == "failed":
        if total > 1:
            print(f"{head}failed: {result.error}", file=sys.stderr)
    elif total > 1:
        say(f"{head}{result.status} in {seconds:.1f} s, {output / result.fused}")
    else:
        told = "  (already there; --overwrite fuses again)" if result.status == "skipped" else ""
        say(f"fused    {output / result.fused}{told}\npreview  {output / result.preview}")


def run_evaluate(parser: Parser, options: argparse.Namespace) -> int:
    """Run the bundle's evaluation."""
    from clinicalfmamba_nets.engine.bundles import run_bundle

    overrides = {
        "split": options.split,
        **({"runs": options.run} if options.run else {}),
        **bundle_overrides(parser, options),
    }
    run_bundle("fusion_2d", "inference", ["evaluate"], overrides)
    return 0


def run_train(parser: Parser, options: argparse.Namespace) -> int:
    """Run the bundle's training."""
    from clinicalfmamba_nets.engine.bundles import run_bundle

    run_bundle("fusion_2d", "train", (), {"resume": options.resume, **bundle_overrides(parser, options)})
    return 0


def bundle_overrides(parser: Parser, options: argparse.Namespace) -> dict[str, Any]:
    """Turn arguments into settings of a bundle."""
    check_task(parser, options.task)
    overrides: dict[str, Any] = {"dataset_dir": options.dataset_dir, "output_dir": options.output}
    if options.task:
        overrides["task"] = options.task
    if options.device:
        from clinicalfmamba_nets.engine.fuse import named_device

        overrides["device"] = named_device(options.device)
    for setting in options.settings:
        name, mark, value = setting.partition("=")
        if not mark or not name:
            parser.error(f"expected NAME=VALUE, found {setting!r}")
        try:
            overrides[name] = json.loads(value)
        except ValueError:
            overrides[name] = value
    return overrides


def run_info(parser: Parser, options: argparse.Namespace) -> int:
    """Print what is installed; what needs torch comes last."""
    from clinicalfmamba_nets.engine import info

    facts = info.installation_facts()
    if options.json:
        say(json.dumps({**facts, **info.device_facts()}, indent=2))
    else:
        say(info.installation_text(facts))
        say(info.device_text(info.device_facts()))
    return 0


Command = tuple[Callable[[], Parser], Callable[[Parser, argparse.Namespace], int], str]
COMMANDS: dict[str, Command] = {
    "fuse": (fuse_parser, run_fuse, "fuse a pair, a folder of pairs, a data list or the phantom"),
    "evaluate": (evaluate_parser, run_evaluate, "measure fused test pairs beside the free baselines"),
    "train": (train_parser, run_train, "train the network of a bundle"),
    "info": (info_parser, run_info, "show versions, bundles, weights, device and scan backend"),
}


def overview() -> str:
    """Help of the program as a whole."""
    lines = [f"usage: {PROGRAM} COMMAND ...", "", f"Fuse pairs of medical images with ClinicalFMamba. {NOTICE}", ""]
    lines += [f"  {name:<10} {words}" for name, (_, _, words) in COMMANDS.items()]
    lines += ["", f"{PROGRAM} COMMAND --help tells more; {PROGRAM} --version tells the version."]
    lines += ["Exit codes: 0 done, 1 failed, 2 wrong arguments."]
    return "\n".join(lines)


def say(text: str) -> None:
    """Print at once, so that a log shows what happened before a stop."""
    print(text, flush=True)


def fail(cause: str, code: int = 1) -> int:
    """Print the cause as the last line on stderr and return the exit code."""
    sys.stdout.flush()
    print(f"error: {cause}", file=sys.stderr, flush=True)
    return code


def one_line(error: BaseException) -> str:
    """Tell an error in one line: a user's error as it is, any other with its type."""
    from clinicalfmamba_nets.engine.failures import find_input_error

    known = find_input_error(error)
    if known is not None:
        return str(known)
    words = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {words[:400]}; run again with --debug for the traceback"


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name."""
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        say(overview())
        return 0 if arguments else 2
    if name == "--version":
        say(f"{PROGRAM} {__version__}")
        return 0
    if name not in COMMANDS:
        return fail(f"unknown command {name!r}{nearest(name, COMMANDS)}; see {PROGRAM} --help", 2)
    make_parser, run, _ = COMMANDS[name]
    parser = make_parser()
    return run(parser, parser.parse(arguments[1:]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after the program's name; those of the process by default.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong arguments.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may hold bytes that are no text
    try:
        return dispatch(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return fail("stopped by the user; the same command goes on with the cases that are left")
    except Exception as error:
        if "--debug" in words:
            import traceback

            traceback.print_exc()
        return fail(one_line(error))


def program() -> NoReturn:
    """Entry point of the installed program: a polite stop also for a termination signal."""
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    sys.exit(main())


if __name__ == "__main__":
    program()
