"""Where the header of an NRRD image places it: an anatomical space in mm, a space of another name, or none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from clinicalfmamba_nets.errors import input_error

if TYPE_CHECKING:
    from clinicalfmamba_nets.io.nrrd_header import NrrdHeader

# Turns of the two first axes that bring an anatomical space to RAS.
_ANATOMICAL = {
    "right-anterior-superior": (1, 1),
    "ras": (1, 1),
    "left-anterior-superior": (-1, 1),
    "las": (-1, 1),
    "left-posterior-superior": (-1, -1),
    "lps": (-1, -1),
}
# Spaces whose axes have no anatomical name: spacing and directions count, left and right are not known.
_OTHER = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
_UNITS = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "cm": 10.0, "dm": 100.0, "m": 1000.0}
_UNITS |= {"um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3, "nm": 1e-6}


def find_affine(head: NrrdHeader) -> None:
    """Set the affine, index to mm, of a header, and whether it leads to the patient.

    Raises:
        FusionInputError: a space, unit or vector that is not understood.
    """
    space = head.fields.get("space", "").lower()
    turns = _ANATOMICAL.get(space)
    if space and turns is None and space not in _OTHER:
        raise input_error(head.name, "a space such as left-posterior-superior", space[:40], "export it in LPS")
    vectors = _vectors(head, "spacedirections")
    directions = [vectors[axis] for axis in head.axes] if vectors else []
    if not directions:
        head.affine[: len(head.axes), : len(head.axes)] = np.diag(_spacings(head))
        head.coordinates = "none"
        head.warnings.append("header without orientation (no space directions): place in space not known")
        return
    size = _space_size(head, space, len(directions[0]) if directions[0] else 0)
    units = _units(head, "spaceunits", size)
    for column, vector in enumerate(directions):
        if vector is None or len(vector) != size:
            found = f"space directions {head.fields['spacedirections'][:60]!r}"
            raise input_error(head.name, f"vectors of {size} numbers", found, "correct the header")
        head.affine[:size, column] = np.array(vector) * units
    if len(directions) == 2:  # the third axis stands on the two others
        across = np.cross(head.affine[:3, 0], head.affine[:3, 1])
        head.affine[:3, 2] = across / (np.linalg.norm(head.affine[:3, 0]) or 1.0)
    known = _set_origin(head, size, units)
    head.affine[:2] *= np.array(turns or (1, 1))[:, None]
    if turns is None:
        head.coordinates = "other"
        told = f"space {space}" if space else "a space without a name"
        head.warnings.append(f"header without a place in the patient ({told}): left and right not known")
    elif not known:
        head.coordinates = "directions"
        head.warnings.append("header without space origin: position not known")


def _space_size(head: NrrdHeader, space: str, found: int) -> int:
    """Return the number of dimensions of the space that the header states."""
    stated = head.fields.get("spacedimension", "")
    size = 3 if space else int(stated) if stated in ("2", "3") else 0
    if stated not in ("", str(size)) or size not in (0, 2, 3) or (not size and found not in (2, 3)):
        raise input_error(head.name, "a space of 2 or 3 dimensions", f"space dimension {stated!r}", "correct it")
    return size or found


def _vectors(head: NrrdHeader, key: str) -> list[list[float] | None]:
    """Return the vectors of a field, None for "none"."""
    words = re.findall(r"none|\([^)]*\)", head.fields.get(key, ""))
    try:
        return [None if word == "none" else [float(number) for number in word.strip("()").split(",")] for word in words]
    except ValueError as error:
        found = head.fields[key][:60]
        raise input_error(head.name, f"vectors of numbers under {key}", found, "correct the header") from error


def _set_origin(head: NrrdHeader, size: int, units: np.ndarray) -> bool:
    """Put the origin into the affine; False where the header has none."""
    origin = _vectors(head, "spaceorigin")
    vector = origin[0] if origin else None
    if vector is None or (len(vector) == size and np.isnan(vector).all()):
        return False
    if len(vector) != size or not np.isfinite(vector).all():
        found = head.fields["spaceorigin"][:60]
        raise input_error(head.name, f"a space origin of {size} numbers", found, "correct the header")
    head.affine[:size, 3] = np.array(vector) * units
    return True


def _units(head: NrrdHeader, key: str, count: int) -> np.ndarray:
    """Return the millimetres of the units that a field names, one for each axis."""
    text = head.fields.get(key, "")
    words = re.findall(r'"([^"]*)"', text) or text.split()
    if not words:
        return np.ones(count)
    known = [_UNITS.get(word.strip().lower()) for word in words]
    if len(words) != count or None in known:
        found = f"{key} {text[:40]!r}"
        raise input_error(head.name, f"{count} units of length, such as mm", found, "correct the header")
    factors = np.array(known, dtype=float)
    if (factors != 1).any():
        head.notes.append(f"lengths in {', '.join(dict.fromkeys(words))} read in mm")
    return factors


def _spacings(head: NrrdHeader) -> np.ndarray:
    """Return the spacings of the axes in space, in mm; 1 where none is stated."""
    dims = len(head.stored)
    sides = np.array(_floats(head, "spacings") or [np.nan] * dims)
    low, high = (np.array(_floats(head, key) or [np.nan] * dims) for key in ("axismins", "axismaxs"))
    centers = head.fields.get("centers", "").lower().split() or ["cell"] * dims
    if not all(len(values) == dims for values in (sides, low, high, centers)):
        raise input_error(head.name, f"{dims} spacings, one an axis", f"{len(sides)}", "correct the header")
    steps = np.array(head.stored) - [center == "node" for center in centers]
    sides = np.where(np.isnan(sides), (high - low) / np.maximum(steps, 1), sides)
    sides = np.abs(np.where(np.isnan(sides), 1.0, sides))[head.axes]
    units = head.fields.get("units", "")
    words = re.findall(r'"([^"]*)"', units) or units.split()
    if len(words) == dims:
        chosen = [words[axis] for axis in head.axes]
        head.fields["units"] = " ".join(f'"{word}"' for word in chosen)
    return sides * _units(head, "units", len(head.axes))


def _floats(head: NrrdHeader, key: str) -> list[float]:
    words = head.fields.get(key, "").lower().split()
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise input_error(head.name, f"numbers under {key}", head.fields[key][:40], "correct the header") from error
