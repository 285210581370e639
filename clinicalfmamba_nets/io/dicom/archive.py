"""A study in a ZIP archive, unpacked into a private temporary folder that is removed when the process ends."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import PathLike, printable, to_path
from clinicalfmamba_nets.io.raw import MAX_COMPRESSION, refuse_damaged

_START = b"PK\x03\x04"
# Archives that are not unpacked here: what they start with, and for tar what lies at this byte.
_OTHERS = {
    _START: "a ZIP archive without .zip in its name",
    b"PK\x05\x06": "an empty ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"(\xb5/\xfd": "a zstd archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
}
_TAR, _TAR_AT = b"ustar", 257
_MOST_BYTES, _MOST_FILES = 2**35, 200_000
_UNPACKED: dict[tuple[str, int, int], tempfile.TemporaryDirectory[str]] = {}


def is_archive(path: PathLike) -> bool:
    """Tell by its first bytes and its name whether a file is a ZIP archive."""
    target = to_path(path)
    try:
        with open(target, "rb") as file:
            return target.suffix.lower() == ".zip" and file.read(4) == _START
    except OSError:
        return False


def other_archive(path: PathLike) -> str:
    """Tell by its first bytes which archive a file is that is not unpacked here; "" for a ZIP archive or none."""
    try:
        with open(to_path(path), "rb") as file:
            start = file.read(_TAR_AT + len(_TAR))
    except OSError:
        return ""
    if is_archive(path):
        return ""
    if start[_TAR_AT:] == _TAR:
        return "a tar archive"
    return next((kind for bytes_, kind in _OTHERS.items() if start.startswith(bytes_)), "")


def unpacked(path: PathLike) -> Path:
    """Unpack an archive once in this process; only its owner can read the folder.

    Args:
        path: the ZIP archive.

    Returns:
        The folder. Names in it stay below it whatever the archive says; links in an archive are not made.

    Raises:
        FusionInputError: it is damaged, encrypted, or larger than a study or than the disk holds.
    """
    target = to_path(path)
    facts = target.stat()
    key = (os.path.realpath(target), facts.st_mtime_ns, facts.st_size)
    if key not in _UNPACKED:
        folder = tempfile.TemporaryDirectory(prefix="clinicalfmamba-")
        with refuse_damaged(target, "ZIP archive"), zipfile.ZipFile(target) as archive:
            members = [item for item in archive.infolist() if not item.is_dir() and not _is_link(item)]
            _check(target, members, folder.name)
            for number, item in enumerate(members):
                _unpack(archive, item, Path(folder.name), number)
        _UNPACKED[key] = folder
    return Path(_UNPACKED[key].name)


def _is_link(item: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(item.external_attr >> 16)


def _check(path: Path, members: list[zipfile.ZipInfo], folder: str) -> None:
    size, packed = sum(item.file_size for item in members), path.stat().st_size
    room = shutil.disk_usage(folder).free
    if any(item.flag_bits & 1 for item in members):
        raise input_error(printable(path), "an archive without password", "an encrypted one", "unpack it")
    if size > min(_MOST_BYTES, packed * MAX_COMPRESSION) or len(members) > _MOST_FILES:
        found = f"{len(members)} files of {size / 2**30:.1f} GiB in {packed} bytes"
        raise input_error(printable(path), "an archive of one study", found, "unpack it and name the folder")
    if size > room:
        found = f"{room / 2**30:.1f} GiB of room in {tempfile.gettempdir()}"
        raise input_error(printable(path), f"{size / 2**30:.1f} GiB of room", found, "unpack it elsewhere")


def _unpack(archive: zipfile.ZipFile, item: zipfile.ZipInfo, folder: Path, number: int) -> None:
    """Write one member below the folder, never more of it than the archive says."""
    parts = [part for part in item.filename.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    target = folder.joinpath(*(part.replace("\0", "_")[:200] for part in parts)) if parts else folder / str(number)
    if target.exists() or any(above.is_file() for above in target.parents):
        target = folder / f"{number}_{target.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    left = item.file_size
    with archive.open(item) as source, open(target, "xb") as file:
        while part := source.read(min(2**20, left + 1)):
            left -= len(part)
            if left < 0:
                raise zipfile.BadZipFile("longer than stated")
            file.write(part)
