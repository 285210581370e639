"""Splits of the atlas: sizes, no overlap, no case on both sides, lists and drawn splits alike."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets.data import aanlib_datalist, case_splits, random_splits
from clinicalfmamba_nets.errors import FusionInputError

CASES = {"ct_mri": [2, 16, 20, 21, 28, 32], "spect_mri": [3, 4, 21, 22, 28, 29], "pet_mri": [25, 30, 41]}
FOLDERS = {"ct_mri": ("CT-MRI", "CT"), "spect_mri": ("SPECT-MRI", "SPECT"), "pet_mri": ("PET-MRI", "PET")}


@pytest.fixture
def atlas(tmp_path):
    """Folder in the atlas' layout, 12 slices for each case, without list files."""
    for task, (folder, second) in FOLDERS.items():
        for kind in ("MRI", second):
            (tmp_path / folder / kind).mkdir(parents=True)
            for case in CASES[task]:
                for number in range(12):
                    (tmp_path / folder / kind / f"{1000 * case + number}.png").write_bytes(b"x")
    return tmp_path


def cases_of(entries):
    """Case numbers of a list."""
    return {int(entry["case"]) // 1000 for entry in entries}


def split(root, task, name, run):
    """Training and test entries of a run."""
    return [aanlib_datalist(root, task, name, run, section) for section in ("training", "testing")]


@pytest.mark.parametrize("task", ["ct_mri", "spect_mri", "pet_mri"])
def test_random_test_sets_are_disjoint(atlas, task):
    seen: set[str] = set()
    for run in (1, 2, 3):
        training, testing = split(atlas, task, "random3", run)
        names = {entry["case"] for entry in testing}
        assert not names & seen and not names & {entry["case"] for entry in training}
        assert len(training) + len(testing) == 12 * len(CASES[task])
        seen |= names


@pytest.mark.parametrize("task", ["ct_mri", "spect_mri"])
def test_no_case_on_both_sides_and_linked_cases_together(atlas, task):
    tested = []
    for run in ("run1", "run2", "run3"):
        training, testing = split(atlas, task, "case3", run)
        assert not cases_of(training) & cases_of(testing)
        tested.append(cases_of(testing))
    assert {21, 28} <= tested[0]
    assert sorted(case for cases in tested for case in cases) == CASES[task]


@pytest.mark.parametrize(
    ("task", "name", "sizes"),
    [
        ("ct_mri", "random3", (134, 30)),
        ("spect_mri", "random3", (288, 50)),
        ("pet_mri", "random3", (224, 24)),
        ("ct_mri", "case3", (128, 36)),
        ("spect_mri", "case3", (283, 55)),
        ("pet_mri", "case3", (176, 72)),
        ("ct_mri", "mydatasets", (141, 23)),
    ],
)
def test_published_lists(shared_data, task, name, sizes):
    training, testing = split(shared_data, task, name, "run1")
    assert (len(training), len(testing)) == sizes
    assert not {entry["image"] for entry in training} & {entry["image"] for entry in testing}
    assert all(FOLDERS[task][1] in entry["image2"] and "MRI" in entry["image"] for entry in testing)
    if name == "case3":
        assert not cases_of(training) & cases_of(testing)
    assert aanlib_datalist(shared_data / "aanlib", task, name, 1, "test") == testing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "mr_us"}, "task 'mr_us': expected one of ct_mri"),
        ({"split": "random4"}, "'random4': expected one of random3"),
        ({"run": "run9"}, "'run9': expected one of run1"),
        ({"section": "all"}, "'all': expected one of training"),
        ({"split": "mydatasets"}, "split mydatasets: expected its list file"),
        ({"datalist_dir": "nowhere"}, "ct-mri_random3.json: expected a data list"),
    ],
)
def test_wrong_names_are_told(atlas, arguments, message):
    with pytest.raises(FusionInputError, match=message):
        aanlib_datalist(atlas, **{"task": "ct_mri", **arguments})


def test_missing_files_are_told(atlas, shared_data):
    with pytest.raises(FusionInputError, match="expected every pair of .*random3.json, found no pair"):
        aanlib_datalist(atlas, "ct_mri", datalist_dir=shared_data / "datalists")
    with pytest.raises(FusionInputError, match="expected CT-MRI/MRI and CT-MRI/CT, found no such folders"):
        aanlib_datalist(atlas / "CT-MRI" / "MRI", "ct_mri")


def test_split_makers():
    assert random_splits(range(40), 5, seed=1) == random_splits(reversed(range(40)), 5, seed=1)
    assert random_splits(range(40), 5, seed=1) != random_splits(range(40), 5, seed=2)
    with pytest.raises(ValueError, match="expected more than 3 items, found 3"):
        random_splits(range(3), 1)
    with pytest.raises(ValueError, match="at least 3 separate cases, found 2"):
        case_splits(range(4), lambda item: item % 3, linked=[(0, 1)])
