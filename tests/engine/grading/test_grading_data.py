"""Lists and images of the grading: no patient leaks, regions by hand, kept files by content, bad input refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from clinicalfmamba_nets.data import write_brats_phantoms
from clinicalfmamba_nets.engine.grading.experiment import GradingExperiment
from clinicalfmamba_nets.engine.grading.images import GradingImages, LoadGradingImaged, RandMirrord
from clinicalfmamba_nets.engine.grading.lists import (
    check_apart,
    check_grades,
    grading_datalist,
    positive_weight,
    require_unseen,
    shuffled_grades,
    training_patients,
    user_case,
)
from clinicalfmamba_nets.engine.grading.log import GradingLog
from clinicalfmamba_nets.engine.grading.regions import tumor_region
from clinicalfmamba_nets.engine.grading.runs import stage_network
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import write_image
from clinicalfmamba_nets.nets import EHDRAN, AverageFusion

ROI = (12, 12, 6)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_brats_phantoms(tmp_path_factory.mktemp("grading") / "phantoms", 5, 5, "easy", (20, 24, 18))


def names(entries):
    return {entry["patient"] for entry in entries}


@pytest.mark.parametrize("run", ["run1", "run2", "run3"])
def test_training_validation_and_test_share_no_patient(root, run):
    every, test = grading_datalist(root, run, "training"), grading_datalist(root, run)
    parts = [training_patients(every, part, 0.25) for part in ("training", "validation")]
    groups = [names(test), *map(names, parts)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10
    assert all({entry["grade"] for entry in part} == {"HGG", "LGG"} for part in (*parts, test))


def test_weights_of_another_fold_are_refused(root, tmp_path):
    known = grading_datalist(root, section="all")

    def trained_on(entries):
        cases = {"training": [f"{entry['case']}_z004" for entry in entries], "validation": []}
        (tmp_path / "run.json").write_text(json.dumps({"cases": cases}))

    trained_on(grading_datalist(root, "run1", "training"))
    require_unseen(tmp_path, known, grading_datalist(root, "run1"))
    with pytest.raises(FusionInputError, match="expected no patient of the test set, found BraTS19_PHANTOM"):
        require_unseen(tmp_path, known, grading_datalist(root, "run2"))
    trained_on([{"case": "someone_else"}])
    with pytest.raises(FusionInputError, match="cases of this data set, found another one, someone_else"):
        require_unseen(tmp_path, known, grading_datalist(root, "run1"))
    with pytest.raises(FusionInputError, match="the cases of a fusion network's training, found none"):
        require_unseen(tmp_path / "nowhere", known, known)


def test_a_second_scan_of_a_tested_patient_is_a_leak(tmp_path):
    known = [{"case": "a_1", "patient": "a"}, {"case": "a_2", "patient": "a"}]
    (tmp_path / "run.json").write_text(json.dumps({"cases": {"training": ["a_1_z010"], "validation": []}}))
    with pytest.raises(FusionInputError, match="a_1 of the tested patient a"):
        require_unseen(tmp_path, known, known[1:])


def test_shuffled_grades_keep_their_number(root):
    entries = grading_datalist(root, section="all")
    dealt = shuffled_grades(entries, True)
    assert sorted(entry["grade"] for entry in dealt) == sorted(entry["grade"] for entry in entries)
    assert [entry["label"] for entry in dealt] != [entry["label"] for entry in entries]
    assert shuffled_grades(entries, False) == entries
    assert positive_weight(entries) == 0.5


def test_the_region_by_hand():
    image = torch.arange(2 * 5 * 6 * 4.0).reshape(2, 5, 6, 4) + 1
    mask = np.zeros((5, 6, 4))
    mask[3:5, 2:4, 0:2] = 4  # its middle is at (4, 3, 1)
    region = tumor_region(image, mask, (4, 2, 2))
    assert torch.equal(region[:, :3], image[:, 2:5, 2:4, 0:2])
    assert not region[:, 3].any()


def test_every_label_but_0_is_tumor():
    """255 in a signed byte is -1."""
    mask = np.zeros((5, 6, 4), np.int8)
    mask[3:5, 2:4, 0:2] = -1
    image = torch.rand(2, 5, 6, 4)
    assert torch.equal(tumor_region(image, mask, (2, 2, 2)), tumor_region(image, -mask, (2, 2, 2)))


def test_a_contrast_in_the_place_of_another_is_told(root, tmp_path, caplog):
    entry, images = grading_datalist(root)[0], GradingImages("t2", 3, ROI, tmp_path / "kept")
    case = user_case(entry["image2"], entry["image"], entry["seg"])
    with pytest.raises(FusionInputError, match="_flair.nii.gz: expected T2 first, FLAIR second, found FLAIR first"):
        images(case)
    other = shutil.copy(entry["image2"], tmp_path / "p_t1ce.nii.gz")
    (item,) = images(user_case(entry["image"], other, entry["seg"]))
    assert "p_t1ce.nii.gz: an image of T1CE, by its name or header: FLAIR is expected here" in item["warnings"]
    (item,) = images([entry])
    assert item["warnings"] == ""


def test_kept_images_that_are_not_whole_are_made_anew(root, tmp_path):
    entry = grading_datalist(root)[0]
    (item,) = GradingImages("t2", 3, ROI, tmp_path)([entry])
    image, about = Path(item["image"]), Path(item["image"]).with_suffix(".json")
    before = image.read_bytes()
    for spoil in (lambda: about.write_text("{"), lambda: about.write_text("[]"), image.unlink):
        spoil()
        assert GradingImages("t2", 3, ROI, tmp_path)([entry]) == [item] and image.read_bytes() == before


def test_an_experiment_names_what_it_cannot_use(root, tmp_path):
    for given in ({"inputs": []}, {"runs": []}, {"inputs": ["t2", "t2"]}):
        with pytest.raises(FusionInputError, match=f"{next(iter(given))}: expected one name or more, each once"):
            GradingExperiment(root, tmp_path, **given)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(FusionInputError, match="settings.json: expected a file of this experiment, found none that"):
        GradingExperiment(root, tmp_path, ["t2"]).run()
    with pytest.raises(FusionInputError, match="input: expected one that is fused: eh_dran, clinicalfmamba"):
        stage_network(None)


def test_a_score_that_is_no_number_is_refused(tmp_path):
    engine = Engine(lambda engine, batch: None)
    engine.state.batch, engine.state.output = [{"case": "p1_z003", "patient": "p1"}], [{"pred": torch.tensor(np.nan)}]
    with pytest.raises(FusionInputError, match="p1_z003: expected a probability, found nan"):
        GradingLog(tmp_path).collect(engine)


def test_without_a_mask_the_brain_is_resized():
    image = torch.zeros(2, 8, 8, 8)
    image[:, 2:6, 2:6, 2:6] = 0.5
    region = tumor_region(image, None, (3, 6, 4))
    assert torch.equal(region, torch.full((2, 3, 6, 4), 0.5))


@pytest.mark.parametrize("dims", [2, 3])
def test_images_of_every_plain_input(root, tmp_path, dims):
    entries = grading_datalist(root)
    loaded = {}
    for name in ("t2", "flair", "t2_flair"):
        items = GradingImages(name, dims, ROI, tmp_path)(entries)
        loaded[name] = LoadGradingImaged("image", name)(items[0])["image"]
    assert loaded["t2_flair"].shape == (2, *ROI[:dims])
    assert torch.equal(torch.cat([loaded["t2"], loaded["flair"]]), loaded["t2_flair"])
    assert loaded["t2_flair"].min() >= 0 and loaded["t2_flair"].max() <= 1
    assert len(list(tmp_path.glob("*.npy"))) == len(entries)
    if dims == 2:
        assert {item["case"][:-5] for item in items} == {entry["case"] for entry in entries}


def test_fused_images_are_kept_by_content(root, tmp_path):
    entries, files = grading_datalist(root)[:1], []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        network = EHDRAN(features=4)
        torch.save(network.state_dict(), tmp_path / "model.pt")
        items = GradingImages("eh_dran", 2, ROI, tmp_path / "kept", network, tmp_path / "model.pt")(entries)
        files.append(items[0]["image"])
        pair = GradingImages("t2_flair", 2, ROI, tmp_path / "kept")(entries)
        image = LoadGradingImaged("image", "t2_flair")(pair[0])["image"]
        with torch.no_grad():
            expected = network.eval()(image[None])[0]
        torch.testing.assert_close(
            LoadGradingImaged("image", "eh_dran")(items[0])["image"], expected, atol=1e-3, rtol=0
        )
    assert files[0] == files[2] != files[1]


def test_images_are_mirrored_by_chance_along_both_axes():
    image, mirror = torch.arange(6.0).reshape(1, 2, 3), RandMirrord("image").set_random_state(0)
    made = [mirror({"image": image})["image"] for _ in range(40)]
    ways = [image.flip(dims) for dims in ([], [1], [2], [1, 2])]
    assert all(any(torch.equal(one, way) for one in made) for way in ways)
    assert all(any(torch.equal(one, way) for way in ways) for one in made)


def test_refusals(root, tmp_path):
    entry = grading_datalist(root)[0]
    with pytest.raises(FusionInputError, match="input: expected one of t2, flair, t2_flair"):
        GradingImages("t1", 2, ROI, tmp_path)
    with pytest.raises(FusionInputError, match="a fusion network with weights, found none"):
        GradingImages("clinicalfmamba", 2, ROI, tmp_path)
    with pytest.raises(FusionInputError, match="no such file"):
        GradingImages("clinicalfmamba", 2, ROI, tmp_path, AverageFusion(), tmp_path / "model.pt")
    for shape, message in (((5, 5, 5), "mask.nii.gz"), ((20, 24, 18), "tumor mask: expected voxels")):
        write_image(tmp_path / "mask.nii.gz", np.zeros(shape), affine=np.eye(4) if shape[0] == 5 else None)
        if shape[0] == 20:
            write_image(tmp_path / "mask.nii.gz", np.zeros(shape), like=entry["seg"], dtype="uint8")
        case = user_case(entry["image"], entry["image2"], tmp_path / "mask.nii.gz")
        with pytest.raises(FusionInputError, match=message):
            GradingImages("t2", 2, ROI, tmp_path)(case)
    with pytest.raises(FusionInputError, match="lower least_shown"):
        GradingImages("t2", 2, ROI, tmp_path, least_shown=1.5)([entry])
    with pytest.raises(FusionInputError, match="both grades, found no LGG"):
        check_grades([{"case": "a", "grade": "HGG"}], "list")
    with pytest.raises(FusionInputError, match="a: expected the grade LGG or HGG, found 'III'"):
        check_grades([{"case": "a", "grade": "III"}], "list")
    with pytest.raises(FusionInputError, match="patient a: expected in one"):
        check_apart([{"patient": "a"}], [{"patient": "a"}])
    with pytest.raises(FusionInputError, match="at least 2 patients of each grade"):
        training_patients([entry], "training", 0.5)
    with pytest.raises(FusionInputError, match="a share between 0 and 1"):
        training_patients([entry], "training", 1.5)


def test_a_missing_mask_is_refused(tmp_path):
    root = write_brats_phantoms(tmp_path / "phantoms", 1, 1, size=(12, 14, 10))
    next(root.rglob("*_seg.nii.gz")).unlink()
    with pytest.raises(FusionInputError, match="a tumor mask, found no BraTS19_PHANTOM_001_1_seg"):
        grading_datalist(root, section="all")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("no flair", "BraTS19_PHANTOM_001_1_flair.nii.gz, found no such file"),
        ("no grade", "LGG: expected folders BraTS19_"),
        ("other grade", "BraTS19_PHANTOM_001_1: expected the grade LGG of name_mapping.csv, found a folder in HGG"),
        ("two grades", "patient TCGA-1: expected one grade, found HGG and LGG"),
        ("mask", "BraTS19_PHANTOM_001_1_seg.nii.gz: expected the size 12 x 14 x 10"),
        ("one patient", "LGG"),
    ],
)
def test_a_bad_data_set_is_refused_with_patient_and_reason(tmp_path, fault, told):
    root = write_brats_phantoms(tmp_path / "phantoms", 4, 1 if fault == "one patient" else 4, size=(12, 14, 10))
    mapping = root / "name_mapping.csv"
    if fault == "no flair":
        (root / "HGG" / "BraTS19_PHANTOM_001_1" / "BraTS19_PHANTOM_001_1_flair.nii.gz").unlink()
    elif fault == "no grade":
        shutil.rmtree(root / "LGG")
        (root / "LGG").mkdir()
    elif fault == "other grade":
        mapping.write_text(
            mapping.read_text().replace("HGG,NA,NA,NA,BraTS19_PHANTOM_001", "LGG,NA,NA,NA,BraTS19_PHANTOM_001")
        )
    elif fault == "two grades":
        lines = [
            line.replace(",NA,BraTS", ",TCGA-1,BraTS") if "_001_1" in line or "_008_1" in line else line
            for line in mapping.read_text().splitlines()
        ]
        mapping.write_text("\n".join(lines))
    elif fault == "mask":
        mask = root / "HGG" / "BraTS19_PHANTOM_001_1" / "BraTS19_PHANTOM_001_1_seg.nii.gz"
        write_image(mask, np.ones((12, 14, 9), np.uint8), affine=np.eye(4))
    with pytest.raises(FusionInputError, match=told) as caught:
        entries = grading_datalist(root, section="all")
        training_patients(entries, "training", 0.3)
        GradingImages("t2", 2, ROI, tmp_path / "kept")(entries)
    assert "\n" not in str(caught.value)
