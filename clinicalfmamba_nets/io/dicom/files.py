"""Which files of a folder, a DICOMDIR or a list are DICOM, found without following anything out of the folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.dicom.archive import is_archive, other_archive, unpacked
from clinicalfmamba_nets.io.dicom.parsing import quiet_pydicom, read_dataset
from clinicalfmamba_nets.io.files import PathLike, check_file, printable, to_path
from clinicalfmamba_nets.io.raw import refuse_damaged

SELECTOR = "::"
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory
_NAMED_AT_MOST = 5
_FILES_AT_MOST = 200_000


def split_selector(path: PathLike) -> tuple[Path, str]:
    """Split `folder::selector` into the folder and what chooses one of its series; "" where nothing does.

    Example:
        >>> split_selector("study::CT")
        (PosixPath('study'), 'CT')
    """
    text = os.fsdecode(path)
    base, mark, selector = text.rpartition(SELECTOR)
    return (to_path(base), selector) if mark and base and not os.path.exists(text) else (to_path(text), "")


def starts_like_dicom(path: PathLike) -> bool:
    """Tell from its first bytes whether a file is DICOM, with the preamble or, as old files are, without."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return False
    if start[128:132] == b"DICM":
        return True
    # Without preamble: the first element is of group 2 or 8, with a small number behind it, in either byte order.
    return len(start) >= 8 and start[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08") and start[3:4] in (b"\0", b"\5")


def is_dicom(path: PathLike) -> bool:
    """Tell whether a path is read as DICOM: a folder, ZIP archive or `.dcm` file, or a file that starts like one."""
    target, selector = split_selector(path)
    if selector or target.is_dir():
        return True
    if target.name.lower().endswith(".dcm"):
        return True
    return target.is_file() and (starts_like_dicom(target) or is_archive(target))


def holds_dicom(folder: PathLike) -> bool:
    """Tell whether a file below a folder, or in a ZIP archive, is DICOM; it ends at the first one."""
    target, _ = split_selector(folder)
    if target.is_file() and is_archive(target):
        return True
    return any(_is_candidate(item) and starts_like_dicom(item) for item in walk_files(target, [], []))


def find_dicom_files(path: PathLike | Sequence[PathLike]) -> tuple[list[Path], list[str], list[Path]]:
    """Find the DICOM files of a folder (at any depth), a DICOMDIR, a ZIP archive, one file or a list of files.

    A folder that is a link is followed, and told where it leads out. Links of single files that lead out of a folder
    and names in a DICOMDIR that do so are not followed. Nothing but regular files is opened.

    Args:
        path: folder, DICOMDIR, file, or a list of files.

    Returns:
        The files, sorted by name; notes about what was left out and why; and files that a DICOMDIR names in vain.

    Raises:
        FusionInputError: nothing is there, or none of it is DICOM.
    """
    if isinstance(path, Sequence) and not isinstance(path, str | bytes):
        return [_checked(item) for item in path], [], []
    target, _ = split_selector(path)
    if target.is_dir():
        return _in_folder(target)
    if target.is_file() and is_archive(target):
        return _in_folder(unpacked(target), printable(target))
    target = _checked(path)
    return _in_directory(target) if _is_directory(target) else ([target], [], [])


def _checked(path: PathLike) -> Path:
    target = check_file(split_selector(path)[0], "a DICOM file, DICOMDIR or folder")
    if not starts_like_dicom(target):
        packed = other_archive(target)
        if packed:
            raise input_error(printable(target), "a DICOM file, folder or ZIP archive", packed, "unpack it")
        with open(target, "rb") as file:
            found = f"a file that starts with {file.read(8)!r}"
        raise input_error(printable(target), "a DICOM file", found, "export it as DICOM")
    return target


def walk_files(folder: Path, links: list[Path], closed: list[OSError]) -> Iterator[Path]:
    """Yield the files below a folder in order of their names, each folder once, whatever links lead to it.

    Args:
        folder: where to start.
        links: gets the linked folders that lead out of it.
        closed: gets the errors of folders that cannot be read.

    Raises:
        FusionInputError: more files than any study has.
    """
    root, seen, count = os.path.realpath(folder), {os.path.realpath(folder)}, 0
    for place, folders, names in os.walk(os.fspath(folder), onerror=closed.append, followlinks=True):
        kept = []
        for name in sorted(folders):
            item = os.path.join(place, name)
            real = os.path.realpath(item) if os.path.islink(item) else item
            if os.path.islink(item) and (real in seen or Path(root).is_relative_to(real)):
                continue
            links += [Path(item)] if os.path.islink(item) and not Path(real).is_relative_to(root) else []
            if os.path.islink(item) and Path(real).is_relative_to(root):
                continue  # it is walked where it lies
            seen.add(os.path.realpath(item))
            kept.append(name)
        folders[:] = kept
        count += len(names)
        if count > _FILES_AT_MOST:
            expected = f"a folder of at most {_FILES_AT_MOST} files"
            raise input_error(printable(folder), expected, f"{count} and more", "name the folder of one study")
        yield from (Path(place, name) for name in sorted(names))


def _is_candidate(path: Path) -> bool:
    """Tell whether a file is a regular one: pipes and devices are never opened."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def renamed(text: str, path: Path) -> str:
    """Name an archive in a message where the folder stands that it was unpacked into."""
    if path.is_dir() or not path.is_file() or not is_archive(path):
        return text
    return text.replace(f"{printable(unpacked(path))}/", f"{printable(path)}/")


def _in_folder(folder: Path, name: str = "") -> tuple[list[Path], list[str], list[Path]]:
    root = os.path.realpath(folder)
    found: list[Path] = []
    other: list[Path] = []
    outside: list[Path] = []
    links: list[Path] = []
    closed: list[OSError] = []
    empty: list[Path] = []
    for item in walk_files(folder, links, closed):
        if item.is_symlink() and not Path(os.path.realpath(item)).is_relative_to(root):
            outside.append(item)
        elif not _is_candidate(item) or not starts_like_dicom(item):
            (empty if _is_candidate(item) and not item.stat().st_size else other).append(item)
        elif not item.name.upper().startswith("DICOMDIR") or not _is_directory(item):
            found.append(item)
    names = {_without_number(item) for item in found}
    found += [item for item in empty if _without_number(item) in names]  # what reads it tells that it is lost
    other += [item for item in empty if _without_number(item) not in names]
    notes = [f"not DICOM, left out: {_names(sorted(other), folder)}"] if other else []
    notes += [f"linked folders, followed: {_names(links, folder)}"] if links else []
    notes += [f"links out of the folder, left out: {_names(outside, folder)}"] if outside else []
    shut = [Path(os.fsdecode(error.filename)) for error in closed if error.filename]
    notes += [f"folders that cannot be read, left out: {_names(shut, folder)}"] if shut else []
    if not found:
        what = f"{len(other) + len(outside)} other files" if other or outside else "an empty folder"
        what = "folders without permission to read them" if shut and not other and not outside else what
        what += f", links that lead out of it among them ({_names(outside, folder)})" if outside else ""
        raise input_error(name or printable(folder), "a folder with DICOM images", what, "check the path")
    return found, notes, []


def _without_number(path: Path) -> tuple[Path, str]:
    """Return the folder and the name of a file without its digits, which files of one export have in common."""
    return path.parent, re.sub(r"\d+", "", path.name)


def _names(items: list[Path], folder: Path) -> str:
    told = ", ".join(printable(item.relative_to(folder)) for item in items[:_NAMED_AT_MOST])
    return told + (f" and {len(items) - _NAMED_AT_MOST} more" if len(items) > _NAMED_AT_MOST else "")


def _is_directory(path: Path) -> bool:
    from pydicom.filereader import read_file_meta_info

    try:
        with quiet_pydicom():
            return str(read_file_meta_info(path).get("MediaStorageSOPClassUID", "")) == _DIRECTORY
    except Exception:  # the reader of images tells what is wrong with the file
        return False


def _in_directory(path: Path) -> tuple[list[Path], list[str], list[Path]]:
    """Return the files that the image records of a DICOMDIR name, whatever the order and links of its records."""
    root = os.path.realpath(path.parent)
    found: list[Path] = []
    absent: list[Path] = []
    with refuse_damaged(path, "DICOMDIR"), quiet_pydicom():
        for record in read_dataset(path).get("DirectoryRecordSequence") or []:
            parts = record.get("ReferencedFileID")
            parts = [parts] if isinstance(parts, str) else list(parts or [])
            if not parts:
                continue
            item = path.parent.joinpath(*(str(part) for part in parts))
            if not Path(os.path.realpath(item)).is_relative_to(root):
                remedy = "correct the DICOMDIR, or name the folder of the images"
                raise input_error(printable(path), "names inside its folder", printable(item), remedy)
            (found if item.is_file() else absent).append(item)
    if not found:
        what = f"no such file: {_names(absent, path.parent)}" if absent else "none"
        raise input_error(printable(path), "a DICOMDIR that names images", what, "name the folder of the images")
    notes = [f"named by the DICOMDIR and not there: {_names(absent, path.parent)}"] if absent else []
    return sorted(found), notes, absent
