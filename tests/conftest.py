"""Where the tests find real data: CLINICALFMAMBA_DATA, else shared/data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def _shared_data() -> Path:
    return Path(os.environ.get("CLINICALFMAMBA_DATA") or CHECKOUT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real pairs, volumes and malformed inputs; the test is skipped, with the reason, where it is absent."""
    folder = _shared_data()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set CLINICALFMAMBA_DATA to the folder that holds aanlib/ and bad/")
    return folder


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Folder with reference outputs of the published network, beside the data folder."""
    folder = _shared_data().parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden cases at {folder}: set CLINICALFMAMBA_DATA to a data folder with golden/ beside it")
    return folder


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Root of the checkout."""
    return CHECKOUT
