"""Grading of gliomas as an application: study folder -> T2 and FLAIR -> grade as DICOM SR, and a preview."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from grading_operators import GradingOperator, PictureOperator, ReportOperator
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators import DICOMSeriesSelectorOperator
from selection import read_rules
from study_operators import PairOperator, StudyLoaderOperator

from clinicalfmamba_nets.engine.grading.patient import default_model_dir
from clinicalfmamba_nets.engine.grading.runs import training_settings
from clinicalfmamba_nets.errors import input_error

# T2 and FLAIR are told apart by their names where the user gives no rules: their order is not the network's to guess.
RULES = Path(__file__).parent / "rules" / "t2_with_flair.json"


class GradingApp(Application):
    """Grades the glioma of one study by its T2 and FLAIR series, on the whole brain.

    Args:
        options: `input`, `output` (folders), `rules` (file or None), `training` (folder of a training, or None for the
            one that the bundle names), `task` (must be None) and `device` (or None).

    Raises:
        FusionInputError: no trained weights; bad rules; a task.
    """

    def __init__(self, options: Namespace) -> None:
        super().__init__([sys.executable, sys.argv[0]])
        if options.task:
            raise input_error("--task", "none: glioma_grading has no tasks", options.task, "leave it out")
        self.chosen = options
        self.rules = read_rules(options.rules or RULES)
        training_settings((options.training or default_model_dir()) / "model.pt")  # refused before anything is read

    def compose(self) -> None:
        """Connect the operators."""
        chosen = self.chosen
        load = StudyLoaderOperator(self, CountCondition(self, 1), input_folder=chosen.input, name="load")
        select = DICOMSeriesSelectorOperator(self, rules=self.rules, all_matched=True, name="select")
        pair = PairOperator(self, folder=chosen.input, rules=self.rules, name="pair")
        grade = GradingOperator(self, training=chosen.training, device=chosen.device, name="grade")
        report = ReportOperator(self, output_dir=chosen.output, name="report")
        picture = PictureOperator(self, output_dir=chosen.output, name="picture")
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, pair, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(pair, grade, {("case", "case")})
        self.add_flow(grade, report, {("graded", "graded")})
        self.add_flow(grade, picture, {("graded", "graded")})
