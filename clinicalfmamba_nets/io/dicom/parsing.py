"""DICOM files parsed by pydicom: quietly, and never more of a deflated one than a study needs."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.dicom.elements import Elements
from clinicalfmamba_nets.io.dicom.scanning import scan
from clinicalfmamba_nets.io.files import PathLike, check_file, printable
from clinicalfmamba_nets.io.raw import refuse_damaged

_within: list[bool] = []  # whether pydicom is quiet already
DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_DEFLATED = 2**30
IMPLICIT = "1.2.840.10008.1.2"
_START, _MORE = 2**15, 2**20  # bytes in which headers end, first and second try
_HEAD = 1024  # bytes in which a file's own transfer syntax stands


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings about odd values away: what matters is checked and told here."""
    if _within:
        yield
        return
    logger = logging.getLogger("pydicom")
    was = logger.disabled  # not by its level: with each change of one, all loggers forget what they have looked up
    _within.append(True)
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was
        _within.clear()


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
    return parse(path, pixels)[0]


def parse(path: PathLike, pixels: bool) -> tuple[Any, int]:
    """Return the dataset and how many bytes follow it in its file: those of the pixels where they are not read."""
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    target = check_file(path, "a DICOM file")
    with refuse_damaged(path, "DICOM file"), quiet_pydicom():
        with open(target, "rb") as file:
            if DEFLATED.encode() in file.read(_HEAD):
                _check_deflated(target)
            file.seek(0)
            dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True)
            left = os.fstat(file.fileno()).st_size - file.tell() if not file.closed else 0
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            guess = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = guess
        if not len(dataset):
            raise EOFError
    return dataset, left


def parse_header(path: PathLike) -> tuple[Elements, str, int]:
    """Return the elements of a file without its pixels, its transfer syntax, and how many bytes its pixels take.

    Raises:
        FusionInputError: the file is missing, truncated or damaged.
    """
    target = check_file(path, "a DICOM file")
    with open(target, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(_START)
        found = scan(data, size) or (scan(data + file.read(_MORE), size) if size > _START else None)
    if found is not None and found[0]:
        elements, syntax, left = found
        return Elements(elements), syntax, _pixel_bytes(target, size - left, size, (syntax == IMPLICIT, True))
    dataset, left = parse(target, pixels=False)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    left = size if syntax == DEFLATED else _pixel_bytes(target, size - left, size, dataset.original_encoding)
    return Elements(dict(dataset.items()), dataset), syntax, left


def _pixel_bytes(path: Path, start: int, size: int, encoding: tuple[Any, Any]) -> int:
    """Return how many bytes the pixels take: what their element states, else all from it to the end of the file.

    Args:
        path: the file.
        start: where their element starts.
        size: bytes of the file.
        encoding: whether value representations are implicit, and whether numbers are little endian.
    """
    implicit, little = encoding
    place = 4 if implicit else 8
    with open(path, "rb") as file:
        file.seek(start)
        head = file.read(place + 4)
    stated = int.from_bytes(head[place:], "little" if little else "big")
    return min(stated, size - start - place - 4)


def _check_deflated(path: Path) -> None:
    """Refuse a deflated file that unpacks to more than a study needs, before pydicom unpacks it whole."""
    from pydicom.filereader import read_file_meta_info

    try:
        meta = read_file_meta_info(path)
    except Exception:  # no preamble: such files are never deflated
        return
    if str(meta.get("TransferSyntaxUID", "")) != DEFLATED:
        return
    unpack, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open(path, "rb") as file:
        file.seek(144 + int(meta.get("FileMetaInformationGroupLength", 0)))
        data = file.read(2**20)
        while data and size <= _MAX_DEFLATED and not unpack.eof:  # bytes behind the stream are padding
            size += len(unpack.decompress(data, 2**24))
            data = unpack.unconsumed_tail or file.read(2**20)
    if size > _MAX_DEFLATED:
        found = f"deflated data of more than {size / 2**30:.0f} GiB"
        raise input_error(printable(path), "at most 1 GiB", found, "export the series uncompressed")
