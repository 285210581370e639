"""The end of a program at a signal, also where the signal comes while Python would drop the error."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any, NoReturn

AGAIN = 0.01  # seconds until a dropped error is raised again


def raise_until_heard(error: BaseException) -> NoReturn:
    """Raise an error out of a signal's handler, and again for as long as it is dropped.

    A handler runs wherever its program is, also in a destructor or in the callback of a weak reference, whose errors
    Python prints and forgets: the program went on then, deaf to further signals.

    Args:
        error: such as SystemExit.

    Raises:
        BaseException: the error.
    """

    def raise_again(number: int, frame: FrameType | None) -> NoReturn:
        raise error

    def dropped(unraisable: Any) -> None:
        if unraisable.exc_value is error:
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            known(unraisable)

    if hasattr(signal, "setitimer"):  # not on Windows
        known, sys.unraisablehook = sys.unraisablehook, dropped
        signal.signal(signal.SIGALRM, raise_again)
    raise error
