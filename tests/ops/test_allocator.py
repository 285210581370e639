"""The allocator's thresholds: large blocks stay in the process, unless that is switched off."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from clinicalfmamba_nets.ops.native import tune_allocator

CODE = """
import resource, torch
from clinicalfmamba_nets.ops.native import tune_allocator
tuned = tune_allocator()
for _ in range(20):  # aligned blocks wander a little until the heap has room for each
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(2**24)
print(int(tuned), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the thresholds are glibc's")


def page_faults(**environment: str) -> tuple[int, int]:
    """Whether the thresholds were set, and the page faults of five 64 MiB tensors after twenty others."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    tuned, faults = map(int, done.stdout.split())
    return tuned, faults


@pytest.mark.slow
@on_glibc
def test_large_tensors_reuse_their_pages() -> None:
    assert page_faults(CLINICALFMAMBA_MALLOC="default")[0] == 0
    untouched = page_faults(CLINICALFMAMBA_MALLOC="default")[1]
    tuned, faults = page_faults(CLINICALFMAMBA_MALLOC="")
    assert tuned == 1
    assert faults < untouched / 4, (faults, untouched)


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert tune_allocator() is False
