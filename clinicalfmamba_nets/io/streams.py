"""Compressed streams read within limits: members after each other, checksums, and what lies behind the last one."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from collections.abc import Callable
from typing import IO, Any

GZIP_MAGIC = b"\x1f\x8b"
BZIP2_MAGIC = b"BZh"
_CHUNK = 2**16
_FLUSH = 2**20


class MemberReader:
    """Reads a file of compressed members from where it stands, a bounded piece at a time.

    `gzip.GzipFile` takes bytes behind the last member for a damaged file, and reads an endless one to its end. Here the
    former are counted (`trailing`), and the caller decides how far it reads.

    Args:
        file: the compressed file, open for reading.
        kind: "gzip", "zlib" or "bzip2".

    Example:
        >>> import io
        >>> reader = MemberReader(io.BytesIO(gzip.compress(b"voxels") + b"?"), "gzip")
        >>> reader.read(100), reader.read(1), reader.trailing
        (b'voxels', b'', 1)
    """

    def __init__(self, file: IO[bytes], kind: str) -> None:
        self.file = file
        self.magic, self.make = _KINDS[kind]
        self.decoder: Any = self.make()
        self.pending = b""
        self.done = False
        self.trailing = 0

    def __enter__(self) -> MemberReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def read(self, size: int) -> bytes:
        """Return up to `size` decompressed bytes, fewer at the end alone.

        Raises:
            EOFError: the last member is cut off.
            gzip.BadGzipFile: damaged data, or a wrong checksum.
        """
        parts, missing = [], size
        while missing > 0 and not self.done:
            part = self._piece(min(missing, _FLUSH))
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def readinto(self, view: memoryview) -> int:
        """Fill a buffer from its start; return the number of bytes."""
        part = self.read(len(view))
        view[: len(part)] = part
        return len(part)

    def _piece(self, size: int) -> bytes:
        if self.decoder.eof:
            self._next_member()
            return b""
        if not self.pending and self._hungry():
            self.pending = self.file.read(_CHUNK)
            if not self.pending:
                raise EOFError("the compressed data end too early")
        try:
            part = self.decoder.decompress(self.pending, size)
        except (zlib.error, OSError) as error:
            raise gzip.BadGzipFile(str(error)) from error
        self.pending = b"" if isinstance(self.decoder, bz2.BZ2Decompressor) else self.decoder.unconsumed_tail
        return part

    def _hungry(self) -> bool:
        return getattr(self.decoder, "needs_input", True)

    def _next_member(self) -> None:
        rest = self.decoder.unused_data.lstrip(b"\0")  # padding to a block of a tape or disk
        while len(rest) < max(len(self.magic), 1):
            more = self.file.read(_CHUNK)
            if not more:
                break
            rest = (rest + more).lstrip(b"\0")
        if self.magic and rest.startswith(self.magic):
            self.decoder, self.pending = self.make(), rest
            return
        place = self.file.tell()
        self.trailing = len(rest) + self.file.seek(0, os.SEEK_END) - place
        self.done = True


_KINDS: dict[str, tuple[bytes, Callable[[], Any]]] = {
    "gzip": (GZIP_MAGIC, lambda: zlib.decompressobj(31)),
    "zlib": (b"", zlib.decompressobj),
    "bzip2": (BZIP2_MAGIC, bz2.BZ2Decompressor),
}
