"""The variables of torchrun: read, or refused in one line; a meeting to which nobody comes ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from clinicalfmamba_nets.engine.run import launcher
from clinicalfmamba_nets.engine.run.launcher import interruptible, launched_rank, meet
from clinicalfmamba_nets.errors import FusionInputError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
WHOLE = {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def launched(monkeypatch):
    """Set these variables and no other of torchrun's."""

    def launch(**variables: str) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return launch


@pytest.mark.parametrize(
    ("variables", "own"),
    [
        ({}, (0, 1, 0)),
        (dict.fromkeys(VARIABLES, ""), (0, 1, 0)),
        ({"RANK": "0"}, (0, 1, 0)),
        ({"WORLD_SIZE": "1"}, (0, 1, 0)),
        ({"RANK": " 0 ", "WORLD_SIZE": "1", "MASTER_PORT": "x"}, (0, 1, 0)),
        (WHOLE, (1, 3, 1)),
        ({**WHOLE, "LOCAL_RANK": ""}, (1, 3, 0)),
    ],
)
def test_places(launched, variables, own) -> None:
    launched(**variables)
    assert launched_rank() == own


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"RANK": "1"}, "WORLD_SIZE"),
        ({"WORLD_SIZE": "2"}, "RANK"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR"),
        ({**WHOLE, "MASTER_ADDR": " "}, "MASTER_ADDR"),
        *(({**WHOLE, "MASTER_PORT": value}, "MASTER_PORT") for value in ("", "http", "0", "-1", "65536", "1.5")),
        *(({**WHOLE, "RANK": value}, "RANK") for value in ("", "one", "-1", "3", "7", "1.0", "²")),
        *(({**WHOLE, "WORLD_SIZE": value}, "WORLD_SIZE") for value in ("", "two", "0", "-2", "2e0")),
        *(({**WHOLE, "LOCAL_RANK": value}, "LOCAL_RANK") for value in ("first", "-1")),
    ],
)
def test_what_is_set_by_half_or_nonsense_is_named(launched, variables, named) -> None:
    launched(**variables)
    with pytest.raises(FusionInputError, match=f"^{named}: expected .*torchrun") as raised:
        launched_rank()
    assert "\n" not in str(raised.value)


def test_a_meeting_to_which_nobody_comes_ends(launched, monkeypatch, unused_port) -> None:
    launched(**{**WHOLE, "RANK": "0", "MASTER_PORT": str(unused_port)})
    monkeypatch.setattr(launcher, "MEETING_TIME", timedelta(seconds=2))
    with pytest.raises(FusionInputError, match="WORLD_SIZE 3: expected 3 processes at 127.0.0.1:"):
        meet(launched_rank(), timedelta(days=1))


def test_what_the_call_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 / 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_ends_the_wait(tmp_path, unused_port, number, rank) -> None:
    command = [sys.executable, "-m", "clinicalfmamba_nets.cli", "fuse", "--phantom", "-o", tmp_path / "out"]
    variables = {**WHOLE, "RANK": str(rank), "MASTER_PORT": str(unused_port)}
    with open(tmp_path / "said.txt", "w+") as said:
        process = subprocess.Popen(list(map(str, command)), env={**os.environ, **variables}, stdout=said, stderr=said)
        end = time.monotonic() + 120
        while "waits at 127.0.0.1" not in (tmp_path / "said.txt").read_text() and time.monotonic() < end:
            time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(20) != 0
    assert f"process {rank} waits" in (tmp_path / "said.txt").read_text()


@pytest.fixture
def unused_port() -> int:
    """A port of this machine that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
