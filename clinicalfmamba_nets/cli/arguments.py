"""Arguments of the command line: one parser per command, with errors that end in one line.

argparse is used, not fire: fire takes an unknown option as an attribute to call, and its exit codes are not fixed.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

PROGRAM = "clinicalfmamba"
NOTICE = "Research use only: not a medical device."
_NEGATIVE = re.compile(r"-\.?\d")  # a window such as -1000-2000, or a number, not an option


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that end the output and name the nearest right option."""

    def __init__(self, command: str, usage: Sequence[str], description: str) -> None:
        lines = "\n       ".join(f"{PROGRAM} {command} {words}" for words in usage)
        super().__init__(f"{PROGRAM} {command}", lines, f"{description} {NOTICE}", allow_abbrev=False)
        self._negative_number_matcher = _NEGATIVE

    def error(self, message: str) -> NoReturn:
        """Print usage and the cause, and leave with exit code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse all arguments in any order; a misspelled option is told before one that is missing."""
        for word in itertools.takewhile(lambda word: word != "--", arguments):
            name = word.split("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                self.error(f"unknown option {name}{nearest(name, self._option_string_actions)}")
        found, unknown = self.parse_known_intermixed_args(arguments)
        if getattr(found, "output", None) == "":
            self.error("expected a name behind -o/--output, found an empty one")
        for word in unknown:
            if word.startswith("-"):
                name = word.split("=")[0]
                self.error(f"unknown option {name}{nearest(name, self._option_string_actions)}")
        if unknown:
            self.error(f"unexpected argument {unknown[0]!r}")
        return found


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a question with the known word closest to `word`, or nothing when none is close."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def say(text: str) -> None:
    """Print at once, so that a log shows what happened before a stop."""
    print(text, flush=True)


def with_common_options(parser: Parser) -> Parser:
    """Add the options that every command has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def with_run_options(parser: Parser, output: str) -> Parser:
    """Add the options of the commands that compute."""
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help=output)
    parser.add_argument(
        "--task", help="which images and weights: ct_mri, spect_mri, pet_mri, ..., t2_flair for volumes, generic"
    )
    parser.add_argument("--bundle", help="fusion_2d or fusion_3d; default: by the task")
    parser.add_argument("--device", help="device in torch's words, such as cpu; default: the bundle's own choice")
    return with_common_options(parser)


def add_volume_options(parser: Parser, names: tuple[str, str], choices: str) -> None:
    """Let a user choose the DICOM series of both images, and align the second volume with the first."""
    told = f"DICOM: once for {names[0]}, once for {names[1]}: #row of `info FOLDER`, SeriesNumber, {choices}"
    parser.add_argument("--series", action="append", metavar="CHOICE", help=told)
    told = f"rigid: turn and move volume {names[1]} onto {names[0]} first"
    parser.add_argument("--register", choices=["none", "rigid"], default="none", help=told)


def add_window_options(parser: Parser, of: str = "") -> None:
    """Let a user choose the ranges of both images that are shown."""
    for name in "ab":
        told = f"window of {name.upper()}{of}: a name such as brain, CENTER/WIDTH, LOW..HIGH, p1/p99, header or minmax"
        parser.add_argument(f"--window-{name}", f"--window_{name}", metavar="WINDOW", help=told)


def add_picture_options(parser: Parser) -> None:
    """Let a user choose how values become grey or color, and what is shown and measured."""
    add_window_options(parser)
    told = "write a grey PET or SPECT in color: hot_iron, pet, hot_metal_blue, pet_20_step, ...; grey: no color at all"
    parser.add_argument("--palette", metavar="NAME", help=told)
    told = "with --palette: the colored result beside the grey one (default) or instead of it"
    parser.add_argument("--color", choices=["beside", "instead"], help=told)
    told = "fuse also where B covers little of A"
    parser.add_argument("--allow-partial", "--allow_partial", action="store_true", help=told)
    told = "write <case>_weights as well: the share of A at each pixel, 0 to 1 (PNG: 0 to 255)"
    parser.add_argument("--weights-map", "--weights_map", action="store_true", help=told)
    parser.add_argument("--slices", metavar="CHOICE", help="slices of the preview: 12, 10,14-16, middle or all")
    parser.add_argument("--scores", action="store_true", help="measure the results and print a table")
    parser.add_argument("--html", action="store_true", help="write the interactive page of OUT too, as `view` does")


def add_archive_options(parser: Parser) -> None:
    """Let a user name studies in a DICOMweb archive instead of files."""
    told = "fuse studies of this DICOMweb service; a password or token comes by CLINICALFMAMBA_DICOMWEB_HEADERS"
    parser.add_argument("--dicomweb", metavar="URL", help=told)
    told = "StudyInstanceUID in the archive, or a text file with one in each line; repeat it for more"
    parser.add_argument("--study", action="append", metavar="UID", help=told)
    told = "header of each request, as 'Authorization: Bearer ...'; others on this machine can see it"
    parser.add_argument("--dicomweb-header", "--dicomweb_header", action="append", metavar="HEADER", help=told)
    told = "send the fused series and the presentation state back to the archive"
    parser.add_argument("--store", action="store_true", help=told)
    told = "keep the fetched images in OUT/.dicomweb, which `view` reads; else they go once a study is fused"
    parser.add_argument("--keep-fetched", "--keep_fetched", action="store_true", help=told)


def fuse_parser() -> Parser:
    """Arguments of `fuse`."""
    pairs = ("A B", "FOLDER", "--datalist FILE", "--dicomweb URL --study UID", "--phantom")
    usage = [f"{words} -o OUT [options]" for words in pairs]
    parser = Parser("fuse", usage, "Fuse pairs of images on one grid: A is the anatomical image (MRI), B the other.")
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="A B",
        help="two images, MRI (or T2) first (PNG, JPEG, TIFF, NIfTI, NRRD, MetaImage, MGZ, DICOM folder) or two "
        "folders of images with equal names, or one folder of pairs or DICOM study",
    )
    parser.add_argument("--datalist", metavar="FILE", help="MONAI data list: key testing, entries image, image2, case")
    parser.add_argument("--phantom", action="store_true", help="fuse a head phantom that the program computes itself")
    add_archive_options(parser)
    add_volume_options(parser, ("A", "B"), "UID, modality or EchoTime=11")
    parser.add_argument("--format", choices=["dicom", "nifti", "png"], help="format of the result instead of A's")
    told = "DICOM presentation state that shows both sources as one; auto (default): CT, PET or SPECT over MR"
    parser.add_argument("--presentation", choices=["auto", "always", "never"], default="auto", help=told)
    parser.add_argument("--overwrite", action="store_true", help="fuse again what OUT already holds")
    add_picture_options(parser)
    return with_run_options(parser, "folder for <case>_fused.<ext>, <case>_preview.png and run.json")


def grade_parser() -> Parser:
    """Arguments of `grade`."""
    parser = Parser(
        "grade",
        ["T2 FLAIR -o OUT [options]", "FOLDER -o OUT [options]"],
        "Tell high from low grade of a glioma by T2 and FLAIR, with a classifier that you trained.",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="T2 FLAIR",
        help="two volumes (NIfTI, NRRD, DICOM folder), or one folder: a patient of BraTS or a DICOM study",
    )
    parser.add_argument("--mask", metavar="SEG", help="tumor mask on the grid of T2; without one: the whole brain")
    parser.add_argument(
        "--model_dir", "--model-dir", metavar="DIR", help="folder of a training: model.pt, run.json, fusion/"
    )
    parser.add_argument("--input", metavar="NAME", help="what DIR must be trained on; default: what it was trained on")
    add_volume_options(parser, ("T2", "FLAIR"), "or SeriesDescription=*flair*")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder for tables, report and picture")
    parser.add_argument("--device", help="device in torch's words, such as cpu; default: the bundle's own choice")
    return with_common_options(parser)


def view_parser() -> Parser:
    """Arguments of `view`."""
    usage = ["OUT [options]"]
    words = "Write one HTML file that shows the results in OUT beside their sources, for any browser, offline."
    parser = Parser("view", usage, words)
    parser.add_argument("folder", metavar="OUT", help="a folder that `fuse` wrote to; its sources are read again")
    told = "leave out names, paths, dates, UIDs and the words of headers"
    parser.add_argument("--anonymous", action="store_true", help=told)
    parser.add_argument("--open", action="store_true", help="open the page in the browser of this machine")
    return with_common_options(parser)


def evaluate_parser() -> Parser:
    """Arguments of `evaluate`."""
    parser = Parser(
        "evaluate",
        ["(--dataset_dir DIR | --datalist FILE) -o OUT [options] [NAME=VALUE ...]"],
        "Measure fused test pairs, beside the free baselines on the same pairs.",
    )
    add_data(parser)
    told = "fused images of another program beside ours, found as by `score`; repeat it for each"
    parser.add_argument("--fused", action="append", metavar="NAME=FOLDER", help=told)
    parser.add_argument("--split", help="test lists: case3 (default of images), random3 or mydatasets, or a list file")
    parser.add_argument(
        "--run",
        action="append",
        metavar="RUN",
        help="run of the split (default run1); repeat it with weights for each run",
    )
    told = "configuration of a comparison network whose weights `ckpt_path` names, such as peers/swin_fusion"
    parser.add_argument("--overlay", action="append", default=[], metavar="NAME", help=told)
    add_settings(parser, "ckpt_path=run/model.pt")
    return with_run_options(parser, "folder for the tables (CSV, JSON) and pictures (PNG)")


def score_parser() -> Parser:
    """Arguments of `score`."""
    usage = ["FOLDER ... --pairs LIST [-o OUT] [options]", "NAME=FOLDER ... --pairs LIST [-o OUT] [options]"]
    parser = Parser("score", usage, "Score fused images of any program against their sources, several side by side.")
    told = "folder of fused images (PNG, NIfTI, DICOM; 8 or 16 bit; grey or color), as NAME=FOLDER to name the method"
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help=told)
    told = "data list of the sources (JSON; an entry may name its `fused` image), or a folder of pairs"
    parser.add_argument("--pairs", required=True, metavar="LIST", help=told)
    parser.add_argument("-o", "--output", default="scores", metavar="OUT", help="folder for the results: scores")
    told = "names of the fused images, such as {case}_fused.png; also {image} and {image2}, names of the sources"
    parser.add_argument("--rule", metavar="NAME", help=told)
    told = "ours: all metrics; paper: ClinicalFMamba's columns; cddfuse: SSIM, VIF and MI summed as CDDFuse does"
    parser.add_argument("--convention", choices=["ours", "paper", "cddfuse"], default="ours", help=told)
    parser.add_argument("--metrics", metavar="NAMES", help="metrics of --convention ours, with commas; default: all")
    parser.add_argument("--task", default="ct_mri", help="what the pairs are: ct_mri (default), spect_mri, ...")
    parser.add_argument("--baselines", action="store_true", help="score the free baselines on the same pairs as well")
    parser.add_argument("--range", type=float, metavar="WHITE", help="value of the fused images that counts as white")
    add_window_options(parser, ", of volumes, as they were fused")
    return with_common_options(parser)


def train_parser() -> Parser:
    """Arguments of `train`."""
    parser = Parser(
        "train",
        ["(--dataset_dir DIR | --datalist FILE) -o OUT [options] [NAME=VALUE ...]"],
        "Train the network of a bundle by its training configuration.",
    )
    add_data(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch in OUT")
    told = "configuration laid over train.json, such as published_train or peers/swin_fusion; repeat it for several"
    parser.add_argument("--overlay", action="append", default=[], metavar="NAME", help=told)
    add_settings(parser)
    return with_run_options(parser, "folder for checkpoints, curves and logs")


def export_parser() -> Parser:
    """Arguments of `export`."""
    usage = ["--task TASK --format FORMAT -o FILE [options]", "--task grading --model_dir DIR --format FORMAT -o FILE"]
    parser = Parser("export", usage, "Write a network with its weights as a program that runs without this package.")
    told = "ts: TorchScript; pt2: torch.export; aoti: compiled for this kind of processor; onnx: ONNX"
    parser.add_argument("--format", choices=["ts", "pt2", "aoti", "onnx"], required=True, help=told)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the program")
    parser.add_argument("--task", default="ct_mri", help="ct_mri (default), spect_mri, ..., or grading")
    parser.add_argument("--bundle", help="fusion_2d or fusion_3d; default: by the task")
    told = "torch's own operations alone (ts, pt2): slower, for hosts that cannot load a library"
    parser.add_argument("--portable", action="store_true", help=told)
    told = "also copy the operators' library there, for hosts without this package"
    parser.add_argument("--library", metavar="DIR", help=told)
    parser.add_argument("--model_dir", "--model-dir", metavar="DIR", help="of grading: folder of a training")
    return with_common_options(parser)


def info_parser() -> Parser:
    """Arguments of `info`."""
    parser = Parser(
        "info",
        ["[--json]", "--tasks [--json]", "FOLDER", "IMAGE [--json]"],
        "Show versions, machine, bundles, weights, device and scan backend, the series of a DICOM study, or an image.",
    )
    parser.add_argument(
        "path", nargs="?", metavar="PATH", help="list the series of a DICOM folder or DICOMDIR, or describe an image"
    )
    parser.add_argument("--tasks", action="store_true", help="list the tasks with their images, bundles and weights")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return with_common_options(parser)


def add_data(parser: Parser) -> None:
    """Let a user name the images by a folder or by a list."""
    parser.add_argument("--dataset_dir", "--dataset-dir", metavar="DIR", help="folder of the data set")
    parser.add_argument("--datalist", metavar="FILE", help="data list instead: keys training, testing")


def add_settings(parser: Parser, example: str = "epochs=2") -> None:
    """Add the free overrides of a bundle's configuration."""
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help=f"settings of the bundle, such as {example}")


PARSERS: dict[str, tuple[Callable[[], Parser], str]] = {
    "fuse": (fuse_parser, "fuse a pair, a folder of pairs, a data list or the phantom"),
    "view": (view_parser, "write an interactive page of results for a browser"),
    "grade": (grade_parser, "grade the glioma of one patient by T2 and FLAIR"),
    "evaluate": (evaluate_parser, "measure fused test pairs beside the free baselines"),
    "score": (score_parser, "score folders of fused images of any program"),
    "train": (train_parser, "train the network of a bundle"),
    "export": (export_parser, "write a network as a program for C++, torch or ONNX Runtime"),
    "info": (info_parser, "show versions, bundles, weights, device and scan backend"),
}


def overview() -> str:
    """Help of the program as a whole."""
    lines = [f"usage: {PROGRAM} COMMAND ...", "", f"Fuse pairs of medical images with ClinicalFMamba. {NOTICE}", ""]
    lines += [f"  {name:<10} {words}" for name, (_, words) in PARSERS.items()]
    lines += ["", f"{PROGRAM} COMMAND --help tells more; {PROGRAM} --version tells the version."]
    lines += ["Exit codes: 0 done, 1 failed, 2 wrong arguments."]
    return "\n".join(lines)
