"""Bone in each window: the template's numbers in HU, and the table of the phantom study."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.windows import WINDOWS, hounsfield, main


def test_the_numbers_of_the_template_rise_without_a_step():
    values = hounsfield(np.arange(0.0, 4001.0))
    assert values[[0, 900, 2000, 3100, 4000]].tolist() == [-1000, -100, 0, 100, 1000]
    assert (np.diff(values) > 0).all() and np.diff(values).max() <= 1


@pytest.mark.slow
def test_the_phantom_keeps_its_bone_in_every_window(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["windows"])
    main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0].strip() for row in rows] == list(WINDOWS)
    assert all(float(row[2]) > 0.97 and float(row[3]) < 0.03 for row in rows)
