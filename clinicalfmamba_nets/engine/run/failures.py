"""Tell a user's error in one line, out of the chain of errors that MONAI wraps around it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
from types import FrameType, TracebackType

from clinicalfmamba_nets.engine.run.stopping import raise_until_heard
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.files import printable

BUNDLE_PROGRAMS = ("monai.bundle.__main__", "monai.bundle")
STOPPED = "stopped by the user; a training goes on from its last whole epoch with --resume true"
# What the system says no to: what was expected, and what a user can do about it.
_ROOM = ("room on the disk", "free some space, or name another folder")
_NAME = ("a name that the file system takes", "shorten the name of the case or of its folder")
_RIGHTS = ("permission for it", "change the permissions, or name another folder")
_FILES = ("fewer open files", "raise the limit (ulimit -n), or use fewer workers")
_DISK = ("a disk that works", "check the disk, copy the data")
_FOLDER = ("a folder, or a name that is free", "name another folder")
_SYSTEM = {
    errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EFBIG: _ROOM, errno.ENAMETOOLONG: _NAME, errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS, errno.EROFS: _RIGHTS, errno.EMFILE: _FILES, errno.ENFILE: _FILES, errno.EIO: _DISK,
    errno.EEXIST: _FOLDER, errno.ENOTDIR: _FOLDER, errno.EISDIR: ("a file", "name a file"),
}  # fmt: skip
# How libraries tell in words of their own that the memory, or the disk, is full.
_NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory|cannot allocate", re.IGNORECASE)
# How MONAI wraps what a component or an expression of a configuration raises; not the run itself.
_WRAPPED = re.compile(r"Failed to (?:instantiate component|evaluate ConfigExpression)(?!.*\.run\(\))", re.DOTALL)
_NO_TARGET = re.compile(r"Cannot locate class or function path: '(.*)'")
_ONE_VALUE = re.compile(r"more than 1 (?:value per channel|spatial element) when training")
_NO_ROOM = re.compile(r"PytorchStreamWriter failed writing|No space left on device")


def find_input_error(error: BaseException | None) -> FusionInputError | None:
    """Return the user's error that caused `error`, or None when the cause is something else.

    MONAI wraps what fails in an expression, a component or a transform in a RuntimeError; a data loader's worker
    hands over the text of the traceback alone. Both are looked through.

    Args:
        error: what was caught.

    Example:
        >>> str(find_input_error(FusionInputError("ct.png: expected an image")))
        'ct.png: expected an image'
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, FusionInputError):
            return error
        told = re.findall(r"^(?:\w+\.)*FusionInputError: (.+)$", str(error), flags=re.MULTILINE)
        if told:
            return FusionInputError(told[-1])
        known = _system_error(error) or _setting_error(error)
        if known is not None:
            return known
        error = error.__cause__ or error.__context__
    return None


def _system_error(error: BaseException) -> FusionInputError | None:
    """Tell an error of the system, such as a full disk, as one of the user's; None for any other."""
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        expected, remedy = _SYSTEM[error.errno]
        name = error.filename2 or error.filename or "a file"
        found = os.strerror(error.errno)
        return input_error(printable(name) if isinstance(name, str | bytes) else "a file", expected, found, remedy)
    words = " ".join(str(error).split())[:200]
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(words)):
        remedy = "crop the images, close other programs, name another --device, or use a machine with more memory"
        return input_error("memory", "enough of it", words or "none left", remedy)
    if isinstance(error, ValueError) and _ONE_VALUE.search(words):
        remedy = "enlarge the images that are trained on (patch_size, roi_size), or batch_size so that none is alone"
        return input_error("batch normalization", "more than one value of a channel in each step", words, remedy)
    if isinstance(error, RuntimeError) and _NO_ROOM.search(words):
        return input_error("a file", _ROOM[0], "No space left on device", _ROOM[1])
    return None


def _setting_error(error: BaseException) -> FusionInputError | None:
    """Tell what a component says of the settings that it was made with; None for any other error."""
    missing = _NO_TARGET.search(str(error)) if isinstance(error, ModuleNotFoundError) else None
    if missing:
        remedy = "correct the name; a module of your own must lie where Python looks (PYTHONPATH)"
        return input_error(f"_target_ {missing.group(1)}", "a class that Python can import", "none", remedy)
    cause = error.__cause__
    if type(cause) in (TypeError, ValueError) and isinstance(error, RuntimeError) and _WRAPPED.match(str(error)):
        made = re.search(r"[\"'$]([\w.]+)", str(error))
        words = " ".join(str(cause).split())[:400]
        where, remedy = made.group(1) if made else "a component", "change the setting; --debug tells where"
        return input_error(f"settings of {where}", "values that it takes", words, remedy)
    return None


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = find_input_error(error)
    if issubclass(kind, KeyboardInterrupt):
        print(f"error: {STOPPED}", file=sys.stderr)
    elif cause is None or os.environ.get("CLINICALFMAMBA_DEBUG"):
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {cause}", file=sys.stderr)


def is_bundle_program() -> bool:
    """Return whether this process is `python -m monai.bundle`, also below torchrun."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name in BUNDLE_PROGRAMS


def tell_errors_in_one_line() -> None:
    """Make `python -m monai.bundle` end with one line where the user's input is at fault.

    Other programs are left alone. The exit code is 1, also after a signal (SIGINT, SIGTERM). The traceback is shown
    where CLINICALFMAMBA_DEBUG is set.
    """
    if is_bundle_program():
        sys.stdout.flush()
        sys.excepthook = _tell
        with contextlib.suppress(ValueError):  # not the main thread: whoever runs that one decides about signals
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    """End a run at a signal: one line, exit code 1, everything cleaned up on the way."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)  # once is enough
    print(f"error: {STOPPED}", file=sys.stderr, flush=True)
    raise_until_heard(SystemExit(1))
