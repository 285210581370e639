"""What follows from the task."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets.engine.run.tasks import choose, default_dataset_dir, weights_path
from clinicalfmamba_nets.errors import FusionInputError


def test_choose_by_task():
    assert choose({"ct_mri": 1, "pet_mri": 2}, "pet_mri") == 2
    with pytest.raises(FusionInputError, match="task: expected one of ct_mri, pet_mri, found 'ct'"):
        choose({"ct_mri": 1, "pet_mri": 2}, "ct")


@pytest.mark.parametrize(("task", "name"), [("ct_mri", "model.pt"), ("spect_mri", "model_spect_mri.pt")])
def test_weights_of_a_task(tmp_path, task, name):
    assert weights_path(tmp_path, task) == str(tmp_path / "models" / name)


def test_data_folder_of_the_environment(tmp_path, monkeypatch):
    (tmp_path / "aanlib").mkdir()
    monkeypatch.setenv("CLINICALFMAMBA_DATA", str(tmp_path))
    assert default_dataset_dir() == str(tmp_path / "aanlib")
