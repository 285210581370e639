"""Pixels of DICOM slices, decoded one at a time: by pydicom where they are raw or RLE, else by ITK (GDCM)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.dicom.header import Header, Slice, quiet_pydicom, read_dataset
from clinicalfmamba_nets.io.dicom.kinds import NATIVE
from clinicalfmamba_nets.io.files import printable
from clinicalfmamba_nets.io.raw import damage_told

_RLE = "1.2.840.10008.1.2.5"
_WHAT = "DICOM image"


def stored_slices(slices: list[Slice], headers: dict[Any, Header]) -> Iterator[np.ndarray]:
    """Yield the pixels of slices in their order, keeping one file in memory at a time.

    Args:
        slices: slices, in any order of files and frames.
        headers: the header of each file.

    Yields:
        Stored values (no rescale), shape (rows, columns) or (rows, columns, 3), with bits outside BitsStored removed.

    Raises:
        FusionInputError: pixel data that is missing, truncated, damaged, of another size, or of a syntax that cannot be
            decoded.
    """
    dataset: Any = None
    path = None
    for item in slices:
        if item.path != path:
            dataset, path = read_dataset(item.path, pixels=True), item.path
        header = headers[item.path]
        with damage_told(item.path, _WHAT), quiet_pydicom():
            if not dataset.get("PixelData"):
                raise input_error(printable(item.path), "PixelData (7FE0,0010)", "none", "export the image again")
            yield _masked(_decoded(dataset, header, item.frame), header)


def _decoded(dataset: Any, header: Header, frame: int) -> np.ndarray:
    if header.syntax in NATIVE:
        array = _native(dataset.PixelData, header, frame)
    elif header.syntax == _RLE:
        array = _by_pydicom(dataset, frame)
    else:
        array = _by_itk(_one_frame(dataset, header, frame), header)
    shape = (header.rows, header.columns) + ((3,) if header.samples == 3 else ())
    if array.shape != shape:
        found = " x ".join(map(str, array.shape))
        remedy = "its header is wrong: export it again"
        raise input_error(printable(header.path), f"{shape[0]} x {shape[1]} pixels", found, remedy)
    return array


def _native(data: bytes, header: Header, frame: int) -> np.ndarray:
    """Take one frame out of uncompressed pixel data."""
    big = header.syntax == NATIVE[2]
    kind = np.dtype(f"{'>' if big else '<'}{'i' if header.signed else 'u'}{header.bits_allocated // 8}")
    count = header.rows * header.columns * header.samples
    if len(data) < count * kind.itemsize * header.frames:
        found = f"{len(data)} bytes of PixelData for {header.frames} x {header.rows} x {header.columns}"
        raise input_error(printable(header.path), "a whole image", found, "it is truncated: copy or export it again")
    array = np.frombuffer(data, kind, count, frame * count * kind.itemsize)
    array = array.astype(kind.newbyteorder("="))
    if header.samples == 3 and header.planar:
        return np.moveaxis(array.reshape(3, header.rows, header.columns), 0, -1)
    return array.reshape(header.rows, header.columns, *((3,) if header.samples == 3 else ()))


def _by_pydicom(dataset: Any, frame: int) -> np.ndarray:
    from pydicom.pixels import get_decoder

    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    array, _ = decoder.as_array(dataset, index=frame, raw=True)
    return np.asarray(array)


def _one_frame(dataset: Any, header: Header, frame: int) -> bytes:
    """Return the compressed bytes of one frame, after their own size was compared with the header's."""
    from pydicom.encaps import get_frame

    data = get_frame(dataset.PixelData, frame, number_of_frames=header.frames)
    size = codestream_size(data)
    if size is not None and size != (header.rows, header.columns):
        expected, found = f"{header.rows} x {header.columns} pixels", f"{size[0]} x {size[1]} in its compressed data"
        raise input_error(printable(header.path), expected, found, "its header is wrong: export it again")
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
    if data[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: SIZ holds the far corner and the offset of the image
        right, low, left, top = (int.from_bytes(data[place : place + 4], "big") for place in (8, 12, 16, 20))
        return low - top, right - left
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = (int.from_bytes(data[place + at : place + at + 2], "big") for at in (5, 7))
            return rows, columns
        place += 1 if marker == 0xFF else 2 + length
    return None


def _by_itk(data: bytes, header: Header) -> np.ndarray:
    """Decode one compressed frame through a file that holds the pixels alone: no rescale and nothing of the patient."""
    import itk

    itk.ProcessObject.SetGlobalWarningDisplay(False)
    handle, name = tempfile.mkstemp(suffix=".dcm")
    try:
        with os.fdopen(handle, "wb") as file:
            _pixels_alone(data, header).save_as(file, enforce_file_format=True)
        kind = itk.RGBPixel[itk.UC] if header.samples == 3 else {
            (8, False): itk.UC, (8, True): itk.SC, (16, False): itk.US, (16, True): itk.SS,
        }.get((header.bits_allocated, header.signed), itk.D)  # fmt: skip
        image = itk.imread(name, kind, imageio=itk.GDCMImageIO.New())
        array = itk.array_from_image(image)
    finally:
        os.unlink(name)
    return array[0] if array.shape[0] == 1 and array.ndim > 2 else array


def _pixels_alone(data: bytes, header: Header) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

    alone = Dataset()
    alone.SOPClassUID, alone.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    alone.StudyInstanceUID, alone.SeriesInstanceUID, alone.Modality = generate_uid(), generate_uid(), "OT"
    alone.Rows, alone.Columns, alone.SamplesPerPixel = header.rows, header.columns, header.samples
    alone.PhotometricInterpretation = header.photometric
    alone.BitsAllocated, alone.BitsStored, alone.HighBit = header.bits_allocated, header.bits_stored, header.high_bit
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


def _masked(array: np.ndarray, header: Header) -> np.ndarray:
    """Remove overlay planes and other bits above BitsStored; extend the sign from the highest stored bit."""
    if array.dtype.kind not in "iu" or header.bits_stored == header.bits_allocated:
        return array
    kind = np.dtype(f"{'i' if header.signed else 'u'}{array.dtype.itemsize}")
    spare = 8 * kind.itemsize - header.bits_stored
    return (array.view(kind) << spare) >> spare
