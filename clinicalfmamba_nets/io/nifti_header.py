"""The header of a NIfTI image judged before any voxel is read: size, type, where its voxels start, place in space."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import PathLike, check_file, printable
from clinicalfmamba_nets.io.raw import open_stream, refuse_damaged
from clinicalfmamba_nets.io.streams import GZIP_MAGIC

WHAT = "NIfTI image"
# Size of the header, its first number, and the marks of a single file and of a header beside its voxels.
_MARKS = {348: (b"n+1\0", b"ni1\0"), 540: (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")}
_COLORS = {128: 3, 2304: 4}  # datatype: RGB24 and RGBA32
_LABELS = (1002, 1003)  # intent_code: labels of a list, names of regions
# sform_code and qform_code; 2 is what programs write that know no better.
_SPACES = {1: "scanner", 3: "template", 4: "template"}
_STATISTICS = range(2, 25)  # intent_code: correlation, t, F, z, p and the like
# xyzt_units: the millimetres of a unit.
_UNITS = {0: (1.0, ""), 1: (1000.0, "metres"), 2: (1.0, ""), 3: (0.001, "micrometres")}
_LEAST_VOXEL, _LARGEST_VOXEL = 0.01, 100.0  # mm
# Quaternions rounded to three or four digits may be this much longer than 1 (squared).
_LONGER = 5e-3


@dataclass
class NiftiHeader:
    """What the reader needs of a header: nibabel's, and what was found out about it."""

    raw: Any
    path: Path
    compressed: bool
    single: bool
    shape: tuple[int, ...] = ()
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.uint8))
    samples: int = 1
    offset: int = 0
    scale: tuple[float, float] = (1.0, 0.0)
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    coordinates: str = "patient"
    space: str = ""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_header(path: PathLike) -> NiftiHeader:
    """Read and judge a header.

    Args:
        path: `.nii` or `.nii.gz`, or one of a pair `.hdr` and `.img`.

    Raises:
        FusionInputError: whatever is wrong with it, in one line.
    """
    head, voxels = halves(path)
    start, compressed = _first_bytes(check_file(head, "a NIfTI image"))
    sizes = {order: int.from_bytes(start[:4], order) for order in ("little", "big")}  # type: ignore[arg-type]
    order = next((order for order, size in sizes.items() if size in _MARKS), None)
    if order is None:
        found = f"{start[:8]!r} where its header should be"
        raise input_error(printable(head), "a NIfTI image", found, "export it as NIfTI")
    size = sizes[order]
    single = head == voxels
    _check_mark(head, start[344:348] if size == 348 else start[4:12], size, single)
    import nibabel

    kind = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
    with refuse_damaged(head, WHAT):
        raw = kind(start[:size], order, check=False)  # its own checks print to stderr
        judged = NiftiHeader(raw, voxels, compressed if single else voxels.name.lower().endswith(".gz"), single)
        _judge_voxels(judged, printable(head))
        _judge_place(judged, printable(head))
    return judged


def halves(path: PathLike) -> tuple[Path, Path]:
    """Return the files of the header and of the voxels: one and the same, or a pair `.hdr` and `.img`."""
    target = check_file(path, "a NIfTI image")
    name = target.name
    packed = name[-3:] if name.lower().endswith(".gz") else ""
    base, ending = name[: len(name) - len(packed) - 4], name[len(name) - len(packed) - 4 : len(name) - len(packed)]
    if ending.lower() not in (".hdr", ".img"):
        return target, target
    partners = {".hdr": (".img", ".IMG"), ".img": (".hdr", ".HDR")}[ending.lower()]
    partners = partners[::-1] if ending.isupper() else partners
    names = [f"{base}{other}{pack}" for other in partners for pack in (packed, "" if packed else ".gz")]
    other = next((target.with_name(item) for item in names if target.with_name(item).is_file()), None)
    if other is None:
        expected = f"{base}{partners[0]}{packed} beside it, the other half of the image"
        raise input_error(printable(path), expected, "no such file", "copy both files")
    return (target, other) if ending.lower() == ".hdr" else (other, target)


def _first_bytes(path: Path) -> tuple[bytes, bool]:
    """Compare the name with the first bytes; return the (uncompressed) first bytes and whether it is compressed."""
    named = path.name.lower().endswith(".gz")
    with open(path, "rb") as file:
        start = file.read(544)
    if start.startswith(GZIP_MAGIC) != named:
        expected = "a gzip-compressed NIfTI image" if named else "an uncompressed NIfTI image"
        found = f"a file that starts with {start[:8]!r}"
        raise input_error(printable(path), expected, found, "export it as NIfTI, or correct its name")
    if named:
        with refuse_damaged(path, WHAT), open_stream(path, "gzip") as stream:
            start = stream.read(544)
    return start, named


def _check_mark(path: Path, mark: bytes, size: int, single: bool) -> None:
    if mark == _MARKS[size][0 if single else 1]:
        return
    if not single and not mark.strip(b"\0"):
        found = "an Analyze 7.5 image, which does not tell left from right"
        raise input_error(printable(path), "a NIfTI image in two files", found, "export it as NIfTI")
    expected = "a NIfTI image in one file" if single else "the header of a NIfTI image in two files"
    found = f"the mark {mark!r} where {_MARKS[size][0 if single else 1]!r} should be"
    raise input_error(printable(path), expected, found, "export it as .nii")


def _judge_voxels(head: NiftiHeader, name: str) -> None:
    """Find size, type, start and scale of the voxels."""
    raw = head.raw
    dims = [int(side) for side in raw["dim"]]
    if not 1 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1:
        found = f"size {' x '.join(map(str, dims[1 : min(max(dims[0], 1), 7) + 1]))} in {dims[0]} dimensions"
        raise input_error(name, "an image with voxels", found, "export the file again")
    head.shape = tuple(dims[1 : dims[0] + 1])
    code = int(raw["datatype"])
    head.samples = _COLORS.get(code, 1)
    try:
        head.dtype = np.dtype(np.uint8) if code in _COLORS else raw.get_data_dtype()
    except Exception as error:  # nibabel's own class for a code that the standard does not know
        raise input_error(name, "voxels of a known type", f"datatype {code}", "export the file again") from error
    head.offset = _offset(head, name)
    if int(raw["intent_code"]) in _LABELS:
        head.notes.append(f"intent_code {int(raw['intent_code'])}: its values are labels of regions, not intensities")
    if int(raw["intent_code"]) in _STATISTICS:
        head.warnings.append(
            f"intent_code {int(raw['intent_code'])}: its values are those of a statistical test, no image"
        )
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return
    if np.isinf(slope) or np.isinf(intercept):
        found = f"scl_slope {slope:g}, scl_inter {intercept:g}"
        raise input_error(name, "a finite scale of the values", found, "correct the header")
    if np.isnan(intercept):
        intercept = 0.0
        head.warnings.append("scl_inter is no number: taken as 0")
    head.scale = (slope, intercept)


def _offset(head: NiftiHeader, name: str) -> int:
    """Return where the voxels start; 0 in a single file stands for the end of the header."""
    stated, size = float(head.raw["vox_offset"]), int(head.raw["sizeof_hdr"])
    if stated == 0 and head.single:
        head.warnings.append(f"vox_offset is 0: voxels read from byte {size + 4} on, behind the header")
        return size + 4
    least = size if head.single else 0
    if not least <= stated < 2**31 or stated != int(stated):
        found = f"vox_offset {stated:g}"
        raise input_error(name, f"voxels that start at byte {least} or later", found, "correct the header")
    return int(stated)


def _judge_place(head: NiftiHeader, name: str) -> None:
    """Find the affine in mm: of the sform, else of the qform, else none that means anything."""
    raw = head.raw
    unit = int(raw["xyzt_units"]) & 7
    if unit not in _UNITS:
        raise input_error(name, "xyzt_units of metres, mm or micrometres", f"code {unit}", "correct the header")
    factor, words = _UNITS[unit]
    mm = np.array([[factor], [factor], [factor], [1.0]])  # rows, because infinite entries times 0 are no numbers
    sform = mm * raw.get_sform() if int(raw["sform_code"]) > 0 else None
    qform = mm * qform_affine(raw, name) if int(raw["qform_code"]) > 0 else None
    head.coordinates = "patient" if sform is not None or qform is not None else "none"
    head.affine = next((affine for affine in (sform, qform) if affine is not None), mm * _spacing_alone(head))
    code = int(raw["sform_code"] if sform is not None else raw["qform_code"])
    head.space = _SPACES.get(code, "") if head.coordinates == "patient" else ""
    sides = np.linalg.norm(head.affine[:3, :3], axis=0)
    size = np.array(head.shape[:3])
    wide = sides[: len(size)][size > 1]
    if not words and (wide.max(initial=1) > _LARGEST_VOXEL or wide.min(initial=1) < _LEAST_VOXEL):
        told = f"voxels of {' x '.join(f'{side:.3g}' for side in sides)} mm: no head has such, its units may be others"
        head.warnings.append(told)
    if words:
        if not (sides <= _LARGEST_VOXEL).all():
            found = f"voxels of {' x '.join(f'{side:.3g}' for side in sides)} mm by xyzt_units in {words}"
            raise input_error(name, f"voxels of up to {_LARGEST_VOXEL:g} mm", found, "correct the header")
        head.notes.append(f"stored in {words}, read in mm")
    if sform is None and any(side > 1 and raw["pixdim"][axis] == 0 for axis, side in enumerate(head.shape[:3], 1)):
        head.warnings.append("no distance of its voxels (pixdim 0): 1 mm assumed")
    if head.coordinates == "none":
        head.warnings.append("header without orientation (sform and qform code 0): place in space not known")
    elif sform is not None and qform is not None:
        _compare(head, sform, qform)


def qform_affine(raw: Any, name: str = "header") -> np.ndarray:
    """Return the affine of a header's quaternion, in the header's unit.

    A quaternion that rounding made a little longer than 1 is shortened, as the standard's own library does; nibabel
    refuses it.

    Args:
        raw: nibabel's header.
        name: the file, for messages.

    Raises:
        FusionInputError: no quaternion, or voxel sides that are no numbers.
    """
    vector = np.array([float(raw[f"quatern_{letter}"]) for letter in "bcd"])
    origin = [float(raw[f"qoffset_{letter}"]) for letter in "xyz"]
    length = float(vector @ vector)
    if not length <= 1 + _LONGER:
        found = f"one of length {np.sqrt(length):.4g}"
        raise input_error(name, "a quaternion (quatern_b, c, d) of length 1", found, "correct the header")
    vector = vector / np.sqrt(max(length, 1.0))
    b, c, d = vector
    a = np.sqrt(max(1.0 - float(vector @ vector), 0.0))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn * (_sides(raw) * [1, 1, -1 if float(raw["pixdim"][0]) < 0 else 1])
    affine[:3, 3] = origin
    return affine


def _sides(raw: Any) -> np.ndarray:
    """Return the sides of a voxel in the header's unit; 1 where none is stated, as the standard's library does."""
    sides = np.abs(np.array(raw["pixdim"][1:4], dtype=np.float64))
    used = np.arange(1, 4) <= int(raw["dim"][0])
    return np.where((sides == 0) | ~used & ~np.isfinite(sides), 1.0, sides)


def _spacing_alone(head: NiftiHeader) -> np.ndarray:
    """Return the affine that nibabel invents for a header without orientation: centred, x from right to left."""
    shape = np.array([*head.shape[:3], 1, 1][:3])
    sides = _sides(head.raw) * [-1, 1, 1]
    affine = np.diag([*sides, 1.0])
    affine[:3, 3] = -sides * (shape - 1) / 2
    return affine


def _compare(head: NiftiHeader, sform: np.ndarray, qform: np.ndarray) -> None:
    """Warn where sform and qform place the image differently."""
    if not (np.isfinite(sform).all() and np.isfinite(qform).all()):
        return
    shape = [*head.shape[:3], 1, 1][:3]
    corners = np.array([[*index, 1] for index in itertools.product(*[(0, side - 1) for side in shape])])
    apart = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
    side = float(np.linalg.norm(sform[:3, :3], axis=0).min())
    if apart > side / 2:
        told = f"sform (used here) and qform place it up to {apart:.3g} mm apart"
        head.warnings.append(f"{told}; viewers built on ITK take the qform when the sform code is not 1")
