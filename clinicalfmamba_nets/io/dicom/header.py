"""The header of one DICOM file as plain values: what kind of image it holds and where each slice or frame lies."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import PathLike, check_file, printable, to_path
from clinicalfmamba_nets.io.raw import damage_told

_WHAT = "DICOM file"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_DEFLATED = 2**30
_TEXTS = {
    "sop_class": "SOPClassUID",
    "modality": "Modality",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "frame_of_reference": "FrameOfReferenceUID",
    "number": "SeriesNumber",
    "description": "SeriesDescription",
    "patient": "PatientID",
}
# What tells apart the contrasts and time points of one series.
MARKS = (
    "EchoTime",
    "ImageType",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
    "AcquisitionNumber",
    "StackID",
)


@dataclass(frozen=True)
class Slice:
    """One slice: a file, or one frame of it, and its place in the patient (LPS, mm)."""

    path: Path
    frame: int = 0
    uid: str = ""
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    thickness: float | None = None
    gap: float | None = None
    slope: float | None = None
    intercept: float | None = None
    marks: dict[str, Any] = field(default_factory=dict)


@dataclass
class Header:
    """What is said about all slices of a file."""

    path: Path
    sop_class: str = ""
    modality: str = ""
    study: str = ""
    series: str = ""
    frame_of_reference: str = ""
    number: str = ""
    description: str = ""
    patient: str = ""
    rows: int = 0
    columns: int = 0
    samples: int = 1
    photometric: str = ""
    planar: int = 0
    bits_allocated: int = 0
    bits_stored: int = 0
    high_bit: int = 0
    signed: bool = False
    frames: int = 1
    syntax: str = ""
    stored: int = 0
    padding: tuple[int, int] | None = None
    image_type: tuple[str, ...] = ()
    has_lut: bool = False
    problem: str = ""
    detector: bool = False
    slices: list[Slice] = field(default_factory=list)


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings about odd values away: what matters is checked and told here."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def read_dataset(path: PathLike, pixels: bool = False) -> Any:
    """Read a DICOM file.

    Args:
        path: the file, with or without preamble.
        pixels: read the pixel data too.

    Returns:
        A pydicom dataset whose `file_meta` names a transfer syntax.

    Raises:
        FusionInputError: the file is missing, truncated or damaged.
    """
    return _read(path, pixels)[0]


def _read(path: PathLike, pixels: bool) -> tuple[Any, int]:
    """Return the dataset and how many bytes follow it in its file: those of the pixels where they are not read."""
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    target = check_file(path, "a DICOM file")
    with damage_told(path, _WHAT), quiet_pydicom():
        _check_deflated(target)
        with open(target, "rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True)
            left = target.stat().st_size - (0 if file.closed else file.tell())
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            guess = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = guess
        if not len(dataset):
            raise EOFError
    return dataset, left


def _check_deflated(path: Path) -> None:
    """Refuse a deflated file that unpacks to more than a study needs, before pydicom unpacks it whole."""
    from pydicom.filereader import read_file_meta_info

    try:
        with quiet_pydicom():
            meta = read_file_meta_info(path)
    except Exception:  # no preamble: such files are never deflated
        return
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    unpack, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open(path, "rb") as file:
        file.seek(144 + int(meta.get("FileMetaInformationGroupLength", 0)))
        data = file.read(2**20)
        while data and size <= _MAX_DEFLATED:
            size += len(unpack.decompress(data, 2**24))
            data = unpack.unconsumed_tail or file.read(2**20)
    if size > _MAX_DEFLATED:
        found = f"deflated data of more than {size / 2**30:.0f} GiB"
        raise input_error(printable(path), "at most 1 GiB", found, "export the series uncompressed")


def read_header(path: PathLike) -> Header:
    """Read what the header of a file says, without its pixels.

    Args:
        path: a DICOM file.

    Returns:
        The header; absent numbers are None, absent text is "". Nothing is judged yet, but `problem` names a value that
        is no number.

    Raises:
        FusionInputError: the file is truncated or damaged.
    """
    file = to_path(path)
    dataset, left = _read(file, pixels=False)
    with damage_told(path, _WHAT), quiet_pydicom():
        known: dict[str, Any] = {key: _text(dataset.get(keyword)) for key, keyword in _TEXTS.items()}
        try:
            header = _header(file, dataset, known)
        except (ValueError, TypeError, OverflowError) as error:
            found = f"{' '.join(str(error).split())[:80]} ({printable(file.name)})"
            problem = f"expected numbers in its header, found {found}; export it again"
            return Header(file, **known, problem=problem, slices=[Slice(file)])
    left -= 8 if dataset.original_encoding[0] else 12  # the head of the element that holds the pixels
    header.stored = left if header.syntax != _DEFLATED else file.stat().st_size
    return header


def _header(path: Path, dataset: Any, known: dict[str, Any]) -> Header:
    padding = _numbers(dataset.get("PixelPaddingValue"), 1)
    limit = _numbers(dataset.get("PixelPaddingRangeLimit"), 1) or padding
    header = Header(
        path,
        **known,
        rows=_count(dataset, "Rows", 0),
        columns=_count(dataset, "Columns", 0),
        samples=_count(dataset, "SamplesPerPixel", 1),
        photometric=_text(dataset.get("PhotometricInterpretation")),
        planar=_count(dataset, "PlanarConfiguration", 0),
        bits_allocated=_count(dataset, "BitsAllocated", 0),
        bits_stored=_count(dataset, "BitsStored", _count(dataset, "BitsAllocated", 0)),
        signed=bool(_count(dataset, "PixelRepresentation", 0)),
        frames=_count(dataset, "NumberOfFrames", 1),
        syntax=_text(dataset.file_meta.TransferSyntaxUID),
        padding=None if padding is None or limit is None else (int(min(padding + limit)), int(max(padding + limit))),
        image_type=_texts(dataset.get("ImageType")),
        has_lut=bool(dataset.get("ModalityLUTSequence")),
        detector=bool(dataset.get("DetectorInformationSequence")),
    )
    header.high_bit = _count(dataset, "HighBit", header.bits_stored - 1)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame:
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
        header.slices = [_frame(path, dataset, number, [group, shared]) for number, group in enumerate(per_frame)]
    else:
        header.slices = [_frame(path, dataset, 0, [])]
    return header


def _frame(path: Path, dataset: Any, number: int, groups: Sequence[Any]) -> Slice:
    """Take the place and the marks of one frame from its functional groups, else from the file's own elements."""

    def look(keyword: str, *sequences: str) -> Any:
        for group in groups:
            for sequence in sequences:
                items = group.get(sequence) if group is not None else None
                if items and items[0].get(keyword) is not None:
                    return items[0].get(keyword)
        return dataset.get(keyword)

    echo = look("EffectiveEchoTime", "MREchoSequence")
    kind = look("FrameType", "MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
    times = look("TemporalPositionIndex", "FrameContentSequence")
    marks = {key: dataset.get(key) for key in MARKS}
    marks["EchoTime"] = dataset.get("EchoTime") if echo is None else echo
    marks["ImageType"] = "\\".join(_texts(kind or dataset.get("ImageType")))
    marks["TemporalPositionIdentifier"] = times or dataset.get("TemporalPositionIdentifier")
    marks["DiffusionBValue"] = look("DiffusionBValue", "MRDiffusionSequence")
    marks["StackID"] = look("StackID", "FrameContentSequence")
    return Slice(
        path,
        number,
        _text(dataset.get("SOPInstanceUID")),
        _numbers(look("ImagePositionPatient", "PlanePositionSequence"), 3),
        _numbers(look("ImageOrientationPatient", "PlaneOrientationSequence"), 6),
        _numbers(look("PixelSpacing", "PixelMeasuresSequence"), 2),
        _number(look("SliceThickness", "PixelMeasuresSequence")),
        _number(look("SpacingBetweenSlices", "PixelMeasuresSequence")),
        _number(look("RescaleSlope", "PixelValueTransformationSequence")),
        _number(look("RescaleIntercept", "PixelValueTransformationSequence")),
        {key: _mark(value) for key, value in marks.items() if value not in (None, "")},
    )


def _text(value: Any) -> str:
    return printable(str(value).strip("\0 ")) if value is not None else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in ([value] if isinstance(value, str) else value or []))


def _count(dataset: Any, keyword: str, absent: int) -> int:
    value = dataset.get(keyword)
    try:
        return absent if value is None or value == "" else int(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{keyword} {value!r}") from error


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers; None where the element is absent, empty, too short or not finite."""
    if value is None or value == "" or isinstance(value, bytes):
        return None
    items = [value] if isinstance(value, str | int | float) else list(value)
    numbers = tuple(float(item) for item in items)
    return numbers if len(numbers) == count and all(math.isfinite(number) for number in numbers) else None


def _mark(value: Any) -> float | str:
    try:
        return round(float(value), 4)
    except (TypeError, ValueError):
        return _text(value)
