"""A program that a signal stops while a destructor runs."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
PROGRAM = """
import os, signal, sys, time
{handler}

class Closed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(9):
            time.sleep(0.001)

signal.signal(signal.SIGTERM, stop)
try:
    for _ in range(3):
        Closed()
    for _ in range(500):
        time.sleep(0.01)
    print("went on")
finally:
    print("cleaned up")
"""
HANDLERS = {
    "bundle": "from clinicalfmamba_nets.engine.run.failures import _stop as stop",
    "command line": "from clinicalfmamba_nets.cli.commands import stop",
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_a_stop_in_a_destructor_is_heard(handler) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(handler=handler)], capture_output=True, text=True)
    assert done.stdout == "cleaned up\n" and done.returncode != 0, done.stderr
    assert "ignored" not in done.stderr
