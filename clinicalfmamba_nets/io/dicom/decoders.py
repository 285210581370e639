"""One compressed frame decoded: RLE by pydicom, JPEG in color by pillow, all else by ITK (GDCM)."""

from __future__ import annotations

import io
import logging
import os
import tempfile
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.dicom.header import Header
from clinicalfmamba_nets.io.dicom.pixel_format import JPEG_BASELINE, RLE
from clinicalfmamba_nets.io.files import printable

_MAX_SCANS = 100
_YCBCR = ("YBR_FULL", "YBR_FULL_422")


def decode_frame(dataset: Any, header: Header, frame: int) -> tuple[np.ndarray, bool]:
    """Decode one frame of compressed pixel data.

    Args:
        dataset: pydicom dataset with its pixel data.
        header: of its file.
        frame: from 0.

    Returns:
        Stored values, shape (rows, columns) or (rows, columns, 3); and whether colors are luma and color differences.
    """
    if header.syntax == RLE:
        return _by_pydicom(dataset, frame), header.photometric in _YCBCR
    data = _one_frame(dataset, header, frame)
    if header.samples == 3 and header.syntax == JPEG_BASELINE:
        return _by_pillow(data, header), False
    return _by_itk(data, header), header.photometric in _YCBCR and not transformed_colors(data)


def _by_pydicom(dataset: Any, frame: int) -> np.ndarray:
    from pydicom.pixels import get_decoder

    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it prints the traceback of the error that it raises
    try:
        decoder: Any = get_decoder(dataset.file_meta.TransferSyntaxUID)
        return np.asarray(decoder.as_array(dataset, index=frame, raw=True, correct_unused_bits=False)[0])
    finally:
        logger.setLevel(level)


def _one_frame(dataset: Any, header: Header, frame: int) -> bytes:
    """Return the compressed bytes of one frame, after their own size was compared with the header's."""
    from pydicom.encaps import get_frame

    data = get_frame(dataset.PixelData, frame, number_of_frames=header.frames)
    size = codestream_size(data)
    if size is not None and size != (header.rows, header.columns):
        expected, found = f"{header.rows} x {header.columns} pixels", f"{size[0]} x {size[1]} in its compressed data"
        raise input_error(printable(header.path), expected, found, "its header is wrong: export it again")
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data:  # decoders fill what is missing with anything
        found = "one without its end"
        raise input_error(printable(header.path), "a whole JPEG image", found, "it is truncated: copy it again")
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > _MAX_SCANS:  # each takes the time of a whole image
        found = f"{data.count(bytes.fromhex('ffda'))}"
        raise input_error(printable(header.path), f"at most {_MAX_SCANS} scans", found, "export it uncompressed")
    return data


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Return rows and columns that JPEG, JPEG-LS or JPEG 2000 data claim in their first markers, before any decoding.

    Args:
        data: the compressed bytes of one frame.

    Returns:
        (rows, columns), or None where they are not found.

    Example:
        >>> codestream_size(bytes.fromhex("ffd8 fff7 000b 10 0040 0020 01"))
        (64, 32)
    """
    if data[4:8] == b"jP  ":  # the codestream lies in a JP2 file
        data = data[max(data.find(b"\xff\x4f\xff\x51", 0, 65536), 0) :]
    if data[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: SIZ holds the far corner and the offset of the image
        right, low, left, top = (int.from_bytes(data[place : place + 4], "big") for place in (8, 12, 16, 20))
        return low - top, right - left
    for marker, body in _segments(data):
        if _is_frame(marker):
            return int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return None


def _segments(data: bytes) -> list[tuple[int, bytes]]:
    """List the marker segments of a JPEG or JPEG 2000 codestream up to its first scan or tile."""
    found, place = [], 2
    while data[:2] in (b"\xff\xd8", b"\xff\x4f") and place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        found.append((marker, data[place + 4 : place + 2 + length]))
        if marker in (0xDA, 0x90):
            break
        place += 2 + length
    return found


def _precision(data: bytes) -> int:
    """Return how many bits the samples of JPEG or JPEG-LS data have by their own marker; 0 where none is found."""
    return next((body[0] for marker, body in _segments(data) if _is_frame(marker) and data[:2] == b"\xff\xd8"), 0)


def _is_frame(marker: int) -> bool:
    return marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC))


def transformed_colors(data: bytes) -> bool:
    """Tell whether a JPEG 2000 codestream transforms its colors itself, so that a decoder gives red, green and blue."""
    coding = next((body for marker, body in _segments(data) if marker == 0x52 and data[:2] == b"\xff\x4f"), b"")
    return len(coding) > 4 and coding[4] == 1


def _by_pillow(data: bytes, header: Header) -> np.ndarray:
    """Decode JPEG in the color space that its own markers tell; without any, in that of the header."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        if image.size != (header.columns, header.rows):  # nothing is decoded yet
            raise ValueError(f"{image.size[1]} x {image.size[0]} pixels")
        if image.mode == "RGB" and header.photometric == "RGB" and not _names_colors(data):
            image.draft("YCbCr", image.size)  # the samples as they are, which are red, green and blue
        return np.asarray(image)


def _names_colors(data: bytes) -> bool:
    """Tell whether JPEG data say by themselves what their components are: JFIF, Adobe, or components named R, G, B."""
    for marker, body in _segments(data):
        if (marker == 0xE0 and body[:4] == b"JFIF") or (marker == 0xEE and body[:5] == b"Adobe"):
            return True
        if 0xC0 <= marker <= 0xC2:
            return bytes(body[6::3][:3]) == b"RGB"
    return False


def _by_itk(data: bytes, header: Header) -> np.ndarray:
    """Decode one compressed frame through a file that holds the pixels alone: no rescale and nothing of the patient."""
    import itk

    itk.ProcessObject.SetGlobalWarningDisplay(False)
    handle, name = tempfile.mkstemp(suffix=".dcm")
    try:
        with os.fdopen(handle, "wb") as file:
            _pixels_alone(data, header).save_as(file, enforce_file_format=True)
        kind = itk.RGBPixel[itk.UC] if header.samples == 3 else {
            (8, False): itk.UC, (8, True): itk.SS, (16, False): itk.US, (16, True): itk.SS,
        }.get((header.bits_allocated, header.signed), itk.D)  # fmt: skip
        image = itk.imread(name, kind, imageio=itk.GDCMImageIO.New())
        array = itk.array_from_image(image)
    finally:
        os.unlink(name)
    array = array[0] if array.shape[0] == 1 and array.ndim > 2 else array
    return array.astype(np.int64) if array.dtype.kind == "f" else array


def _pixels_alone(data: bytes, header: Header) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

    alone = Dataset()
    alone.SOPClassUID, alone.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    alone.StudyInstanceUID, alone.SeriesInstanceUID, alone.Modality = generate_uid(), generate_uid(), "OT"
    alone.Rows, alone.Columns, alone.SamplesPerPixel = header.rows, header.columns, header.samples
    # Samples as they are: what the header calls them is honored afterwards.
    alone.PhotometricInterpretation = "RGB" if header.samples == 3 else "MONOCHROME2"
    bits = max(header.bits_stored, min(_precision(data), header.bits_allocated))  # GDCM cuts off all bits above these
    alone.BitsAllocated, alone.BitsStored, alone.HighBit = header.bits_allocated, bits, bits - 1
    alone.PixelRepresentation = int(header.signed)
    if header.samples == 3:
        alone.PlanarConfiguration = header.planar
    alone.PixelData = encapsulate([data])
    alone["PixelData"].VR = "OB"
    alone.file_meta = FileMetaDataset()
    alone.file_meta.MediaStorageSOPClassUID = alone.SOPClassUID
    alone.file_meta.MediaStorageSOPInstanceUID = alone.SOPInstanceUID
    alone.file_meta.TransferSyntaxUID = UID(header.syntax)
    return alone
