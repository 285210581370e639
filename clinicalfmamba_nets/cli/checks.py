"""Wrong arguments told before anything is loaded: exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.cli.arguments import Parser, nearest

GRADING_INPUTS = ("t2", "flair", "t2_flair", "eh_dran", "clinicalfmamba")


def check_fuse_inputs(parser: Parser, options: argparse.Namespace) -> None:
    """Leave with exit code 2 unless exactly one source of pairs is named."""
    from clinicalfmamba_nets.io.dicom.files import is_dicom

    sources = [bool(options.inputs), options.datalist is not None, options.phantom, options.dicomweb is not None]
    if sum(sources) != 1:
        parser.error("expected one of: two images A B, a folder of pairs, --datalist FILE, --dicomweb URL, --phantom")
    check_archive(parser, options)
    if not all(options.inputs):
        parser.error("expected two images A B, found an empty name")
    if len(options.inputs) > 2:
        parser.error(f"expected two images A B, found {len(options.inputs)}")
    if options.series and (not (options.inputs or options.dicomweb) or len(options.series) != 2):
        parser.error(f"expected --series twice, for A and for B of DICOM inputs, found {len(options.series)}")
    alone = options.inputs[0] if len(options.inputs) == 1 else None
    if alone is not None and not Path(alone).is_dir() and not (Path(alone).is_file() and is_dicom(alone)):
        refuse_packed(parser, alone)
        parser.error(f"expected two images A B or a folder of pairs, found only {alone!r}")
    check_ranges(parser, options)
    check_task(parser, options)


def refuse_packed(parser: Parser, path: str) -> None:
    """Leave with exit code 2 for a study in an archive that is not unpacked here."""
    from clinicalfmamba_nets.io import image_extension
    from clinicalfmamba_nets.io.dicom.archive import other_archive

    packed = "" if image_extension(path) else other_archive(path)
    if packed:
        parser.error(f"{path!r}: expected a folder, a DICOM file or a ZIP archive, found {packed}; unpack it")


def check_archive(parser: Parser, options: argparse.Namespace) -> None:
    """Leave with exit code 2 unless an archive comes with studies, and what is for an archive with one."""
    if options.dicomweb is not None and not options.study:
        parser.error("expected --study UID with --dicomweb URL")
    for name in ("study", "store", "keep_fetched", "dicomweb_header"):
        if getattr(options, name) and options.dicomweb is None:
            parser.error(f"expected --dicomweb URL with --{name.replace('_', '-')}")
    if options.store and options.format not in (None, "dicom"):
        parser.error(f"expected --format dicom with --store, found {options.format}")


def check_windows(parser: Parser, options: argparse.Namespace) -> None:
    """Leave with exit code 2 when a window is none."""
    for asked in filter(None, (options.window_a, options.window_b)):
        from clinicalfmamba_nets.functional.voi import parse_voi

        try:
            parse_voi(asked)
        except ValueError as error:
            parser.error(f"window {asked!r}: expected {error}")


def check_ranges(parser: Parser, options: argparse.Namespace) -> None:
    """Leave with exit code 2 when a window or a palette is none."""
    check_windows(parser, options)
    if options.palette is not None:
        from clinicalfmamba_nets.errors import FusionInputError
        from clinicalfmamba_nets.transforms.palette import palette_name

        try:
            palette_name(options.palette)
        except FusionInputError as error:
            parser.error(str(error))


def check_named_once(parser: Parser, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Leave with exit code 2 where NAME=VALUE names another value than the option that stands for the same setting."""
    for name in options.keys() & settings.keys():
        if options[name] is not None and str(options[name]) != str(settings[name]):
            option = "-o" if name == "output_dir" else f"--{name}"
            parser.error(f"{name}: expected one value, found {option} {options[name]} and {name}={settings[name]}")


def check_task(parser: Parser, options: argparse.Namespace) -> str:
    """Leave with exit code 2 when no bundle, or not the named one, knows the task; return the bundle of the task."""
    from clinicalfmamba_nets.engine.run.tasks import FUSION_BUNDLES, TASKS

    bundle = getattr(options, "bundle", None)  # `score` has none
    if bundle not in (None, *FUSION_BUNDLES):
        names = ", ".join(FUSION_BUNDLES)
        parser.error(f"bundle {bundle!r}: expected one of {names}{nearest(bundle, FUSION_BUNDLES)}")
    known = [name for name, row in TASKS.items() if bundle in (None, *row.bundles)]
    if options.task is not None and options.task not in known:
        near = nearest(str(options.task), known)
        parser.error(f"task {options.task!r}: expected one of {', '.join(known)}{near}")
    return bundle or (TASKS[options.task].bundles if options.task else FUSION_BUNDLES)[0]


def check_grade_inputs(parser: Parser, options: argparse.Namespace) -> None:
    """Leave with exit code 2 unless T2 and FLAIR, or one folder, are named, and an input that is known."""
    if options.mask == "":
        parser.error("expected a file behind --mask, found an empty name")
    if not all(options.inputs) or not 1 <= len(options.inputs) <= 2:
        found = "an empty name" if len(options.inputs) in (1, 2) else len(options.inputs)
        parser.error(f"expected T2 and FLAIR, or one folder, found {found}")
    if len(options.inputs) == 1 and Path(options.inputs[0]).is_file() and not options.series:
        from clinicalfmamba_nets.io.dicom.files import is_dicom

        if not is_dicom(options.inputs[0]):
            refuse_packed(parser, options.inputs[0])
            parser.error(f"expected T2 and FLAIR, found only {options.inputs[0]!r}")
    if options.series and len(options.series) != 2:
        parser.error(f"expected --series twice, for T2 and for FLAIR, found {len(options.series)}")
    if options.input and options.input not in GRADING_INPUTS:
        known = ", ".join(GRADING_INPUTS)
        parser.error(f"input {options.input!r}: expected one of {known}{nearest(options.input, GRADING_INPUTS)}")
