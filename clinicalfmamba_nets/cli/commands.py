"""The command line: `clinicalfmamba COMMAND`. It checks; bundles do the work.

Exit codes: 0 done, 1 failed (in a batch: at least one case failed), 2 wrong arguments. The last line on stderr tells
the cause. Modules are loaded where they are needed, so that help, wrong arguments and the first lines of `info` come
without loading torch.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from clinicalfmamba_nets import __version__
from clinicalfmamba_nets.cli.arguments import PARSERS, PROGRAM, Parser, nearest, overview, say
from clinicalfmamba_nets.cli.checks import check_fuse_inputs, check_grade_inputs
from clinicalfmamba_nets.cli.measuring import run_evaluate, run_score, run_train
from clinicalfmamba_nets.cli.programs import run_export
from clinicalfmamba_nets.engine.run.stopping import raise_until_heard


def run_fuse(parser: Parser, options: argparse.Namespace) -> int:
    """Fuse what the arguments name; 1 when a case failed."""
    check_fuse_inputs(parser, options)
    from clinicalfmamba_nets.engine.fusion.batch import fuse_cases, write_overview
    from clinicalfmamba_nets.engine.fusion.inputs import collect_cases, phantom_case
    from clinicalfmamba_nets.engine.run.processes import process_rank

    output = Path(options.output)
    if options.phantom:
        options.task = options.task or "ct_mri"
        cases: Sequence[Any] = [phantom_case(output, options.task)]
    elif options.dicomweb:
        cases = archive_cases(options, output)
    else:
        cases = collect_cases(options.inputs, options.datalist, options.series or (), options.task or "")
    from clinicalfmamba_nets.engine.fusion.options import FORMATS, FuseOptions

    names = [one.name for one in fields(FuseOptions) if one.name != "output_ext"]
    asked = FuseOptions(output_ext=FORMATS.get(options.format, ""), **{name: getattr(options, name) for name in names})
    listed = [options.datalist] if options.datalist else []
    report = fuse_cases(cases, output, asked, tell_case, listed, tune_memory)
    if process_rank()[0]:
        return int(bool(report.count("failed")))  # the first process tells about all
    sheet: Path | None = None
    if len(cases) > 1:
        counts = ", ".join(f"{report.count(status)} {status}" for status in ("done", "failed", "skipped"))
        say(f"{len(cases)} cases: {counts}")
        sheet = write_overview(report) if len(options.inputs) == 1 or options.scores or options.dicomweb else None
        if sheet:
            say(f"sheet    {sheet}")
    say(f"report   {report.path}")
    lost = write_page(options.output) if options.html else []
    if report.count("done"):
        tell_earlier(output, page=not options.html, sheet=sheet is None)
    if options.dicomweb and options.html and not options.keep_fetched:
        clean_fetched(cases, [result.case for result in report.outputs if result.status != "failed"])
    failed = report.count("failed") + len(lost)
    if failed and len(cases) > 1:
        return fail(f"{failed} of {len(cases)} cases failed, the first: {report.first_error() or lost[0]}")
    return fail(str(report.first_error() or lost[0])) if failed else 0


def tell_earlier(folder: Path, page: bool, sheet: bool) -> None:
    """Tell that the page or the sheet in a folder of results is older than they are."""
    from clinicalfmamba_nets.engine.fusion.batch import CONTACT_SHEET
    from clinicalfmamba_nets.engine.fusion.viewing import PAGE

    if page and (folder / PAGE).is_file():
        say(f"page     {folder / PAGE} shows earlier results; `{PROGRAM} view {folder}` writes it anew")
    if sheet and (folder / CONTACT_SHEET).is_file():
        say(f"sheet    {folder / CONTACT_SHEET} shows earlier results, none of this run; remove it, or change -o")


def write_page(folder: str, anonymous: bool = False, browse: bool = False) -> list[str]:
    """Write and tell the page of a folder of results; return why cases could not be shown."""
    from clinicalfmamba_nets.engine.fusion.viewing import write_view

    files, lost = write_view(folder, anonymous)
    for file in files:
        say(f"page     {file}  ({file.stat().st_size / 2**20:.1f} MiB)")
    if browse:
        import webbrowser

        webbrowser.open(files[0].resolve().as_uri())
    return lost


def run_view(parser: Parser, options: argparse.Namespace) -> int:
    """Write the page of a folder of results; 1 when a case could not be shown."""
    lost = write_page(options.folder, options.anonymous, options.open)
    for text in lost[1:]:
        print(text, file=sys.stderr)
    return fail(lost[0]) if lost else 0


def clean_fetched(cases: Sequence[Any], finished: Sequence[str]) -> None:
    """Remove what was fetched for finished cases, once the page has been written from it."""
    for case in cases:
        if case.name in finished:
            case.remote.clean()


def archive_cases(options: argparse.Namespace, output: Path) -> Sequence[Any]:
    """Return the studies of an archive that the arguments name; secrets come from the environment or a header."""
    from clinicalfmamba_nets.engine.fusion.remote import remote_cases, study_uids
    from clinicalfmamba_nets.io.dicom.web_session import HEADERS_VARIABLE, parse_headers

    lines = os.environ.get(HEADERS_VARIABLE, "").splitlines()
    headers = parse_headers([*lines, *(options.dicomweb_header or ())])
    keep = options.keep_fetched or options.html
    chosen = {"series": options.series or (), "task": options.task or "", "store": options.store, "keep": keep}
    return remote_cases(options.dicomweb, study_uids(options.study), output, headers, **chosen)


def tune_memory() -> None:
    """Let the allocator of this process, which is the program's own, keep large blocks."""
    from clinicalfmamba_nets.ops.native.allocator import tune_allocator

    tune_allocator()


def tell_case(number: int, total: int, result: Any, seconds: float, details: Mapping[str, Any], output: Path) -> None:
    """Print what became of one case: lines of its own for a single pair, one line each in a batch."""
    head = f"[{number}/{total}] {result.case}: " if total > 1 else ""
    for kind in ("note", "warning"):
        for text in details.get(f"{kind}s", ()):
            once = kind == "note" and text in details.get("choices", ())
            say(f"{'' if once else head}{kind}: {text}")
    if details.get("scores_text"):
        say(f"{head}scores: {details['scores_text']}")
    if result.status == "failed":
        if total > 1:
            print(f"{head}failed: {result.error}", file=sys.stderr)
    elif total > 1:
        say(f"{head}{result.status} in {seconds:.1f} s, {output / result.fused}")
    else:
        told = "  (already there; --overwrite fuses again)" if result.status == "skipped" else ""
        say(f"fused    {output / result.fused}{told}")
        if details.get("fused_color"):
            say(f"in color {output / details['fused_color']}")
        if details.get("weights_map"):
            say(f"share of the first image {output / details['weights_map']}")
        if "stored" in details.get("dicomweb", {}):
            say(f"stored   {len(details['dicomweb']['stored'])} objects in {details['dicomweb']['url']}")
        if details.get("presentation"):
            say(f"sources  {output / details['presentation']} (shown as one by a viewer)")
        say(f"preview  {output / result.preview}")


def run_grade(parser: Parser, options: argparse.Namespace) -> int:
    """Grade one patient and tell the outcome."""
    check_grade_inputs(parser, options)
    from clinicalfmamba_nets.engine.grading.log import grade_text
    from clinicalfmamba_nets.engine.grading.patient import grade_patient, patient_entry
    from clinicalfmamba_nets.transforms.notes import split_notes

    entry = patient_entry(options.inputs, options.mask, options.series or ())
    switches = (options.model_dir, options.input, options.device, options.register)
    found = grade_patient(entry, options.output, *switches)
    for kind in ("note", "warning"):
        for text in split_notes(found[f"{kind}s"]):
            say(f"{kind}: {text}")
    say(grade_text(found, options.output))
    return 0


def run_info(parser: Parser, options: argparse.Namespace) -> int:
    """Print what is installed, the series of a DICOM study, or an image; what needs torch comes last."""
    from clinicalfmamba_nets.io import is_dicom

    if options.path and not is_dicom(options.path):
        from clinicalfmamba_nets.io.describe import describe_image, image_text

        described = describe_image(options.path)
        say(json.dumps(described, indent=2) if options.json else image_text(described))
        return 0
    if options.path:
        from clinicalfmamba_nets.io.dicom.study import open_study

        say(open_study(options.path).text())
        return 0
    if options.tasks:
        from clinicalfmamba_nets.engine.run.tasks import TASKS, task_text
        from clinicalfmamba_nets.engine.run.workflows import list_bundles

        text = task_text(folders=list_bundles())
        say(json.dumps([row.as_dict() for row in TASKS.values()], indent=2) if options.json else text)
        return 0
    from clinicalfmamba_nets.engine.run import info

    facts = info.installation_facts()
    if options.json:
        say(json.dumps({**facts, **info.device_facts()}, indent=2))
    else:
        say(info.installation_text(facts))
        say(info.device_text(info.device_facts()))
    return 0


COMMANDS: dict[str, Callable[[Parser, argparse.Namespace], int]] = {
    "fuse": run_fuse,
    "view": run_view,
    "grade": run_grade,
    "evaluate": run_evaluate,
    "score": run_score,
    "train": run_train,
    "export": run_export,
    "info": run_info,
}


def fail(cause: str, code: int = 1) -> int:
    """Print the cause as the last line on stderr and return the exit code."""
    sys.stdout.flush()
    print(f"error: {cause}", file=sys.stderr, flush=True)
    return code


def one_line(error: BaseException) -> str:
    """Tell an error in one line: a user's error as it is, any other with its type."""
    from clinicalfmamba_nets.engine.run.failures import find_input_error

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
    parser = PARSERS[name][0]()
    return COMMANDS[name](parser, parser.parse(arguments[1:]))


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
        return fail("stopped by the user; finished cases and epochs are kept, a training goes on with --resume")
    except Exception as error:
        if "--debug" in words:
            import traceback

            traceback.print_exc()
        return fail(one_line(error))


class Stopped(KeyboardInterrupt):
    """A signal asked the program to stop.

    Python ends by the signal itself, whatever the exit code, once a plain KeyboardInterrupt went through an `eval`,
    and the bundles' expressions are evaluated.
    """


def signals() -> list[int]:
    """Return the signals that ask the program to stop; a terminal that closes does not where nohup said so."""
    closed = getattr(signal, "SIGHUP", None)  # not on Windows
    heard = closed is not None and signal.getsignal(closed) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([closed] if closed is not None and heard else [])]


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal: everything is cleaned up on the way, and a second signal changes nothing."""
    for other in signals():
        signal.signal(other, signal.SIG_IGN)
    raise_until_heard(Stopped())


def wait_briefly() -> None:
    """Let torch's threads sleep sooner where they wait for one another; to be called before torch is loaded.

    GNU OpenMP spins for milliseconds first. Beside another program a thread that is waited for has lost its processor
    meanwhile, at each of hundreds of operations: on two cores, one of them busy, a network took 1.8 s, and takes 0.26 s
    so. Alone it takes as long as before. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def program() -> NoReturn:
    """Entry point of the installed program: a polite stop at SIGINT, SIGTERM and SIGHUP, exit code 1."""
    wait_briefly()
    for number in signals():
        signal.signal(number, stop)
    if sys.argv[1:2] == ["fuse"]:
        from clinicalfmamba_nets.engine.run.monai_on_demand import load_on_demand

        load_on_demand()
    sys.exit(main())


if __name__ == "__main__":
    program()
