"""Operators that grade the glioma of a pair and write what was found."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec
from study_operators import LOGGER, ResultOperator

from clinicalfmamba_nets.engine.fusion.inputs import make_folder
from clinicalfmamba_nets.engine.grading.experiment import BUNDLE
from clinicalfmamba_nets.engine.grading.lists import user_case
from clinicalfmamba_nets.engine.grading.log import GRADES
from clinicalfmamba_nets.engine.grading.patient import grade_patient
from clinicalfmamba_nets.io import atomic_file
from clinicalfmamba_nets.io.dicom.report import COMMENT, Concept, own_concept, write_report
from clinicalfmamba_nets.io.dicom.write import source_series
from clinicalfmamba_nets.transforms.notes import split_notes

_logger = logging.getLogger(LOGGER)
TITLE = own_concept("GLIOMA_GRADING", "Grading of a glioma by software")
CONTRASTS = {"image": "T2", "image2": "FLAIR"}


class GradingOperator(Operator):
    """Grades a pair by the bundle `glioma_grading` with the user's weights, as `clinicalfmamba grade` does.

    The SDK's own bundle operator writes the wrong class for a classifier, and gives the network the images without
    what the bundle does to them: fusion, region, slices.

    Args:
        fragment: the application.
        training: folder of a training; None for the one that the bundle names.
        device: where the networks run; None for the bundle's own choice.

    Named input:
        case: `case`, `image` (T2), `image2` (FLAIR).

    Named output:
        graded: `case` as received; `about`, what `grades.json` tells of the run; `patient`, what it tells of the
            patient; and `preview`, the content of a PNG file.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, training: Path | None, device: str | None, **kwargs: Any
    ) -> None:
        self.training, self.device = training, device
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the ports."""
        spec.input("case")
        spec.output("graded")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Grade one case."""
        case = op_input.receive("case")
        _logger.info("%s: T2 %s, FLAIR %s", case["case"], case["image"], case["image2"])
        (entry,) = user_case(case["image"], case["image2"], case=case["case"])
        with tempfile.TemporaryDirectory() as place:
            patient = grade_patient(entry, place, self.training, device=self.device)
            about = json.loads(Path(place, GRADES).read_text(encoding="utf-8"))
            preview = Path(place, f"{case['case']}_preview.png").read_bytes()
        for text in split_notes(patient["notes"]):
            _logger.info("note: %s", text)
        for text in split_notes(patient["warnings"]):
            _logger.warning("%s", text)
        op_output.emit({"case": case, "about": about, "patient": patient, "preview": preview}, "graded")


def _told(patient: Mapping[str, Any]) -> list[str]:
    return [*split_notes(patient["warnings"]), *split_notes(patient["notes"])]


class ReportOperator(ResultOperator):
    """Writes grade and probability as a DICOM Basic Text SR of the study, `<case>_grade.dcm`.

    The SDK's own text writer lists none of the images that a result is from, and may leave half a file.
    """

    port = "graded"

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write one document."""
        graded = op_input.receive(self.port)
        case, patient = graded["case"], graded["patient"]
        path = make_folder(self.output_dir) / f"{case['case']}_grade.dcm"
        items = [(COMMENT, graded["about"]["notice"]), *_findings(patient), _method(graded["about"])]
        for key, name in CONTRASTS.items():
            series = source_series(case[key], path)
            told = f"{series.name}, UID {series.header.series}"
            items.append((own_concept(f"SOURCE_{name}", f"{name} series"), told))
        items += [(COMMENT, text) for text in _told(patient)]
        model = " ".join(graded["about"]["weights"].values())
        write_report(path, TITLE, items, [case[key] for key in CONTRASTS], model)
        _logger.info("%s grade, probability of high grade %.3f: %s", patient["grade"], patient["probability"], path)


def _findings(patient: Mapping[str, Any]) -> list[tuple[Concept, str]]:
    """Return what was found, as items of a document; numbers with all digits of a float32."""
    return [
        (own_concept("GRADE", "Grade of glioma"), f"{patient['grade']} grade"),
        (own_concept("PROBABILITY", "Probability of high grade, mean of slices"), f"{patient['probability']:.7g}"),
        (own_concept("GREATEST", "Greatest probability of a slice"), f"{patient['greatest']:.7g}"),
        (own_concept("SLICES", "Number of slices"), f"{len(patient['slices'])}"),
        (own_concept("REGION", "Region that was graded"), patient["region"]),
    ]


def _method(about: Mapping[str, Any]) -> tuple[Concept, str]:
    settings, weights = about["settings"], " and ".join(about["weights"].values())
    text = f"bundle {BUNDLE} of version {about['version']} in {settings['spatial_dims']}D, input {settings['input']}"
    return own_concept("METHOD", "Method"), f"{text}, weights of SHA-256 {weights}"


class PictureOperator(ResultOperator):
    """Writes the picture of the image that counted most, and where the network looked, `<case>_preview.png`."""

    port = "graded"

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write one picture."""
        graded = op_input.receive(self.port)
        path = make_folder(self.output_dir) / f"{graded['case']['case']}_preview.png"
        with atomic_file(path) as partial:
            partial.write_bytes(graded["preview"])
        _logger.info("preview  %s", path)
