"""Grading of a glioma as an inference task of MONAI Label: a classifier."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType

from clinicalfmamba_nets.engine.grading.lists import user_case
from clinicalfmamba_nets.engine.grading.log import GRADES
from clinicalfmamba_nets.engine.grading.patient import grade_patient
from clinicalfmamba_nets.io import write_image
from clinicalfmamba_nets.transforms import LoadImagePair
from clinicalfmamba_nets.transforms.notes import split_notes
from lib.pairs import PairTask, device_of

_logger = logging.getLogger(__name__)
LABELS = {"low": 0, "high": 1}
CASE = "patient"


class GradingTask(PairTask):
    """Grades the glioma of the T2 (first) and FLAIR (second) volume of a request, on the whole brain.

    The result is a picture of the image that counted most; label and scores are told beside it. The bundle has no
    weights of its own: the task is served without them too, so that it can tell how to train.

    Args:
        bundle: name of the bundle.
        image_uri: see `PairTask`.
        conf: settings of the app: `grading_model`, the folder of a training; without it the one that the bundle names.
    """

    def __init__(self, bundle: str, image_uri: Callable[[str], str], conf: Mapping[str, str]) -> None:
        self.model_dir = conf.get("grading_model") or None
        super().__init__(bundle, image_uri, InferType.CLASSIFICATION, LABELS, 3, {})

    def is_valid(self) -> bool:
        """Tell that the task can be asked: what it lacks is told to whoever asks."""
        return True

    def answer(self, request: Mapping[str, Any], pair: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """Grade the patient of a request; see `PairTask.answer`."""
        with tempfile.TemporaryDirectory() as place:
            t2, flair = (pair["image"], pair["image2"]) if pair["image2"] else _unstacked(pair["image"], Path(place))
            (entry,) = user_case(t2, flair, case=CASE)
            out = Path(place, "out")
            found = grade_patient(entry, out, self.model_dir, device=device_of(request))
            about = json.loads((out / GRADES).read_text(encoding="utf-8"))
            picture = Path(tempfile.gettempdir()) / f"{uuid.uuid4().hex}_graded.png"
            shutil.move(out / f"{CASE}_preview.png", picture)
        _logger.info("%s: %s grade, probability of high grade %.3f", self.bundle, found["grade"], found["probability"])
        scores = {"low": 1 - found["probability"], "high": found["probability"]}
        return str(picture), {
            "label": found["grade"],
            "prediction": [{"idx": idx, "label": name, "score": scores[name]} for name, idx in LABELS.items()],
            "probability_of_high_grade": found["probability"],
            "greatest_of_slices": found["greatest"],
            "slices": len(found["slices"]),
            "region": found["region"],
            "input": about["settings"]["input"],
            "weights_sha256": list(about["weights"].values()),
            "notice": about["notice"],
            "notes": [*split_notes(found["warnings"]), *split_notes(found["notes"])],
        }


def _unstacked(image: str, folder: Path) -> tuple[str, str]:
    """Write both images of one stacked file as files of their own."""
    pair, _ = LoadImagePair(chroma="never")(image)
    names = []
    for channel in pair:
        names.append(str(folder / f"{len(names)}.nii.gz"))
        write_image(names[-1], channel.numpy(), affine=pair.affine.numpy())
    return names[0], names[1]
