"""Errors that a user of the package can cause, each told in one line."""

from __future__ import annotations


class FusionInputError(ValueError):
    """An input that cannot be fused; the message names the file or id, what was expected and found, the remedy."""


class FusionWarning(UserWarning):
    """What changes the meaning of a result without making it impossible, told in one line."""


def input_error(what: object, expected: str, found: str, remedy: str) -> FusionInputError:
    """Build the one-line error of this package.

    Args:
        what: the file, case or option at fault.
        expected: what would have been right.
        found: what is there.
        remedy: what the user can do about it.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> str(input_error("ct.png", "256 x 256 pixels", "255 x 240", "resample it to the MRI's grid"))
        "ct.png: expected 256 x 256 pixels, found 255 x 240; resample it to the MRI's grid"
    """
    text = f"{what}: expected {expected}, found {found}; {remedy}"
    return FusionInputError(" ".join(text.split()))
