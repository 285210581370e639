"""Which files of a folder, a DICOMDIR or a list are DICOM, found without following anything out of the folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.dicom.header import quiet_pydicom, read_dataset
from clinicalfmamba_nets.io.files import PathLike, check_file, printable, to_path
from clinicalfmamba_nets.io.raw import damage_told

SELECTOR = "::"
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory
_NAMED_AT_MOST = 5


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
    """Tell whether a path is read as DICOM: a folder, a `.dcm` file or DICOMDIR, or a file that starts like one."""
    target, selector = split_selector(path)
    if selector or target.is_dir():
        return True
    return target.name.lower().endswith(".dcm") or (target.is_file() and starts_like_dicom(target))


def holds_dicom(folder: PathLike, looked_at: int = 500) -> bool:
    """Tell whether one of the first files below a folder is DICOM.

    Args:
        folder: where to look, at any depth.
        looked_at: number of files that are opened at most.
    """
    target, _ = split_selector(folder)
    for place, _, names in os.walk(os.fsencode(target)):
        for name in sorted(names):
            if starts_like_dicom(os.path.join(place, name)):
                return True
            looked_at -= 1
            if looked_at == 0:
                return False
    return False


def find_dicom_files(path: PathLike | Sequence[PathLike]) -> tuple[list[Path], list[str], list[Path]]:
    """Find the DICOM files of a folder (at any depth), a DICOMDIR, one file or a list of files.

    Links that lead out of a folder and names in a DICOMDIR that do so are not followed.

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
    target = _checked(path)
    return _in_directory(target) if _is_directory(target) else ([target], [], [])


def _checked(path: PathLike) -> Path:
    target = check_file(split_selector(path)[0], "a DICOM file, DICOMDIR or folder")
    if not starts_like_dicom(target):
        with open(target, "rb") as file:
            found = f"a file that starts with {file.read(8)!r}"
        raise input_error(printable(target), "a DICOM file", found, "export it as DICOM")
    return target


def _in_folder(folder: Path) -> tuple[list[Path], list[str], list[Path]]:
    root = os.path.realpath(folder)
    found, other, outside = [], [], []
    for place, folders, names in os.walk(folder):
        folders.sort()
        for item in (Path(place) / name for name in sorted(names)):
            if item.is_symlink() and not Path(os.path.realpath(item)).is_relative_to(root):
                outside.append(item)
            elif not item.is_file() or not starts_like_dicom(item):
                other.append(item)
            elif not item.name.upper().startswith("DICOMDIR") or not _is_directory(item):
                found.append(item)
    notes = [f"not DICOM, left out: {_names(other, folder)}"] if other else []
    notes += [f"links out of the folder, left out: {_names(outside, folder)}"] if outside else []
    if not found:
        what = f"{len(other) + len(outside)} other files" if other or outside else "an empty folder"
        raise input_error(printable(folder), "a folder with DICOM images", what, "check the path")
    return found, notes, []


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
    with damage_told(path, "DICOMDIR"), quiet_pydicom():
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
