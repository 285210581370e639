"""One patient of a user: the files, folder or DICOM study that were named, and the bundle's inference run on them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.data.datalists import modality_of
from clinicalfmamba_nets.engine.fusion.inputs import make_folder
from clinicalfmamba_nets.engine.fusion.pipeline import user_errors_alone
from clinicalfmamba_nets.engine.grading.experiment import BUNDLE, CLASSIFIER
from clinicalfmamba_nets.engine.grading.images import is_fused
from clinicalfmamba_nets.engine.grading.lists import Entry, user_case
from clinicalfmamba_nets.engine.grading.log import GRADES
from clinicalfmamba_nets.engine.grading.runs import IMAGE_SETTINGS, fusion_folder, fusion_weights, training_settings
from clinicalfmamba_nets.engine.run.devices import named_device
from clinicalfmamba_nets.engine.run.overrides import check_data, literal
from clinicalfmamba_nets.engine.run.record import RUN_FILE
from clinicalfmamba_nets.engine.run.workflows import find_bundle, open_bundle
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import case_name, image_extension, printable
from clinicalfmamba_nets.io.dicom.choosing import contrast_of
from clinicalfmamba_nets.io.dicom.files import SELECTOR, split_selector
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.dicom.study import open_study

DEFAULT_INPUT = "clinicalfmamba"
_NAME_BOTH = "name both: --series T2 --series FLAIR"


def patient_entry(inputs: Sequence[str], mask: str | None = None, series: Sequence[str] = ()) -> Entry:
    """Turn what a user named into the entry of one patient.

    Args:
        inputs: T2 and FLAIR (NIfTI, NRRD, DICOM folders), or one folder: a patient of BraTS, or a DICOM study.
        mask: tumor mask on the grid of T2; that of a BraTS folder is found by itself.
        series: what chooses the two DICOM series, T2 first; none where the choice is clear.

    Returns:
        As `user_case`.

    Raises:
        FusionInputError: no folder of these kinds, series that cannot be told apart.

    Example:
        >>> patient_entry(["p1_t2.nii.gz", "p1_flair.nii.gz"])["case"]
        'p1_t2'
    """
    if len(inputs) == 2:
        t2, flair = inputs
        name = case_name(split_selector(t2)[0])
        if series:
            t2, flair = (f"{path}{SELECTOR}{chosen}" for path, chosen in zip(inputs, series, strict=True))
        return user_case(t2, flair, mask, name)[0]
    folder = os.path.abspath(inputs[0])
    files = {} if series else _brats_files(folder)
    t2, flair = (files["t2"], files["flair"]) if files else _study_pair(folder, series)
    return user_case(t2, flair, mask or files.get("seg"), case_name(split_selector(folder)[0]))[0]


def _brats_files(folder: str) -> dict[str, str]:
    """Return T2, FLAIR and, where there is one, the mask of a folder as BraTS has them; nothing for another folder."""
    found: dict[str, list[str]] = {"t2": [], "flair": [], "seg": []}
    for item in sorted(Path(folder).iterdir()) if os.path.isdir(folder) else []:
        if image_extension(item) in (".nii", ".nii.gz", ".nrrd") and not item.name.startswith("."):
            kind = "seg" if case_name(item.name).endswith("_seg") else modality_of(item.name)
            found.get(str(kind), []).append(str(item))
    if not (found["t2"] or found["flair"]):
        return {}
    for kind, files in found.items():
        if len(files) != 1 and (files or kind != "seg"):
            expected = f"one image with the word {kind} in its name"
            raise input_error(printable(folder), expected, str(len(files)), "name the files: T2 FLAIR")
    return {kind: files[0] for kind, files in found.items() if files}


def _study_pair(folder: str, series: Sequence[str]) -> tuple[str, str]:
    """Return the T2 and the FLAIR series of a DICOM study, by selectors or by what they are."""
    study = open_study(folder)
    if series:
        first, second = study.pair(series).series
        return study.path_of(first), study.path_of(second)
    rows = [row for row in study.series if row.image and not row.role]
    paths = []
    for contrast in ("T2", "FLAIR"):
        fitting = [row for row in rows if contrast_of(row) == contrast.lower()]
        if len(fitting) != 1:
            found = _names(fitting) if fitting else f"none among {_names(rows) or 'no volumes'}"
            raise input_error(printable(folder), f"one series described as {contrast}", found, _NAME_BOTH)
        paths.append(study.path_of(study.choose(fitting[0].selector)))
    return paths[0], paths[1]


def _names(rows: Sequence[Series]) -> str:
    return "; ".join(row.name for row in rows[:4]) + (f"; and {len(rows) - 4} more" if len(rows) > 4 else "")


def default_model_dir(name: str | None = None) -> Path:
    """Return where the bundle's training puts the first run of an input."""
    return find_bundle(BUNDLE) / "output" / "run1" / (name or DEFAULT_INPUT)


def grade_patient(
    entry: Entry,
    output_dir: str | os.PathLike,
    model_dir: str | os.PathLike | None = None,
    name: str | None = None,
    device: str | None = None,
    register: str = "none",
) -> dict[str, Any]:
    """Grade one patient by the bundle's `inference.json` and a trained classifier; write tables, report and picture.

    The settings that make the images, and the sizes of the networks, are those of the training: the run.json beside the
    weights holds them. The prepared images of the patient are not kept.

    Args:
        entry: see `patient_entry`.
        output_dir: where to; see `GradingLog` and `GradingPreview` for the files.
        model_dir: folder of a training with model.pt, run.json and, for a fused input, `fusion/`.
        name: the input; None for that of the training.
        device: where the networks run; None for the configuration's own choice.
        register: "rigid" to align FLAIR with T2 first.

    Returns:
        What `grades.json` tells about the patient.

    Raises:
        FusionInputError: no trained weights, images that cannot be graded, a folder with another patient's results.
    """
    folder = Path(model_dir) if model_dir is not None else default_model_dir(name)
    trained = _trained(folder / "model.pt", (*IMAGE_SETTINGS, *CLASSIFIER))
    settings = check_data({key: trained[key] for key in (*IMAGE_SETTINGS, *CLASSIFIER)})
    settings |= {"input": name} if name else {}
    fusion = fusion_folder(folder, settings["input"])
    if fusion is not None and is_fused(trained["input"]):
        found = _trained(Path(str(fusion_weights(fusion))))
        own = {key: value for key, value in found.items() if key.startswith(("fusion_", "eh_dran_"))}
        settings |= check_data(own)
    output = make_folder(output_dir)
    _check_output(output, entry["case"])
    named = {"t2": entry["image"], "flair": entry["image2"], "mask": entry.get("seg"), "case": entry["case"]}
    named |= {"model_dir": str(folder), "output_dir": str(output)}
    settings |= {key: literal(text) if text else None for key, text in named.items()} | {"register": register}
    settings |= {"device": named_device(device)} if device else {}
    with tempfile.TemporaryDirectory() as scratch, user_errors_alone():
        opened = open_bundle(BUNDLE, "inference", overrides={**settings, "cache_dir": scratch})
        opened.run()
        opened.finalize()
    return json.loads((output / GRADES).read_text(encoding="utf-8"))["patients"][0]


def _trained(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings of the training of a file of weights, or refuse weights of which nothing tells them."""
    settings = training_settings(path)
    missing = [name for name in needed if name not in settings]
    if settings and missing:
        where, found = printable(path.parent / RUN_FILE), f"none named {missing[0]}"
        remedy = "name the folder of a training by train.json of glioma_grading"
        raise input_error(where, "the settings of a training that grades", found, remedy)
    if not settings:
        where = printable(path.parent / RUN_FILE)
        raise input_error(where, "the settings of the training", "none", "name the whole folder of a training")
    return settings


def _check_output(output: Path, case: str) -> None:
    """Refuse a folder with the results of somebody else."""
    try:
        known = json.loads((output / GRADES).read_text(encoding="utf-8"))["patients"]
    except (OSError, ValueError, KeyError):
        return
    others = [str(row["patient"]) for row in known if row["patient"] != case]
    if others:
        expected, found = f"results of {printable(case)}", f"those of {printable(others[0])}"
        raise input_error(printable(output), expected, found, "name another folder")
