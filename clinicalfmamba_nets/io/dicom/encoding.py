"""The files of one derived series as bytes: what an image shares with the one before it is encoded once.

Source: DICOM PS3.5, 7.1 (data elements in the order of their tags); PS3.10, 7.1 (preamble and file meta information).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.header import Slice
from clinicalfmamba_nets.io.dicom.modules import (
    KEPT,
    NewSeries,
    add_references,
    derived_header,
    name_image,
)
from clinicalfmamba_nets.io.dicom.series import Series

# Tag, value representation and length of the pixels; the element that tells how long the meta information is.
_PIXELS, _HEAD_LENGTH = struct.Struct("<HH2sHI"), struct.Struct("<HH2sHI")


class SeriesEncoder:
    """Encodes the images of a derived series, in explicit little endian.

    Args:
        new: what all images of the series have in common.
        affine: of the volume, 4 x 4, index to LPS mm.
        complete: called with a header and the pixels of its image, adds what comes from neither source nor place.
    """

    def __init__(self, new: NewSeries, affine: np.ndarray, complete: Callable[[Any, np.ndarray], None]) -> None:
        self.new, self.affine, self.complete = new, affine, complete
        self._known: Any = None
        self._shared: dict[int, bytes] = {}
        self._meta: dict[int, bytes] = {}

    def encode(
        self, source: Any, number: int, pixels: np.ndarray, used: Sequence[tuple[Series, Sequence[Slice]]]
    ) -> bytes:
        """Return the file of one image.

        Args:
            source: pydicom dataset of the source slice, of which nothing was read yet.
            number: index of the slice, from 0.
            pixels: (rows, columns) or (rows, columns, 3), of 8 or 16 bits.
            used: each source series with those of its slices that went into the image.
        """
        known = _taken_over(source)
        if known != self._known:
            self._known = known
            self._share(derived_header(source, self.new, number, self.affine), pixels)
        own, meta = _own(self.new, number, self.affine)
        add_references(own, used)
        head = _joined(self._meta | encoded(meta))
        body = _joined(self._shared | encoded(own))
        data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()
        data += b"\0" * (len(data) % 2)
        kind = b"OW" if pixels.dtype.itemsize == 2 else b"OB"
        length = _HEAD_LENGTH.pack(2, 0, b"UL", 4, len(head))
        return b"".join(
            [bytes(128), b"DICM", length, head, body, _PIXELS.pack(0x7FE0, 0x0010, kind, 0, len(data)), data]
        )

    def _share(self, made: Any, pixels: np.ndarray) -> None:
        from pydicom.dataset import validate_file_meta

        self.complete(made, pixels)
        validate_file_meta(made.file_meta, enforce_standard=True)
        self._shared, self._meta = encoded(made), encoded(made.file_meta)
        self._meta.pop(0x00020000, None)  # its length, which each file has as its own


def _taken_over(source: Any) -> list[Any]:
    """Return the elements of a source slice that its derived image has too, as they lie in the file."""
    found = [source.get_item(keyword) for keyword in KEPT if keyword in source]
    return [source.original_encoding, *((item.tag, item.VR, item.value) for item in found)]


def _own(new: NewSeries, number: int, affine: np.ndarray) -> tuple[Any, Any]:
    """Return the elements that each image has as its own, and those of its file meta information."""
    from pydicom.dataset import Dataset, FileMetaDataset

    own, meta = Dataset(), FileMetaDataset()
    own.StudyInstanceUID = new.study
    name_image(own, number, affine)
    meta.MediaStorageSOPInstanceUID = own.SOPInstanceUID
    return own, meta


def encoded(dataset: Any) -> dict[int, bytes]:
    """Return the elements of a dataset by tag, each encoded in explicit little endian.

    Example:
        >>> from pydicom.dataset import Dataset
        >>> made = Dataset()
        >>> made.Rows = 7
        >>> encoded(made)[0x00280010]
        b'(\\x00\\x10\\x00US\\x02\\x00\\x07\\x00'
    """
    from pydicom.charset import default_encoding
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    charset = dataset.get("SpecificCharacterSet", default_encoding)
    found: dict[int, bytes] = {}
    for element in dataset:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element, charset)
        found[int(element.tag)] = buffer.getvalue()
    return found


def _joined(elements: dict[int, bytes]) -> bytes:
    return b"".join(elements[tag] for tag in sorted(elements))
