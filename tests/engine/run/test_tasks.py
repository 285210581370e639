"""What follows from the task."""

from __future__ import annotations

import json

import pytest

from clinicalfmamba_nets.engine.run.tasks import (
    FUSION_BUNDLES,
    TASKS,
    bundle_of,
    bundle_tasks,
    choose,
    choose_task,
    default_dataset_dir,
    never_seen,
    task_text,
    weights_path,
)
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


@pytest.mark.parametrize("bundle", FUSION_BUNDLES)
@pytest.mark.parametrize("config", ["inference", "train"])
def test_the_bundles_keep_to_the_table(checkout, bundle, config):
    content = json.loads((checkout / "bundles" / bundle / "configs" / f"{config}.json").read_text())
    graphs = {
        name: content["graphs"][graph.split("::")[1]] if isinstance(graph, str) else graph
        for name, graph in content["graphs"].items()
    }
    assert set(graphs) == set(bundle_tasks(bundle)) and content["task"] == bundle_tasks(bundle)[0]
    for name, graph in graphs.items():
        row = TASKS[name]
        assert {key: value for key, value in graph.items() if key != "weights"} == dict(row.networks[bundle]), name
        assert graph.get("weights", row.weights[bundle]) == row.weights[bundle]


@pytest.mark.parametrize(
    ("words", "color", "volume", "task"),
    [
        (("mri", "ct"), False, False, "ct_mri"),
        (("ct", "mri"), False, True, "ct_mri"),
        (("ct", "pet"), False, True, "pet_mri"),
        (("", ""), False, False, "ct_mri"),
        (("", ""), True, False, "spect_mri"),
        (("t2", "flair"), False, True, "t2_flair"),
        (("flair", "t2"), False, False, "t2_flair"),
        (("", ""), False, True, "t2_flair"),
    ],
)
def test_the_images_choose_the_task(words, color, volume, task):
    assert choose_task(words, color, volume)[0] == task


@pytest.mark.parametrize(
    ("task", "words", "told"),
    [
        ("pet_mri", ("ct", "pet"), "the images are CT and PET: the weights of pet_mri were trained on MRI and PET"),
        ("pet_mri", ("mri", "spect"), "the images are MRI and SPECT: the weights of pet_mri"),
        ("ct_mri", ("ct", ""), "the images are CT and an unnamed image: the weights of ct_mri"),
        (
            "t2_flair",
            ("t2", "adc"),
            "the images are T2 and ADC map: the weights of t2_flair were trained on T2 and FLAIR",
        ),
        ("ct_mri", ("phase", "ct"), "the images are phase map and CT: the weights of ct_mri"),
        ("t2_flair", ("t1", "pd"), ""),
        ("spect_mri", ("t2", "spect"), ""),
        ("ct_mri", ("", ""), ""),
        ("generic", ("ct", "pet"), ""),
    ],
)
def test_other_modalities_than_those_of_the_training_are_told(task, words, told):
    assert never_seen(task, words).startswith(told) and bool(never_seen(task, words)) == bool(told)


def test_every_task_has_a_bundle_for_volumes():
    for name, row in TASKS.items():
        assert bundle_of(name, volume=True) in row.bundles
    with pytest.raises(FusionInputError, match="expected volumes, found a single image"):
        bundle_of("t2_flair_planar", volume=False)


def test_the_list_marks_weights_that_are_not_there(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").touch()
    text = task_text([TASKS["ct_mri"], TASKS["pet_mri"]], {"fusion_2d": tmp_path})
    assert [line.split("  fusion_2d ")[-1] for line in text.splitlines()[1:]] == [
        "model.pt, fusion_3d model.pt (not there; train it)",
        "model_pet_mri.pt (not there; train it), fusion_3d model.pt (not there; train it)",
    ]
    assert "not there" not in task_text()
