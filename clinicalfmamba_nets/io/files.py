"""Checks before a file is read, and writing that leaves a whole file or none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.errors import input_error

PathLike = str | bytes | os.PathLike
# How file names of each format end, and how a result of an image in it ends where that is not the same.
ENDINGS = {
    "nifti": (".nii.gz", ".nii", ".img.gz", ".hdr.gz", ".img", ".hdr"),
    "nrrd": (".nrrd", ".nhdr"),
    "metaimage": (".mha", ".mhd"),
    "mgh": (".mgz", ".mgh"),
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "tiff": (".tif", ".tiff"),
    "dicom": (".dcm",),
}
# Reading keeps at most the stored voxels, a float copy of both images and the network's input at the same time.
_MEMORY_SHARE = 0.8
# The network computes in float32: squares and differences of greater values overflow there.
_GREATEST = 1e18
# Smaller ones, and less than so many steps between the least and the greatest, are lost in it.
_LEAST, _LEVELS, _STEP, _EXACT = 1e-37, 256, 2.0**-23, 2.0**24
_LONGEST_NAME = 180  # bytes; what follows it in a file's name fits into 255
# Unicode categories without a shape of their own: controls, directions, lone surrogates, line ends.
_CONTROLS = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def to_path(path: PathLike) -> Path:
    """Return `path` as a Path; names that are no valid UTF-8 keep their bytes."""
    return Path(os.fsdecode(path))


def printable(path: PathLike) -> str:
    r"""Return a file name that any terminal, log or JSON file can hold.

    Args:
        path: file name, with any bytes in it.

    Returns:
        The name with undecodable bytes and control characters as backslash escapes.

    Example:
        >>> printable(b"scan_\xff.nii.gz")
        'scan_\\xff.nii.gz'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _CONTROLS else character
        for character in text
    )


def check_file(path: PathLike, expected: str = "an image file") -> Path:
    """Refuse what is not a readable file with something in it.

    Args:
        path: the file.
        expected: what should be there, for the message.

    Returns:
        The path.

    Raises:
        FusionInputError: the file is missing, a folder, a device, not readable or empty.
    """
    target, name = to_path(path), printable(path)
    if not target.exists():
        raise input_error(name, expected, "no such file", "check the path")
    if target.is_dir():
        raise input_error(name, expected, "a folder", "name a file in it")
    if not target.is_file():
        raise input_error(name, expected, "something that is not a regular file", "copy the data into a file")
    if not os.access(target, os.R_OK):
        raise input_error(name, expected, "a file without permission to read it", "change its permissions")
    if target.stat().st_size == 0:
        raise input_error(name, expected, "0 bytes", "copy or export the file again")
    return target


def available_memory() -> int | None:
    """Return the bytes that this process can still use, from the system and its control group; None if unknown."""
    candidates = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        candidates += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        candidates.append(limit - int((group / "memory.current").read_text()))
    return max(min(candidates), 0) if candidates else None


def check_memory(path: PathLike, needed: int) -> None:
    """Refuse an image that does not fit into the memory that is left, before any of it is allocated.

    Args:
        path: the file, for the message.
        needed: bytes that reading it takes.

    Raises:
        FusionInputError: `needed` is above 80 % of the available memory.
    """
    available = available_memory()
    if available is not None and needed > _MEMORY_SHARE * available:
        found = f"an image that needs {needed / 2**30:.1f} GiB"
        expected = f"at most {_MEMORY_SHARE * available / 2**30:.1f} GiB"
        raise input_error(printable(path), expected, found, "crop it or use a machine with more memory")


def percent(part: int, whole: int) -> str:
    """Return a share in percent for a message, with two digits or whole.

    Example:
        >>> percent(1, 30000), percent(1, 8), percent(997, 1000)
        ('0.0033 %', '12 %', '100 %')
    """
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def check_values(array: Any, name: str) -> None:
    """Refuse pixels that cannot be fused: complex, structured, NaN, infinite, or too great for float32.

    Args:
        array: numpy array, any shape.
        name: printable name for the message.

    Raises:
        FusionInputError: naming the kind and the share of bad values.
    """
    import numpy as np

    if array.size == 0:
        raise input_error(name, "an image with pixels", f"shape {tuple(array.shape)}", "export the image again")
    if array.dtype.kind not in "biuf":
        raise input_error(name, "real numbers", f"{array.dtype} values", "save the magnitude or one channel")
    if array.dtype.kind == "f":
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            found = f"{bad} NaN or infinite values ({percent(bad, array.size)})"
            raise input_error(name, "finite values", found, "replace them, for example by the background value")
    if array.dtype.kind == "f" or array.dtype.itemsize > 3:
        _check_precision(float(array.min()), float(array.max()), name)


def _check_precision(low: float, high: float, name: str) -> None:
    """Refuse values that float32, in which all is computed, does not hold or does not tell apart."""
    greatest = max(high, -low)
    if greatest > _GREATEST:
        raise input_error(name, f"values up to {_GREATEST:g}", f"values up to {greatest:.3g}", "scale them down")
    if 0 < greatest < _LEAST:
        raise input_error(name, f"values from {_LEAST:g} on", f"values up to {greatest:.3g}", "scale them up")
    whole = high - low >= 1 and greatest <= _EXACT
    if 0 < high - low < _LEVELS * _STEP * greatest and not whole:
        found = f"values that differ by {high - low:.3g} around {low:.4g}"
        raise input_error(name, f"values in {_LEVELS} steps of single precision", found, "subtract their offset")


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[Path]:
    """Give a temporary name in the folder of `path`; it takes the place of `path` only when all went well.

    Args:
        path: the file to be written; its folder is made where needed.

    Yields:
        The temporary file's path. A killed process leaves at most a hidden file ending in ".tmp", never half of `path`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_file(folder / "a.txt") as partial:
        ...     _ = partial.write_text("whole")
        >>> [file.name for file in folder.iterdir()]
        ['a.txt']
    """
    target = to_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        if not isinstance(error.filename, str | bytes) or error.filename == os.fspath(partial):
            error.filename = os.fspath(target)  # a full disk is told without a name, and nobody knows the hidden one
        raise
    finally:
        partial.unlink(missing_ok=True)


def case_name(name: PathLike) -> str:
    r"""Return a name for the output files of a case that stays in its folder and suits every file system.

    Args:
        name: a case's name, or the path of its file: folder and image suffix are dropped.

    Returns:
        1 to 180 bytes of UTF-8; separators, control characters and undecodable bytes replaced, no dot at the start. A
        longer name is cut and ends in a sum of the whole, so that names that differ stay apart.

    Example:
        >>> case_name("..\\..\\evil.nii.gz"), case_name("scans/16011.png"), case_name("patient 7")
        ('evil', '16011', 'patient 7')
    """
    text = os.fsdecode(name).replace("\\", "/").rstrip("/").split("/")[-1]
    endings = [*(end for ends in ENDINGS.values() for end in ends), ".zip"]
    ending = next((end for end in endings if text.lower().endswith(end)), "")
    text = text[: -len(ending)] if ending not in ("", ".dcm", text.lower()) else text
    return safe_name(text)


def other_nifti(name: str) -> str:
    """Return a file's name with the other ending of NIfTI; "" where it has none of the two.

    Of a.nii and a.nii.gz in one folder, ITK gives the voxels of a.nii for both.

    Example:
        >>> other_nifti("7_fused.nii.gz"), other_nifti("7_fused.nii"), other_nifti("7_fused.png")
        ('7_fused.nii', '7_fused.nii.gz', '')
    """
    if name.endswith(".nii.gz"):
        return name.removesuffix(".gz")
    return f"{name}.gz" if name.endswith(".nii") else ""


def safe_name(name: str) -> str:
    """Return the name of a case as a part of file names: as `case_name`, of a text that is no path.

    Example:
        >>> safe_name("a.nii"), safe_name("a"), len(safe_name("x" * 300))
        ('a.nii', 'a', 180)
    """
    text = name.replace("\\", "_").replace("/", "_")
    text = "".join(_plain(character) for character in text).strip(". ") or "case"
    if len(text.encode()) <= _LONGEST_NAME:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:16]
    return text.encode()[: _LONGEST_NAME - 17].decode(errors="ignore") + "~" + mark


def _plain(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte that is no UTF-8
        return f"%{ord(character) - 0xDC00:02x}"
    return "_" if character in '<>:"|?*' or unicodedata.category(character) in _CONTROLS else character
