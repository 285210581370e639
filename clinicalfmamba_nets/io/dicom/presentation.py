"""Two series shown as one by their viewer: an Advanced Blending Presentation State over the source series.

Source: DICOM PS3.3, A.33.7, C.11.33 and C.11.34; PS3.4, N.2.6 (each input through its window and palette, then
opacity times the first input and the rest of the second). highdicom has the class; what it does not write is added
here: Frame of Reference, geometry of the display, aspect of the pixels, frames, reference to the registration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.dicom.colour import palette_table
from clinicalfmamba_nets.io.dicom.header import Header, Slice, quiet_pydicom
from clinicalfmamba_nets.io.dicom.modules import MODEL, decimal
from clinicalfmamba_nets.io.dicom.objects import image_references, name_body_part, new_object
from clinicalfmamba_nets.io.dicom.registration import registration_object
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.dicom.write import atomic_folder, save_object
from clinicalfmamba_nets.io.files import PathLike

ADVANCED_BLENDING = "1.2.840.10008.5.1.4.1.1.11.8"
STATE_FILE, REGISTRATION_FILE = "PR0001.dcm", "REG0001.dcm"
_NUMBER = 12000  # of the series: that of the first source and this
_LEAST_WIDTH = 1e-6
# What an image has of its own, or, as a character set of several parts, highdicom would not take: it only copies them.
_OWN = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    "SpecificCharacterSet",
)


@dataclass(frozen=True, kw_only=True)
class Blending:
    """How two series are shown together.

    Args:
        windows: least and greatest value that are told apart in each, in their own units (HU, Bq/ml).
        palettes: of each, names of DICOM's well-known palettes or "grey".
        opacity: share of the second series, in [0, 1].
        matrix: 4 x 4, a place of the first volume to that of the same tissue in the second, RAS mm; None where both lie
            as their headers say.
    """

    windows: tuple[tuple[float, float], tuple[float, float]]
    palettes: tuple[str, str] = ("grey", "hot_iron")
    opacity: float = 0.5
    matrix: np.ndarray | None = None


def why_not_blended(first: Series, second: Series, registered: bool = False) -> str:
    """Tell in one clause why two series cannot be shown as one by a presentation state, "" where they can."""
    if not (first.header.study and first.header.study == second.header.study):
        return "the two series belong to different studies"
    if not first.frame_of_reference:
        return f"no FrameOfReferenceUID (0020,0052) in {first.name}"
    if first.frame_of_reference != second.frame_of_reference and not registered:
        return f"another FrameOfReferenceUID (0020,0052) in {second.name} than in {first.name}, or none"
    for series in (first, second):
        headers = series.headers.values()
        if any(header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2") for header in headers):
            return f"{series.name} is in color"
        if any(header.has_lut for header in headers):
            return f"{series.name} has a ModalityLUTSequence (0028,3000)"
        if not (series.header.series and all(item.uid for item in series.slices) and series.header.sop_class):
            return f"images without UID in {series.name}"
    return ""


def write_presentation(path: PathLike, first: Series, second: Series, blending: Blending) -> None:
    """Write what makes a viewer show a second series over a first one, whole or not at all.

    Args:
        path: folder to be written: `PR0001.dcm`, and `REG0001.dcm` where the second series was registered; what this
            software wrote there before is replaced.
        first: the anatomical series, below.
        second: the series that is laid over it.
        blending: windows, palettes, opacity and registration.

    Raises:
        FusionInputError: highdicom is not installed or does not take their headers, or two series that cannot be shown
            as one.

    Example:
        >>> write_presentation("set", mr, ct, Blending(windows=((0, 900), (0, 80))))  # doctest: +SKIP
    """
    reason = why_not_blended(first, second, blending.matrix is not None)
    if reason:
        raise input_error(os.fspath(path), "two series that one state can show", reason, "leave it out")
    require_highdicom()
    with quiet_pydicom():
        registration = None if blending.matrix is None else registration_object(first, second, blending.matrix)
        try:
            state = presentation_state(first, second, blending, registration)
        except (ValueError, TypeError, AttributeError, KeyError) as error:  # highdicom judges what it copies
            found = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            raise input_error(os.fspath(path), "headers that highdicom takes", found, "leave it out") from error
        with atomic_folder(path) as folder:
            save_object(state, folder / STATE_FILE)
            if registration is not None:
                save_object(registration, folder / REGISTRATION_FILE)


def require_highdicom() -> None:
    """Refuse to go on without highdicom.

    Raises:
        FusionInputError: it is not installed; the message tells how to install it.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        remedy = "run `pip install 'clinicalfmamba-nets[dicomweb]'`"
        raise FusionInputError(f"presentation state: expected the package highdicom, found none; {remedy}") from None


def presentation_state(first: Series, second: Series, blending: Blending, registration: Any = None) -> Any:
    """Build the presentation state; see `write_presentation`.

    Args:
        first: the anatomical series.
        second: the series over it.
        blending: how both are shown.
        registration: the registration object of the two, which the state refers to.

    Returns:
        A highdicom object.
    """
    from highdicom import pr

    shown = f"{second.modality} on {first.modality}"
    made = new_object(first, ADVANCED_BLENDING, "PR", _NUMBER, f"blending of {shown}")
    images = [_stand_ins(series, made, first.frame_of_reference) for series in (first, second)]
    inputs = [_input(number, images[number], series, blending) for number, series in enumerate((first, second))]
    display = pr.BlendingDisplay(
        "FOREGROUND", [pr.BlendingDisplayInput(2), pr.BlendingDisplayInput(1)], relative_opacity=blending.opacity
    )
    state = pr.AdvancedBlendingPresentationState(
        [*images[0], *images[1]],
        inputs,
        [display],
        series_instance_uid=made.SeriesInstanceUID,
        series_number=made.SeriesNumber,
        sop_instance_uid=made.SOPInstanceUID,
        instance_number=1,
        manufacturer=made.Manufacturer,
        manufacturer_model_name=made.ManufacturerModelName,
        software_versions=made.SoftwareVersions,
        device_serial_number=MODEL,
        content_label="FUSION",
        content_description=f"{shown}, opacity {blending.opacity:g}, {' and '.join(blending.palettes)}"[:64],
    )
    for element in made:
        if element.keyword not in ("ContentDate", "ContentTime"):  # the state has PresentationCreationDate
            state[element.tag] = copy(element)
    state.FrameOfReferenceUID, state.PositionReferenceIndicator = first.frame_of_reference, None
    name_body_part(state, first)
    _show_geometry(state, first)
    if registration is not None:
        inputs[1].ReferencedSpatialRegistrationSequence = [_reference(registration)]
    return state


def _stand_ins(series: Series, made: Any, space: str) -> list[Any]:
    """Return what highdicom wants to know of each image, in the Frame of Reference of the state."""
    from pydicom.dataset import Dataset

    found = []
    taken = {element.tag: element for element in made if element.keyword not in _OWN}
    for reference in image_references(series):
        image = Dataset(dict(taken))
        image.SOPClassUID = reference.ReferencedSOPClassUID
        image.SOPInstanceUID = reference.ReferencedSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = made.StudyInstanceUID, series.header.series
        image.FrameOfReferenceUID, image.SamplesPerPixel = space, 1
        image.Rows, image.Columns = series.header.rows, series.header.columns
        if series.header.frames > 1:
            image.NumberOfFrames = series.header.frames
        found.append(image)
    return found


def _input(number: int, images: list[Any], series: Series, blending: Blending) -> Any:
    """Build one input of the blending: images, rescale, window and palette."""
    from highdicom import ModalityLUTTransformation, pr

    scales = {_scale(item) for item in series.slices}
    slope, intercept = next(iter(scales)) if len(scales) == 1 else (1.0, 0.0)
    unit = "HU" if series.header.modality == "CT" and len(scales) == 1 else "US"
    rescale = ModalityLUTTransformation(float(decimal(intercept)), float(decimal(slope)), unit)
    windows = list(_windows(series, images, blending.windows[number], len(scales) > 1))
    made = pr.AdvancedBlending(images, number + 1, rescale, windows, _palette(blending.palettes[number]))
    made.ReferencedImageSequence = image_references(series)
    made.GeometryForDisplay = "FALSE" if number else "TRUE"
    return made


def _scale(item: Slice) -> tuple[float, float]:
    return (1.0 if item.slope is None else item.slope, item.intercept or 0.0)


def _windows(series: Series, images: list[Any], limits: tuple[float, float], apart: bool) -> Iterator[Any]:
    """Yield the window of a series; where its slices have rescales of their own, one of stored values for each.

    A presentation state has one rescale for all images of an input, which replaces theirs: then it is that by one.
    """
    from highdicom.pr import SoftcopyVOILUTTransformation

    if not apart:
        yield SoftcopyVOILUTTransformation(*_center_width(*limits), voi_lut_function="LINEAR_EXACT")
        return
    by_uid = {image.SOPInstanceUID: image for image in images}
    groups: dict[tuple[float, float], list[Slice]] = {}
    for item in series.slices:
        groups.setdefault(_scale(item), []).append(item)
    for (slope, intercept), slices in groups.items():
        low, high = ((limit - intercept) / slope for limit in limits)
        for part, images_of in _of_one_kind(slices, series.headers, by_uid):
            yield SoftcopyVOILUTTransformation(
                *_center_width(low, high), voi_lut_function="LINEAR_EXACT", referenced_images=_listed(images_of, part)
            )


def _of_one_kind(
    slices: list[Slice], headers: dict[Path, Header], images: dict[str, Any]
) -> Iterator[tuple[list[int], list[Any]]]:
    """Yield images that one item of a sequence can name: all of one frame, or frames of one image."""
    single = [images[item.uid] for item in slices if headers[item.path].frames == 1]
    if single:
        yield [], single
    frames: dict[str, list[int]] = {}
    for item in slices:
        if headers[item.path].frames > 1:
            frames.setdefault(item.uid, []).append(item.frame + 1)
    for uid, numbers in frames.items():
        yield sorted(numbers), [images[uid]]


def _listed(images: list[Any], frames: list[int]) -> Any:
    from highdicom import ReferencedImageSequence

    return ReferencedImageSequence(images, referenced_frame_number=frames or None)


def _center_width(low: float, high: float) -> tuple[float, float]:
    width = max(high - low, _LEAST_WIDTH)
    return float(decimal((low + high) / 2)), float(decimal(width))


def _palette(name: str) -> Any:
    """Return a palette as highdicom takes it: 256 entries of 16 bits for each color."""
    from highdicom import PaletteColorLUT, PaletteColorLUTTransformation

    table = palette_table(name).astype(np.uint16) * 257
    colors: list[Any] = [
        PaletteColorLUT(0, table[:, place].copy(), color) for place, color in enumerate(("red", "green", "blue"))
    ]
    return PaletteColorLUTTransformation(*colors)


def _show_geometry(state: Any, first: Series) -> None:
    """Tell the true aspect of the pixels of the first series, which highdicom writes as square."""
    across, down = first.spacing[0], first.spacing[1]
    area = state.DisplayedAreaSelectionSequence[0]
    if abs(across - down) > 1e-3 * down:
        del area.PresentationPixelAspectRatio
        area.PresentationPixelSpacing = [decimal(down), decimal(across)]


def _reference(registration: Any) -> Any:
    """Return a reference to an object through its study and series."""
    from pydicom.dataset import Dataset

    study, series, item = Dataset(), Dataset(), Dataset()
    item.ReferencedSOPClassUID = registration.SOPClassUID
    item.ReferencedSOPInstanceUID = registration.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = registration.SeriesInstanceUID, [item]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = registration.StudyInstanceUID, [series]
    return study
