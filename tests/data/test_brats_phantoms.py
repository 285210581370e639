"""The phantom data set: layout, labels of what it is, and signs that each contrast shows by half."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from clinicalfmamba_nets.data import brats_datalist, brats_slices, glioma_phantom, ideal_auc, write_brats_phantoms
from clinicalfmamba_nets.data.brats_phantoms import DIFFICULTIES
from clinicalfmamba_nets.errors import FusionInputError

SIZE = (40, 48, 36)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_brats_phantoms(tmp_path_factory.mktemp("set") / "brats_phantoms", 5, 4, "easy", (20, 24, 18), seed=3)


def test_the_layout_is_read_as_brats_2019(root):
    training, testing = (brats_datalist(root, section=section) for section in ("training", "testing"))
    assert [entry["grade"] for entry in training + testing].count("HGG") == 5
    assert not {entry["patient"] for entry in training} & {entry["patient"] for entry in testing}
    assert all(entry["seg"].endswith("_seg.nii.gz") for entry in training)


def test_it_says_phantom_everywhere(root):
    assert "PHANTOM" in (root / "PHANTOM.txt").read_text()
    for path in root.rglob("*.nii.gz"):
        assert "PHANTOM" in path.name
        assert b"PHANTOM" in nibabel.load(path).header["descrip"].tobytes()
    assert "PHANTOM" in json.loads((root / "phantoms.json").read_text())["note"]


def test_slices_can_be_cut(root, tmp_path):
    slices = brats_slices(root, tmp_path, section="testing")
    assert len(slices) > 10
    assert {entry["label"] for entry in slices} == {0, 1}


def test_each_sign_is_seen_in_its_contrast_alone():
    base, necrosis, edema = (
        glioma_phantom({"t2": t2, "flair": flair}, SIZE, seed=1) for t2, flair in ((-2, -2), (2, -2), (-2, 2))
    )
    assert np.array_equal(base["flair"], necrosis["flair"])
    assert np.array_equal(base["t2"], edema["t2"])
    assert (necrosis["t2"] - base["t2"])[necrosis["seg"] == 1].mean() > 0.1
    assert (edema["flair"] - base["flair"])[(edema["seg"] == 2) & (base["seg"] == 0)].mean() > 0.1
    for volumes in (base, necrosis, edema):
        assert volumes["t2"].max() <= 1
        assert np.array_equal(volumes["t2"] == 0, volumes["flair"] == 0)


def test_labels_grow_with_the_signs():
    counts = []
    for strength in (-2, 0, 2):
        seg = glioma_phantom({"t2": strength, "flair": strength}, SIZE, seed=2)["seg"]
        counts.append([(seg == label).sum() for label in (1, 2)])
    assert (np.diff(counts, axis=0) > 0).all()


def test_the_ideal_auc_is_that_of_drawn_signs():
    generator = np.random.default_rng(0)
    shown = np.repeat([(1, 0), (0, 1), (1, 1)], [1600, 1600, 800], axis=0)
    distance = DIFFICULTIES["medium"]
    high, low = (generator.normal(distance * (there - 0.5)) for there in (shown, 0 * shown))
    for contrasts in (1, 2):
        ratios = []
        for signs in (high, low):
            t2, flair = np.exp(distance * signs).T
            ratios.append(0.6 * t2 + 0.4 if contrasts == 1 else 0.4 * t2 + 0.4 * flair + 0.2 * t2 * flair)
        assert (ratios[0][:, None] > ratios[1]).mean() == pytest.approx(ideal_auc("medium", contrasts), abs=0.01)
    assert ideal_auc(0, 2) == pytest.approx(0.5)


def test_signs_are_split_between_the_contrasts(tmp_path):
    root = write_brats_phantoms(tmp_path / "phantoms", 30, 10, 8.0, (12, 14, 10), seed=1)
    cases = json.loads((root / "phantoms.json").read_text())["cases"].values()
    there = {
        grade: [tuple(case["signs"][name] > 0 for name in ("t2", "flair")) for case in cases if case["grade"] == grade]
        for grade in ("HGG", "LGG")
    }
    assert set(there["LGG"]) == {(False, False)}
    assert set(there["HGG"]) == {(True, False), (False, True), (True, True)}


def test_the_same_set_is_kept_and_another_refused(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    write_brats_phantoms(root, 5, 4, "easy", (20, 24, 18), seed=3)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    with pytest.raises(FusionInputError, match="phantoms of other settings"):
        write_brats_phantoms(root, 5, 4, "hard", (20, 24, 18), seed=3)


def test_refusals(tmp_path):
    with pytest.raises(FusionInputError, match="a name with phantom in it"):
        write_brats_phantoms(tmp_path / "brats")
    with pytest.raises(FusionInputError, match="patients of both grades, found 3 high and 0 low"):
        write_brats_phantoms(tmp_path / "phantoms", 3, 0)
    for value in ("impossible", -1, "nan"):
        with pytest.raises(FusionInputError, match="difficulty: expected easy, medium, hard"):
            write_brats_phantoms(tmp_path / "phantoms", difficulty=value)
    (tmp_path / "phantoms").mkdir()
    (tmp_path / "phantoms" / "notes.txt").write_text("mine")
    with pytest.raises(FusionInputError, match=r"other files, such as notes\.txt"):
        write_brats_phantoms(tmp_path / "phantoms")
