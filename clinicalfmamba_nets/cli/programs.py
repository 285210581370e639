"""The command that writes a network as a program for other hosts."""

from __future__ import annotations

import argparse
from pathlib import Path

from clinicalfmamba_nets.cli.arguments import Parser, say
from clinicalfmamba_nets.cli.checks import check_task

GRADING = "grading"


def run_export(parser: Parser, options: argparse.Namespace) -> int:
    """Write the program, and beside it the operators' library where that is asked for."""
    grading = options.task == GRADING
    if grading != bool(options.model_dir):
        parser.error("expected --task grading together with --model_dir DIR, found one of them")
    if grading and (options.portable or options.library):
        parser.error("the program of a grading needs no operators: leave --portable and --library out")
    bundle = None if grading else check_task(parser, options)
    if Path(options.output).is_dir():
        parser.error(f"expected a file behind -o, found the folder {options.output!r}")
    from clinicalfmamba_nets.engine.exporting.loading import read_facts
    from clinicalfmamba_nets.engine.exporting.write import copy_library, export_grading, export_program

    if grading:
        path = export_grading(options.model_dir, options.format, options.output)
    else:
        path = export_program(options.task, options.format, options.output, bundle, options.portable)
    facts = read_facts(path)
    say(f"program  {path}")
    say(f"takes    {facts.input}")
    say(f"gives    {facts.output}")
    if facts.operators_version:
        say(f"needs    the operators' library, version {facts.operators_version}" + _without(facts.format))
    if facts.processor:
        say(f"runs on  processors with {facts.processor}")
    if options.library:
        host = "onnxruntime" if options.format == "onnx" else "torch"
        say(f"library  {copy_library(options.library, host)}")
    return 0


def _without(file_format: str) -> str:
    return " (runs without it too, several times slower)" if file_format == "onnx" else ""
