"""A training remembers its pairs: by case and file names, so that a moved folder is the same list."""

from __future__ import annotations

import json

from clinicalfmamba_nets.engine.run.seen_pairs import other_list, pair_names, some_names, trained_pairs


def entries(*cases, folder="a"):
    return [{"case": case, "image": f"{folder}/{case}_mri.png", "image2": f"{folder}/{case}_ct.png"} for case in cases]


def test_a_moved_list_is_the_same_and_repeats_count_once():
    before, now = pair_names(entries("1", "2")), pair_names(entries("1", "2", "1", folder="b"))
    assert before == now and other_list(before, now) is None


def test_what_differs_is_told_by_name():
    before = pair_names(entries("1", "2", "3"))
    text = other_list(before, pair_names(entries("2", "3", "4", "5")))
    assert text == "resumed on another datalist: 1 pair is gone (1), 2 are new (4, 5)"
    assert "in another order" in other_list(before, before[::-1])
    renamed = [{**entry, "image": "x/other.png"} for entry in entries("1", "2", "3")]
    assert "3 pairs are gone" in other_list(before, pair_names(renamed))
    assert some_names(pair_names(entries(*"abcdefgh"))) == "a, b, c, d, e and 3 more"


def test_weights_tell_what_they_were_trained_on(tmp_path):
    assert trained_pairs(tmp_path / "model.pt") == set()
    (tmp_path / "run.json").write_text(json.dumps({"pairs": {"training": pair_names(entries("1"))}}))
    assert trained_pairs(tmp_path / "model.pt") == {"1 (1_mri.png, 1_ct.png)"}
    (tmp_path / "run.json").write_text("{")
    assert trained_pairs(tmp_path / "model.pt") == set()
