"""Fusion as an application: study folder -> two series -> fused series in DICOM, a preview and a page."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from fusion_operators import FusionOperator, PageOperator, PreviewOperator, SeriesWriterOperator
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators import DICOMSeriesSelectorOperator
from selection import read_rules
from study_operators import PairOperator, StudyLoaderOperator

from clinicalfmamba_nets.engine.fusion.options import BUNDLE_SETTINGS
from clinicalfmamba_nets.errors import input_error


class FusionApp(Application):
    """Fuses two series of one study with a bundle.

    Args:
        options: `input`, `output` (folders), `bundle`, `rules` (file or None), `task` and `device` (or None), and the
            settings of the bundle that `BUNDLE_SETTINGS` names (or None), which `settings` of the rules may hold too.
    """

    def __init__(self, options: Namespace) -> None:
        super().__init__([sys.executable, sys.argv[0]])
        self.chosen = options
        self.rules = read_rules(options.rules) if options.rules else ""

    def settings(self) -> dict[str, Any]:
        """Return the settings of the bundle: of the rules, then of the arguments."""
        given = json.loads(self.rules).get("settings", {}) if self.rules else {}
        if not isinstance(given, dict) or not set(given) <= set(BUNDLE_SETTINGS):
            found, remedy = repr(given), "correct the rules"
            raise input_error("settings of the rules", f"values of {', '.join(BUNDLE_SETTINGS)}", found, remedy)
        asked = {name: getattr(self.chosen, name, None) for name in BUNDLE_SETTINGS}
        return given | {name: value for name, value in asked.items() if value}

    def compose(self) -> None:
        """Connect the operators."""
        chosen = self.chosen
        load = StudyLoaderOperator(self, CountCondition(self, 1), input_folder=chosen.input, name="load")
        select = DICOMSeriesSelectorOperator(self, rules=self.rules, all_matched=True, name="select")
        pair = PairOperator(self, folder=chosen.input, rules=self.rules, name="pair")
        fuse = FusionOperator(
            self, bundle=chosen.bundle, task=chosen.task, device=chosen.device, settings=self.settings(), name="fuse"
        )
        write = SeriesWriterOperator(self, output_dir=chosen.output, name="write")
        preview = PreviewOperator(self, output_dir=chosen.output, name="preview")
        page = PageOperator(self, output_dir=chosen.output, name="page")
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, pair, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(pair, fuse, {("case", "case")})
        self.add_flow(fuse, write, {("fused", "fused")})
        self.add_flow(fuse, preview, {("fused", "fused")})
        self.add_flow(fuse, page, {("fused", "fused")})
