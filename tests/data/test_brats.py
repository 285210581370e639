"""The BraTS 2019 layout on a small tree that the test writes: lists, splits by patient, slices, errors."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.data import brats_datalist, brats_slices, slice_datalist
from clinicalfmamba_nets.data.brats import held_out_patients, is_brats
from clinicalfmamba_nets.engine import pair_datalist
from clinicalfmamba_nets.errors import FusionInputError, FusionWarning
from clinicalfmamba_nets.io import read_image, write_image

COLUMNS = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID"
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])


def volume(seed: int) -> np.ndarray:
    """Twelve slices, of which those from 3 to 9 show more than a tenth."""
    values = np.zeros((10, 12, 12), np.int16)
    values[2:8, 2:9, 3:10] = np.random.default_rng(seed).integers(1, 900, (6, 7, 7))
    values[5, 5, 1] = 7
    return values


@pytest.fixture
def tree(tmp_path):
    root, rows = tmp_path / "MICCAI_BraTS_2019_Data_Training", [COLUMNS]
    for grade, count in (("HGG", 9), ("LGG", 5)):
        for number in range(count):
            name = f"BraTS19_{grade}_{number}_1"
            for offset, contrast in enumerate(("t2", "flair", "seg")):
                write_image(
                    root / grade / name / f"{name}_{contrast}.nii.gz", volume(offset), affine=AFFINE, dtype="int16"
                )
            # two scans of one patient
            rows.append(f"{grade},NA,NA,{'TCGA-02-0001' if grade == 'HGG' and number < 2 else 'NA'},{name}")
    (root / "name_mapping.csv").write_text("\n".join(rows))
    return root


def test_patients_of_both_grades_are_held_out_and_never_parted(tree):
    tests = []
    for run in (1, "run2", "run3"):
        training, testing = (brats_datalist(tree.parent, run=run, section=section) for section in ("training", "test"))
        assert {entry["patient"] for entry in training}.isdisjoint(entry["patient"] for entry in testing)
        assert len(training) + len(testing) == 14
        assert {entry["grade"] for entry in testing} == {"HGG", "LGG"}
        tests.append({entry["patient"] for entry in testing})
    assert tests[0].isdisjoint(tests[1] | tests[2])
    assert brats_datalist(tree, run=1) == brats_datalist(tree.parent, run="run1")


def test_the_paper_s_numbers_are_held_out_of_the_real_data_set():
    for patients in (259, 76):
        draws = [held_out_patients([str(number) for number in range(patients)], run) for run in (1, 2, 3)]
        assert [len(draw) for draw in draws] == [20, 20, 20]
        assert len(set.union(*draws)) == 60


def test_an_entry_names_its_files_grade_and_label(tree):
    entry = brats_datalist(tree, split="all")[0]
    folder = tree / "HGG" / "BraTS19_HGG_0_1"
    assert entry == {
        "image": str(folder / "BraTS19_HGG_0_1_t2.nii.gz"),
        "image2": str(folder / "BraTS19_HGG_0_1_flair.nii.gz"),
        "seg": str(folder / "BraTS19_HGG_0_1_seg.nii.gz"),
        "case": "BraTS19_HGG_0_1",
        "patient": "TCGA-02-0001",
        "grade": "HGG",
        "label": 1,
    }
    assert {entry["label"] for entry in brats_datalist(tree, split="all") if entry["grade"] == "LGG"} == {0}
    assert "image2" not in brats_datalist(tree, contrasts=("flair",))[0]


def test_a_wrong_layout_is_told_in_one_line(tree, tmp_path):
    with pytest.raises(FusionInputError, match="expected a folder with HGG and LGG in it, found neither"):
        brats_datalist(tmp_path / "nothing")
    with pytest.raises(FusionInputError, match=r"HGG_0_1: expected BraTS19_HGG_0_1_t1.nii.gz, found no such file"):
        brats_datalist(tree, contrasts=("t1", "flair"))
    (tree / "LGG" / "BraTS19_LGG_0_1" / "BraTS19_LGG_0_1_flair.nii.gz").unlink()
    with pytest.raises(FusionInputError, match=r"LGG_0_1: expected BraTS19_LGG_0_1_flair.nii.gz"):
        brats_datalist(tree)
    for case in (tree / "LGG").iterdir():
        case.rename(tree / "HGG" / case.name)
    with pytest.raises(FusionInputError, match="HGG/BraTS19_LGG_0_1: expected the grade LGG of name_mapping.csv"):
        brats_datalist(tree, contrasts=("t2",))
    (tree / "name_mapping.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FusionInputError, match=r"name_mapping.csv: expected a table with the columns Grade"):
        brats_datalist(tree)
    (tree / "name_mapping.csv").unlink()
    with pytest.raises(FusionInputError, match=r"LGG: expected folders BraTS19_\*, found none"):
        brats_datalist(tree, contrasts=("t2",))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"run": 4}, "'run4': expected one of run1, run2, run3"),
        ({"split": "random3"}, "'random3': expected one of patients, all"),
        ({"contrasts": ("t2", "pet")}, "'pet': expected one of t1, t1ce, t2, flair"),
        ({"contrasts": ("t1", "t2", "flair")}, "contrasts: expected one or two, found 3"),
    ],
)
def test_unknown_names_are_refused(tree, choice, message):
    with pytest.raises(FusionInputError, match=message):
        brats_datalist(tree, **choice)


def test_slices_that_show_enough_are_written_once(tree, tmp_path):
    slices = brats_slices(tree, tmp_path / "cut", section="testing")
    volumes = brats_datalist(tree, section="testing")
    assert [entry["case"] for entry in slices[:7]] == [f"{volumes[0]['case']}_z{place:03d}" for place in range(3, 10)]
    assert len(slices) == 7 * len(volumes)
    assert {entry["grade"] for entry in slices} == {"HGG", "LGG"}
    pixels, meta = read_image(slices[4]["image2"])
    assert pixels.dtype == np.int16
    assert np.array_equal(pixels, volume(1)[..., 7])
    assert np.allclose(meta["affine"][:3, 3], (AFFINE @ [0, 0, 7, 1])[:3])
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cut").rglob("*")}
    assert brats_slices(tree, tmp_path / "cut", section="testing") == slices
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cut").rglob("*")} == before
    assert slice_datalist(volumes, tmp_path / "cut", step=3) == [
        entry for entry in slices if entry["case"][-3:] in ("003", "006", "009")
    ]


def test_a_changed_volume_is_cut_anew_and_any_storage_order_gives_axial_slices(tree, tmp_path):
    entry = brats_datalist(tree)[0]
    first = slice_datalist([entry], tmp_path / "cut")
    for key, seed in (("image", 5), ("image2", 6)):
        order = AFFINE[:, [2, 0, 1, 3]]
        write_image(entry[key], volume(seed).transpose(2, 0, 1), affine=order)
    second = slice_datalist([entry], tmp_path / "cut")
    assert [item["case"] for item in first] == [item["case"] for item in second]
    assert first[0]["image"] != second[0]["image"]
    assert np.array_equal(read_image(second[2]["image"])[0], volume(5)[..., 5])


def test_volumes_that_cannot_be_cut_are_refused(tree, tmp_path):
    entry = brats_datalist(tree)[0]
    flat = slice_datalist([entry], tmp_path / "cut")[0]
    with pytest.raises(FusionInputError, match="expected a volume with a place in space, found size 10 x 12"):
        slice_datalist([flat], tmp_path / "again")
    with pytest.raises(FusionInputError, match=r"expected slices with 90 % of non-zero pixels, found at most 35.0 %"):
        slice_datalist([entry], tmp_path / "cut", least_shown=0.9)


def test_the_bundles_find_the_layout(tree, tmp_path):
    assert is_brats(tree)
    assert is_brats(tree.parent)
    assert not is_brats(tmp_path / "nothing")
    whole = pair_datalist(tree.parent, "t2_flair", section="testing")
    assert [entry["case"] for entry in whole] == [entry["case"] for entry in brats_datalist(tree, section="testing")]
    cut = pair_datalist(tree.parent, "t2_flair", section="testing", slices_dir=tmp_path / "cut", slice_step=7)
    assert [entry["volume"] for entry in cut] == [entry["case"] for entry in whole]


def rewrite(tree, change):
    """Change the cells of the table, rows of words without the header."""
    header, *rows = (line.split(",") for line in (tree / "name_mapping.csv").read_text().splitlines())
    text = "\n".join(",".join(row) for row in [header, *change(rows)])
    (tree / "name_mapping.csv").write_text(text)


def patients(tree):
    return {entry["case"]: entry["patient"] for entry in brats_datalist(tree, split="all")}


@pytest.mark.parametrize("unknown", ["", " ", "N/A", "nan", "None", "-"])
def test_no_name_of_a_patient_in_any_programs_words_is_none(tree, unknown):
    expected = patients(tree)
    rewrite(tree, lambda rows: [[*row[:3], unknown if row[3] == "NA" else row[3], row[4]] for row in rows])
    assert patients(tree) == expected
    assert expected["BraTS19_HGG_0_1"] == expected["BraTS19_HGG_1_1"] == "TCGA-02-0001"


def test_blanks_in_the_table_part_no_patient(tree):
    expected = patients(tree)
    rewrite(tree, lambda rows: [[f" {cell} " for cell in row] for row in rows])
    assert patients(tree) == expected


def test_cells_that_a_short_row_lacks_are_empty(tree):
    header = "BraTS_2019_subject_ID,Grade,TCGA_TCIA_subject_ID"
    names = [line.split(",")[4] for line in (tree / "name_mapping.csv").read_text().splitlines()[1:]]
    (tree / "name_mapping.csv").write_text("\n".join([header, *(f"{name},{name[8:11]}" for name in names)]))
    assert patients(tree) == {name: name for name in names}


def test_cases_that_the_table_does_not_name_warn(tree):
    rewrite(tree, lambda rows: rows[2:])
    with pytest.warns(
        FusionWarning, match=r"name_mapping.csv: no row for 2 of 14 cases \(BraTS19_HGG_0_1, ...\): each"
    ):
        patients(tree)


def test_a_table_that_tells_two_things_of_a_case_is_refused(tree):
    rewrite(tree, lambda rows: [*rows, [*rows[0][:3], "TCGA-02-0099", rows[0][4]]])
    with pytest.raises(FusionInputError, match="expected one row of BraTS19_HGG_0_1, found two that differ"):
        patients(tree)
    rewrite(tree, lambda rows: [*rows[:-1], rows[0]])
    assert patients(tree)["BraTS19_HGG_0_1"] == "TCGA-02-0001"
