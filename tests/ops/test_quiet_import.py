"""Importing the scan tells the user nothing: it scripts a function, of which torch warns from 2.14 on."""

from __future__ import annotations

import runpy
import warnings


def test_no_word_of_torchscript():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        runpy.run_module("clinicalfmamba_nets.ops.chunked")
    assert not [warning for warning in told if "torch.jit" in str(warning.message)]
