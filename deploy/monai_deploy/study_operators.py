"""Operators that find the series of a study and choose the pair that a network is given, and those that write."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import StudySelectedSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from monai.deploy.operators import DICOMDataLoaderOperator
from selection import PAIR

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import case_name, printable
from clinicalfmamba_nets.io.dicom.header import quiet_pydicom, read_dataset
from clinicalfmamba_nets.io.dicom.opened import OpenedSeries
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.dicom.study import list_series, open_study

LOGGER = "clinicalfmamba.deploy"
_logger = logging.getLogger(LOGGER)
_REMEDY = "give other --rules"


class StudyLoaderOperator(DICOMDataLoaderOperator):
    """Loads a study for the SDK's rules, by headers alone, as the project's own reader understands it.

    The SDK's loader keeps one image for each place and all pixels in memory: the second echo of a series would be
    lost. Here each contrast is a series of its own, whose identifier is what `choose_series` takes.
    """

    def load_data_to_studies(self, input_path: Path) -> list[DICOMStudy]:
        """Return the studies of a folder with all series of images but scouts, reports and this software's results."""
        studies: dict[str, DICOMStudy] = {}
        for row in list_series(input_path):
            if not row.image or row.role:
                _logger.info("left out: %s", row.text())
                continue
            with quiet_pydicom():
                header = _header(row)
            study = studies.setdefault(row.header.study, DICOMStudy(row.header.study))
            self.populate_study_attributes(study, header)
            series = DICOMSeries(row.selector)
            self.populate_series_attributes(series, header)
            series.add_sop_instance(header)
            study.add_series(series)
        return list(studies.values())


def _header(row: Series) -> Any:
    """Return the first header of a series, with what tells its contrast where only a frame of it tells that."""
    header = read_dataset(row.slices[0].path)
    for keyword, value in row.slices[0].contrast.items():
        if keyword not in header and isinstance(value, float):
            setattr(header, keyword, value)
    return header


class PairOperator(Operator):
    """Turns the selected series into a case: exactly one series for each of `image` and `image2`, of one study.

    Args:
        fragment: the application.
        folder: where the study lies.
        rules: the rules that were given to the selector; "" for none.

    Named input:
        study_selected_series_list: what the SDK's selector found.

    Named output:
        case: `case`, and `image` and `image2` as `folder::selector` that bring the opened series: no header is read
            again for them.
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, rules: str, **kwargs: Any) -> None:
        self.folder, self.rules = folder.absolute(), rules
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the ports."""
        spec.input("study_selected_series_list")
        spec.output("case")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Pass the case on; a choice that is not clear, or no volume, ends the run."""
        selected = op_input.receive("study_selected_series_list")
        op_output.emit(self.pair(selected), "case")

    def pair(self, selected: Sequence[StudySelectedSeries]) -> dict[str, str]:
        """Return the case; without rules the choice is that of the command line, see `Study.pair`.

        Raises:
            FusionInputError: none or several series fit a rule, or the one that fits is no volume.
        """
        case = {"case": case_name(self.folder)}
        study = open_study(self.folder)
        rows = study.series
        if not self.rules:
            chosen = study.pair(option="--rules FILE")
            for text in chosen.warnings:
                _logger.warning("%s", text)
            return case | {name: OpenedSeries(study, row) for name, row in zip(PAIR, chosen.series, strict=True)}
        where = printable(self.folder)
        found = [study.series_by_selection_name for study in selected]
        complete = [names for names in found if all(name in names for name in PAIR)]
        if len(complete) != 1:
            told = f"{len(complete)} among {_names(rows)}"
            raise input_error(where, "one study with a series for the rule of each image", told, _REMEDY)
        for name in PAIR:
            fitting = [item.series.get_series_instance_uid() for item in complete[0][name]]
            if len(fitting) > 1:
                told = _names([row for row in rows if row.selector in fitting])
                raise input_error(where, f"one series that fits the rule of {name}", told, _REMEDY)
            case[name] = OpenedSeries(study, study.choose(fitting[0]))
        if case["image"] == case["image2"]:
            raise input_error(where, "two series", f"the same one for both ({case['image']})", _REMEDY)
        return case


def _names(rows: Sequence[Series]) -> str:
    return "; ".join(row.name for row in rows if row.image) or "no images"


class ResultOperator(Operator):
    """Writes a part of a result to the output folder.

    Args:
        fragment: the application.
        output_dir: where results go; made when it is missing.

    Named input:
        `port`: what the operator before it emits.
    """

    port = ""

    def __init__(self, fragment: Fragment, *args: Any, output_dir: Path, **kwargs: Any) -> None:
        self.output_dir = output_dir
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the port."""
        spec.input(self.port)
