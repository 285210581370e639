"""The phantom as a DICOM study: what a newcomer without a study of their own tries the commands with."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.data import write_phantom_study
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.study import choose_pair, list_series


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.dcm")}


@pytest.mark.parametrize(("second", "kind", "least", "greatest"), [("ct", "CT", -1000, 1200), ("pet", "PT", 0, 30000)])
def test_a_study_of_two_series_that_are_chosen_as_a_pair(tmp_path, second, kind, least, greatest):
    uids = write_phantom_study(tmp_path / "study", second, size=64, slices=5)
    assert uids == write_phantom_study(tmp_path / "again", second, size=64, slices=5)
    assert contents(tmp_path / "study") == contents(tmp_path / "again")
    rows = list_series(tmp_path / "study")
    assert [row.header.series for row in rows] == uids[1:] and all(row.text().count("  ok") == 1 for row in rows)
    assert all("::" in path for path in choose_pair(tmp_path / "study"))
    mr, ours = (read_image(tmp_path / "study" / name)[0] for name in ("MR", kind))
    assert mr.shape == ours.shape == (64, 64, 5)
    assert ours.min() == least and 0.5 * greatest < ours.max() <= greatest
    assert np.count_nonzero(mr[:, :, 2]) > 3 * np.count_nonzero(mr[:, :, 0]) > 0, "a head narrows upwards"


def test_another_second_image_is_refused(tmp_path):
    with pytest.raises(FusionInputError, match="expected one of ct, pet, found another name"):
        write_phantom_study(tmp_path / "study", "us")
    assert not (tmp_path / "study").exists()
