"""The second image of a pair brought to the place and the grid of the first."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.spatial import match_grids, resample
from clinicalfmamba_nets.spatial.grids import PATIENT
from clinicalfmamba_nets.transforms.coverage import check_coverage, covered_share
from clinicalfmamba_nets.transforms.identity import check_patient, compare_times
from clinicalfmamba_nets.transforms.names import is_named_fused
from clinicalfmamba_nets.transforms.sources import Source

OTHER_GRID = ("refuse", "resample")
REGISTER = ("none", "rigid")
_EIGHT_BITS = 1 / 254  # part of white that rounding to 8 bits may change


@dataclass
class Placement:
    """What was done to the second image.

    Attributes:
        notes: in words.
        transform: text of an ITK transform file, "" for none.
        covered: where the second image covers the first, bool, None for everywhere.
        warnings: what changes the meaning of the picture.
    """

    notes: list[str] = field(default_factory=list)
    transform: str = ""
    covered: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Share of the first image's grid that the second one covers."""
        return covered_share(self.covered)


def put_on_grid(
    first: Source, second: Source, other_grid: str = "refuse", register: str = "none", allow_partial: bool = False
) -> Placement:
    """Put the second image on the grid of the first, in place.

    Where it does not reach, it repeats the values of its edge, which are no result of the scanner: the placement tells
    where.

    Args:
        first: the image whose grid counts.
        second: the other one; its pixels and affine are replaced.
        other_grid: "refuse" or "resample" a volume on another grid whose affine is trusted.
        register: "rigid" to align the volumes first (and then to interpolate where needed), else "none".
        allow_partial: accept a second image that covers less than a quarter of the first.

    Raises:
        FusionInputError: the two do not lie on one grid, or not in one space, and this must not be mended; or
            registration finds that they do not belong together.
    """
    for source in (first, second):
        source.warnings += _check_fused(source)
    told_times, late = compare_times(first, second)
    twice = _check_two(first, second)
    warnings = [*check_patient(first, second), *late, *twice]
    _check_orders(first, second)
    if register == "rigid":
        told, doubts, transform = _register(first, second)
        warnings += doubts
    else:
        told, transform = [], ""
        _check_space(first, second)
        warnings += _check_template(first, second)
    note, covered = _interpolated(first, second, other_grid == "resample" or register == "rigid")
    warnings += [] if twice else _check_two(first, second)  # also where one is stored in another order
    covered = _without_padding(covered, second)
    told = [*told_times, *told, *filter(None, [note])]
    warnings += check_coverage(first, second, covered, allow_partial)
    return Placement(told, transform, covered, warnings)


def _check_fused(source: Source) -> list[str]:
    """Warn of an earlier result that is given as a source: it shows both images already."""
    if not source.fused and not is_named_fused(source.path):
        return []
    by = "header" if source.fused else "name"
    return [f"a fused image by its {by}, which shows two images already: name the image of the scanner"]


def _check_two(first: Source, second: Source) -> list[str]:
    """Warn of one image that is named twice, or of a copy of it, also in another type."""
    if first.modality != second.modality or not _same_picture(first.array, second.array):  # two by their headers
        return []
    return [f"the same pixels as {first.name}: one image is fused with itself; name the other one"]


def _same_picture(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two arrays hold the same values, or the same shares of white in two types: 8 bits, 16, [0, 1]."""
    if one.shape != other.shape or one.min() == one.max():  # nothing to tell them by
        return False
    if one.dtype == other.dtype:
        return np.array_equal(one, other)
    planes = list(zip(one, other, strict=True))  # one by one, for the memory; the first that differs ends it
    if all(np.allclose(a, b, rtol=1e-6, atol=0) for a, b in planes):
        return True
    whites = _white(one), _white(other)
    if not all(whites):
        return False
    return all(np.abs(a / whites[0] - b / whites[1]).max() <= _EIGHT_BITS for a, b in planes)


def _white(array: np.ndarray) -> float:
    """Return the value of white in a picture, 0 where the type and the values do not tell."""
    if array.dtype.kind == "u":
        return float(np.iinfo(array.dtype).max)
    return 1.0 if array.dtype.kind == "f" and array.min() >= 0 and 0.5 < array.max() <= 1 else 0.0


def _check_orders(first: Source, second: Source) -> None:
    """Refuse a DICOM series beside an image without a place: the orders in which they are stored differ."""
    for one, other in ((first, second), (second, first)):
        if one.kind == "dicom" and other.affine is not None and other.coordinates != PATIENT:
            found = "none in its header, and another order of storage"
            remedy = "write its orientation into its header, or convert the DICOM series by the same program"
            raise input_error(other.name, f"a place in space as {one.name}", found, remedy)


def _check_space(first: Source, second: Source) -> None:
    if first.frame_of_reference and second.frame_of_reference and first.frame_of_reference != second.frame_of_reference:
        expected = f"the FrameOfReferenceUID (0020,0052) of {first.name}, {first.frame_of_reference},"
        raise input_error(
            second.name, expected, second.frame_of_reference, "register the two series first (register: rigid)"
        )


def _check_template(first: Source, second: Source) -> list[str]:
    """Warn where one image lies in the space of a template and the other in that of its scanner, on another grid."""
    spaces = ["scanner" if source.kind == "dicom" else source.space for source in (first, second)]
    if set(spaces) != {"template", "scanner"} or first.affine is None or second.affine is None:
        return []
    if first.array.shape[:3] == second.array.shape[:3] and np.allclose(first.affine, second.affine, atol=1e-2):
        return []  # put on one grid by a program that did not copy the code
    told = "one image lies in the space of a template (sform_code 3 or 4), the other in that of its scanner"
    return [f"{told}: their places do not compare; bring both into one space first, or register them (register: rigid)"]


def _register(first: Source, second: Source) -> tuple[list[str], list[str], str]:
    """Move the affine of the second volume to where its tissue lies in the first."""
    from clinicalfmamba_nets.spatial.registration import register_rigid

    moving = second.array.mean(axis=-1) if second.color else second.array
    for source, array in ((first, first.array), (second, moving)):
        lost = source.affine is None or source.coordinates != PATIENT  # a mirrored head cannot be turned right
        if lost or array.ndim != 3:
            found = "a single image" if array.ndim < 3 else "an image without a place in space"
            raise input_error(source.name, "a volume to register", found, "leave out --register (register: none)")
    same_frame_of_reference = first.frame_of_reference == second.frame_of_reference or not (
        first.frame_of_reference and second.frame_of_reference
    )
    assert first.affine is not None and second.affine is not None
    places = (np.asarray(first.affine, float), np.asarray(second.affine, float))
    alignment = register_rigid(
        first.array,
        places[0],
        moving,
        places[1],
        (first.name, second.name),
        same_frame_of_reference=same_frame_of_reference,
    )
    second.affine = alignment.moved(places[1])
    return [alignment.text(), *alignment.notes], list(alignment.warnings), alignment.itk_text()


def _interpolated(first: Source, second: Source, mended: bool) -> tuple[str, np.ndarray | None]:
    """Reorder or interpolate the second image on the grid of the first by their affines, or refuse it."""
    names, shape, covered = (first.name, second.name), first.array.shape, None
    planes = list(np.moveaxis(second.array, -1, 0)) if second.color else [second.array]
    if second.background is not None:
        planes.append(second.background.reshape(planes[0].shape).astype(np.float32))
    known = (first.coordinates, second.coordinates)
    try:
        matched = [match_grids(plane, second.affine, shape, first.affine, names, known) for plane in planes]
        arrays, note = [array for array, _ in matched], matched[0][1]
        if note and known != (PATIENT, PATIENT):
            second.warnings += [note] if second.affine is not first.affine else []  # one file holds one grid
            note = ""
    except FusionInputError:
        volumes = first.array.ndim == planes[0].ndim == 3
        if (
            known != (PATIENT, PATIENT)
            or not (first.frame_of_reference or mended)
            or first.affine is None
            or second.affine is None
            or not volumes
        ):
            raise
        moved = [resample(plane, second.affine, shape, first.affine, names) for plane in planes]
        arrays, covered = [array for array, _ in moved], moved[0][1]
        note = f"interpolated on the grid of the first image ({100 * covered_share(covered):.0f} % of it covered)"
    if second.background is not None:
        second.background = arrays.pop() > 0.5
    second.array = np.stack(arrays, axis=-1) if second.color else arrays[0]
    return note, covered


def _without_padding(covered: np.ndarray | None, second: Source) -> np.ndarray | None:
    """Take voxels without data (padding, NaN) out of what is covered."""
    if second.background is None or not second.background.any():
        return covered
    return ~second.background if covered is None else covered & ~second.background
