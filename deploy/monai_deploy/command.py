"""The command line of the applications: what is chosen before the SDK starts, and how a run ends."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fusion_app import FusionApp
from grading_app import GradingApp
from study_operators import LOGGER

from clinicalfmamba_nets.engine.grading.experiment import BUNDLE
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import printable

# The application that serves each bundle.
APPS = {"fusion_2d": FusionApp, "fusion_3d": FusionApp, BUNDLE: GradingApp}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; paths left out come from the SDK's environment variables, as in a container."""
    parser = argparse.ArgumentParser(
        prog="monai_deploy",
        description="Fuse two series of a DICOM study, or grade a glioma by T2 and FLAIR. "
        "Research only; not for diagnosis.",
    )
    folder = os.environ.get
    parser.add_argument("-i", "--input", type=Path, default=folder("HOLOSCAN_INPUT_PATH", "input"), help="the study")
    parser.add_argument("-o", "--output", type=Path, default=folder("HOLOSCAN_OUTPUT_PATH", "output"), help="results")
    told = "folder of the bundles; for glioma_grading also that of a training, with its model.pt"
    parser.add_argument("-m", "--model", type=Path, default=folder("HOLOSCAN_MODEL_PATH"), help=told)
    default = "default: %(default)s"
    parser.add_argument("--app", "--bundle", dest="bundle", choices=list(APPS), default="fusion_2d", help=default)
    parser.add_argument("--rules", type=Path, help="JSON file of the SDK's selection rules; see rules/")
    parser.add_argument("--task", help="task of a fusion bundle; chosen by the modality of image2 where left out")
    for name in ("window-a", "window-b", "palette"):
        parser.add_argument(f"--{name}", help=f"as in `clinicalfmamba fuse --{name}`")
    parser.add_argument("--color", choices=["beside", "instead"], help="as in `clinicalfmamba fuse --color`")
    parser.add_argument("--allow-partial", action="store_true", help="fuse also where image2 covers little of image")
    parser.add_argument("--device", help="such as cpu; the bundle's own choice where left out")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run an application and return its exit code: 0 done, 1 failed; 2, wrong arguments, is argparse's."""
    options = parse(arguments)
    options.training = None
    if options.model and options.bundle == BUNDLE and not any(options.model.glob("*/configs/metadata.json")):
        options.training = options.model
    elif options.model:
        os.environ["CLINICALFMAMBA_BUNDLES"] = str(options.model)
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "ERROR")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger(LOGGER).setLevel(logging.INFO)
    try:
        if not options.input.is_dir():
            raise input_error(printable(options.input), "the folder of a study", "no such folder", "name one by -i")
        APPS[options.bundle](options).run()
    except FusionInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
