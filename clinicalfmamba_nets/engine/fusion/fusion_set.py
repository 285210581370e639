"""What makes a viewer show the two sources of a case as one: a presentation state and its registration."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clinicalfmamba_nets.engine.fusion.case import Case
from clinicalfmamba_nets.engine.fusion.results import set_name
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.transform_file import transform_matrix
from clinicalfmamba_nets.transforms.palette import shown_palette
from clinicalfmamba_nets.transforms.restore import CURVE_KEY, SCALE_KEY

PRESENTATION = ("auto", "always", "never")
_BY_DEFAULT = ("CT", "PT", "NM")  # over MR


def write_fusion_set(
    sample: Mapping[str, Any], case: Case, folder: Path, asked: str, series: bool, results: Path
) -> list[str]:
    """Write the presentation state of a case, and the registration where it was registered, into a folder of their own.

    Args:
        sample: what `FusionPipeline` gave for the case.
        case: the case, its images in the order in which they were fused.
        folder: where the folder is made, see `set_name`.
        asked: "auto" writes them for CT, PET or SPECT over MR where the result is a DICOM series, and only where that
            can be; "always" refuses what it cannot write; "never" writes none.
        series: whether the result is a DICOM series.
        results: the folder that the set is moved to, in which nothing else is replaced.

    Returns:
        Notes: what was written, or why "auto" has written none.

    Raises:
        FusionInputError: "always", and the set cannot be.
    """
    from clinicalfmamba_nets.io.dicom.presentation import write_presentation
    from clinicalfmamba_nets.io.dicom.write import check_replaceable

    if asked == "never":
        return []
    dicom = case.second is not None and all(source.is_series for source in case.sources)
    if asked == "auto" and not (dicom and series and _is_default(case)):
        return []
    if not dicom or case.second is None:
        found = "images of another kind"
        raise input_error(case.name, "two DICOM series for a presentation state", found, "leave out --presentation")
    first, second = case.first.series, case.second.series
    try:
        check_replaceable(results / set_name(case.name))
        blending = blending_of(sample["image"].meta)
        write_presentation(folder / set_name(case.name), first, second, blending)
    except FusionInputError as error:
        if asked == "always":
            raise
        reason = str(error).removeprefix(f"{folder / set_name(case.name)}: ")  # a hidden folder, moved or removed later
        return [f"no presentation state: {reason}"]
    meta, told = sample["image"].meta, []
    if CURVE_KEY in meta:
        told.append("the presentation state has a straight window from end to end in place of the curve head")
    return told


def drop_fusion_set(case: Case, results: Path) -> None:
    """Remove the presentation state of an earlier result of a case, which a new one without any has replaced."""
    from clinicalfmamba_nets.io.dicom.presentation import STATE_FILE
    from clinicalfmamba_nets.io.dicom.write import check_replaceable

    place = results / set_name(case.name)
    if (place / STATE_FILE).is_file():
        with contextlib.suppress(FusionInputError):  # another one's folder stays
            check_replaceable(place)
            shutil.rmtree(place)


def _is_default(case: Case) -> bool:
    modalities = [source.modality for source in case.sources]
    return modalities[0] == "MR" and modalities[1] in _BY_DEFAULT


def blending_of(meta: Mapping[str, Any]) -> Any:
    """Return how a pair was seen by the network as a `Blending`: its windows, palette and registration.

    Args:
        meta: of the pair, as the bundle's preprocessing left it.
    """
    from clinicalfmamba_nets.io.dicom.presentation import Blending

    limits = torch.as_tensor(meta[SCALE_KEY]).tolist()
    registration = str(meta.get("registration") or "")
    return Blending(
        windows=((limits[0][0], limits[0][1]), (limits[1][0], limits[1][1])),
        palettes=("grey", shown_palette(meta)),
        matrix=transform_matrix(registration) if registration else None,
    )
