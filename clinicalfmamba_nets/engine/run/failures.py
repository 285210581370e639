"""Tell a user's error in one line, out of the chain of errors that MONAI wraps around it."""

from __future__ import annotations

import os
import re
import sys
from types import TracebackType

from clinicalfmamba_nets.errors import FusionInputError

BUNDLE_PROGRAMS = ("monai.bundle.__main__", "monai.bundle")


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
        error = error.__cause__ or error.__context__
    return None


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = find_input_error(error)
    if issubclass(kind, KeyboardInterrupt):
        print(
            "error: stopped by the user; a training goes on from its last whole epoch with --resume true",
            file=sys.stderr,
        )
    elif cause is None or os.environ.get("CLINICALFMAMBA_DEBUG"):
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {cause}", file=sys.stderr)


def tell_errors_in_one_line() -> None:
    """Make `python -m monai.bundle` end with one line where the user's input is at fault.

    Other programs are left alone. The exit code stays 1. The traceback is shown where CLINICALFMAMBA_DEBUG is set.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name in BUNDLE_PROGRAMS:
        sys.stdout.flush()
        sys.excepthook = _tell
