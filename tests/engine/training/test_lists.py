"""The pairs of a run: a data list, the atlas folders, or any folder of pairs."""

from __future__ import annotations

import json

import pytest

from clinicalfmamba_nets.data import write_phantom_pair
from clinicalfmamba_nets.engine.fusion.lists import pair_datalist
from clinicalfmamba_nets.engine.training import lists as module
from clinicalfmamba_nets.engine.training.lists import add_phantoms, training_datalist
from clinicalfmamba_nets.errors import FusionInputError, FusionWarning
from clinicalfmamba_nets.io import read_image


def test_a_data_list_goes_first(tmp_path):
    write_phantom_pair(tmp_path, size=32)
    (tmp_path / "list.json").write_text(
        json.dumps({"testing": [{"image": "mri.png", "image2": "ct.png", "case": "a"}]})
    )
    (pair,) = pair_datalist("nowhere", "ct_mri", tmp_path / "list.json")
    assert pair["case"] == "a"
    assert pair["image"] == str(tmp_path / "mri.png")


@pytest.mark.parametrize("strict", [True, False])
def test_pairs_in_the_other_order_are_told(tmp_path, strict, recwarn):
    write_phantom_pair(tmp_path, size=32)
    entries = [{"image": "ct.png", "image2": "mri.png", "case": "a"}, {"image": "mri.png", "image2": "ct.png"}]
    (tmp_path / "list.json").write_text(json.dumps({"testing": entries}))
    with pytest.warns(FusionWarning, match=r"1 of 2 pairs \(a\), by the names .* have CT first and MRI second: ct_mri"):
        pair_datalist("nowhere", "ct_mri", tmp_path / "list.json", strict=strict)
    (tmp_path / "list.json").write_text(json.dumps({"testing": entries[1:]}))
    recwarn.clear()
    pair_datalist("nowhere", "ct_mri", tmp_path / "list.json", strict=strict)
    assert not recwarn.list


@pytest.mark.parametrize("key", ["validation", "val"])
def test_pairs_for_validation_that_are_not_read_are_told(tmp_path, key, recwarn):
    write_phantom_pair(tmp_path, size=32)
    pairs = [{"image": "mri.png", "image2": "ct.png", "case": "a"}]
    (tmp_path / "list.json").write_text(json.dumps({"training": pairs, "testing": pairs, key: pairs}))
    pair_datalist("nowhere", "ct_mri", tmp_path / "list.json")
    assert not recwarn.list
    with pytest.warns(FusionWarning, match=f"its pairs under '{key}' are not read: .* of those under 'training'"):
        pair_datalist("nowhere", "ct_mri", tmp_path / "list.json", section="training")


def test_any_other_folder_is_read_by_name(tmp_path):
    for folder in ("MRI", "CT"):
        (tmp_path / folder).mkdir()
    mri, ct = write_phantom_pair(tmp_path / "made", size=32)
    mri.rename(tmp_path / "MRI" / "7.png")
    ct.rename(tmp_path / "CT" / "7.png")
    assert [pair["case"] for pair in pair_datalist(tmp_path, "ct_mri")] == ["7"]


@pytest.mark.parametrize("task", ["ct_mri", "ct_mri_published"])
def test_the_atlas_is_read_by_its_lists(shared_data, task):
    test = pair_datalist(shared_data / "aanlib", task, split="random3", split_run="run1")
    train = pair_datalist(shared_data / "aanlib", task, split="random3", split_run="run1", section="training")
    assert (len(test), len(train)) == (30, 134)
    assert not {pair["image"] for pair in test} & {pair["image"] for pair in train}


def test_a_folder_that_is_not_there():
    with pytest.raises(FusionInputError, match="dataset_dir nowhere: .*no such folder; name the folder with --dataset"):
        pair_datalist("nowhere", "ct_mri")


@pytest.mark.parametrize("count", [10, 11, 134])
def test_held_out_pairs_are_apart(count):
    entries = [{"case": number} for number in range(count)]
    train = training_datalist(entries, "training", 0.2, True)
    validation = training_datalist(entries, "validation", 0.2, True)
    assert len(validation) == -(-count // 5)
    assert sorted(entry["case"] for entry in train + validation) == list(range(count))
    assert training_datalist(entries, "training", 0.2, False) == entries


def test_a_pair_that_is_validated_under_one_name_and_trained_on_under_another_is_told(tmp_path, recwarn):
    entries = [{"case": str(n), "image": str(tmp_path / f"{n}_t2"), "image2": f"{n}_flair"} for n in range(5)]
    entries.append({**entries[0], "case": "again"})
    with pytest.warns(FusionWarning, match=r"1 of 3 training pairs have an image that is validated, too \(again\)"):
        trained = training_datalist(entries, "training", 0.5, True)
    assert [pair["case"] for pair in trained] == ["1", "3", "again"]
    recwarn.clear()
    assert [pair["case"] for pair in training_datalist(entries, "validation", 0.5, True)] == ["0", "2", "4"]
    assert training_datalist(entries, "training", 0.5, False) == entries
    training_datalist(entries[:-1], "training", 0.5, True)
    assert not recwarn.list


@pytest.mark.parametrize("share", [0.0, 1.0, -1])
def test_a_share_outside_is_refused(share):
    with pytest.raises(FusionInputError, match="val_fraction: expected a share between 0 and 1"):
        training_datalist([{}, {}], "training", share, True)


def test_too_few_pairs(monkeypatch):
    with pytest.raises(FusionInputError, match="training list: expected at least 1 pairs, found 0 of 1"):
        training_datalist([{}], "training", 0.1, True)
    monkeypatch.setattr(module, "world_size", lambda: 2)
    with pytest.raises(FusionInputError, match="validation list: expected at least 2 pairs, found 1 of 4"):
        training_datalist([{}] * 4, "validation", 0.1, True)


def test_phantoms_follow_the_pairs_of_a_training(tmp_path) -> None:
    entries = [{"case": "1", "image": "a", "image2": "b"}]
    assert add_phantoms(entries, 0, "ct_mri", tmp_path) == entries
    assert len(add_phantoms(entries * 5, None, "ct_mri", tmp_path)) == 7
    more = add_phantoms(entries, 2, "ct_mri_published", tmp_path)
    assert more[0] == entries[0]
    assert [entry["case"] for entry in more[1:]] == ["phantom1", "phantom2"]
    t1, flair = (read_image(entry["image"])[0] for entry in more[1:])
    assert all((tmp_path / entry["case"] / "ct.png").is_file() for entry in more[1:])
    assert t1.shape == (96, 96) and flair.shape == (256, 256)  # odd seeds are plain, in four sizes


def test_validation_by_whole_heads():
    pairs = [{"case": f"{head}{number:03d}"} for head in (4, 41, 16) for number in range(5)]
    validated = training_datalist(pairs, "validation", 0.1, True, val_heads=["41"])
    trained = training_datalist(pairs, "training", 0.1, True, val_heads=["41"])
    assert {pair["case"][:-3] for pair in validated} == {"41"} and len(validated) == 5
    assert {pair["case"][:-3] for pair in trained} == {"4", "16"} and len(trained) == 10
    assert training_datalist(pairs, "training", 0.1, False, val_heads=["41"]) == pairs


def test_lists_without_these_heads_are_validated_evenly():
    pairs = [{"case": f"p{number}"} for number in range(10)]
    for part in ("training", "validation"):
        heads = training_datalist(pairs, part, 0.2, True, val_heads=["41"])
        assert heads == training_datalist(pairs, part, 0.2, True)


def test_heads_and_plain_heads_follow_the_pairs_of_a_training_in_3d(tmp_path, monkeypatch):
    from clinicalfmamba_nets.engine.training import lists

    asked = []
    stacked = [{"image": "a", "image2": "b", "case": "ct_mri_16003"}]
    monkeypatch.setattr(lists, "head_stacks", lambda *given, **more: asked.append((given, more)) or stacked)
    assert lists.add_heads([{"case": "one"}], None, ["ct_mri"], tmp_path) == [{"case": "one"}] and not asked
    more = lists.add_heads([{"case": "one"}], "atlas", ["ct_mri", "pet_mri"], tmp_path, "run2")
    assert more == [{"case": "one"}, *stacked, *stacked]
    assert asked[1] == (("atlas", "pet_mri", tmp_path), {"run": "run2"})
    validated = lists.training_datalist(more, "validation", 0.25, True, val_heads=["ct_mri_16"])
    assert {entry["case"] for entry in validated} == {"ct_mri_16003"}
    drawn = lists.add_plain_heads(more, 2, tmp_path)[3:]
    assert [entry["case"] for entry in drawn] == ["plain1", "plain2"]
    assert all(read_image(entry[key])[0].shape == (64, 64, 24) for entry in drawn for key in ("image", "image2"))


def test_heads_that_the_list_does_not_have_are_refused():
    pairs = [{"case": f"{head}{number:03d}"} for head in (4, 41) for number in range(5)]
    for named in (["7"], ["41", "7"]):
        with pytest.raises(FusionInputError, match=r"val_heads: expected heads of the list, .*found '7'; .*: 4, 41"):
            training_datalist(pairs, "validation", 0.1, True, val_heads=named)
    with pytest.raises(FusionInputError, match="no name of a case is longer"):
        training_datalist([{"case": "7"}, {"case": "9"}], "training", 0.1, True, val_heads=["7"])


def test_a_folder_without_any_file_of_a_split_is_told_as_one(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"training": [{"image": "a/t2.png", "image2": "a/flair.png"}] * 2}))
    told = (
        r"dataset_dir .*own: expected a folder with the files that split.json lists, found none of them; for pairs of"
    )
    (tmp_path / "own").mkdir()
    with pytest.raises(FusionInputError, match=told):
        pair_datalist(tmp_path / "own", "t2_flair", split=str(tmp_path / "split.json"), section="training")
    write_phantom_pair(tmp_path / "own" / "1", size=32)
    named = {"training": [{"image": "1/mri.png", "image2": "1/ct.png"}, {"image": "2/mri.png", "image2": "2/ct.png"}]}
    (tmp_path / "split.json").write_text(json.dumps(named))
    with pytest.raises(FusionInputError, match="split.json, entry 2, image: expected a file, found no such file"):
        pair_datalist(tmp_path / "own", "ct_mri", split=str(tmp_path / "split.json"), section="training")


def test_a_run_of_pairs_without_a_split_is_refused(tmp_path):
    (tmp_path / "list.json").write_text('{"testing": []}')
    named = (str(tmp_path / "list.json"), "run7")
    with pytest.raises(FusionInputError, match="list.json: expected no name of a run, .*found 'run7'; leave the run"):
        pair_datalist(tmp_path, "ct_mri", named[0], split_run=named[1])
    with pytest.raises(FusionInputError, match="expected no name of a run, .*found 'run7'"):
        pair_datalist(tmp_path, "ct_mri", named[0], split_run=named[1], strict=False)
    for split in ("random3", named[0]):
        with pytest.raises(FusionInputError, match="expected no name of a run, .*found 'run7'"):
            pair_datalist(tmp_path, "ct_mri", split=split, split_run=named[1])
