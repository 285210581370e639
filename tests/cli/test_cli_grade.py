"""`clinicalfmamba grade`: one patient from files to grade, by the bundle and a trained network, or refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clinicalfmamba_nets.cli.checks import GRADING_INPUTS
from clinicalfmamba_nets.data import write_brats_phantoms
from clinicalfmamba_nets.engine import run_bundle
from clinicalfmamba_nets.engine.grading.experiment import ALL_INPUTS
from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.io import read_image, write_image

CLASSIFIER = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8]}
FUSION = {"fusion_features": 4, "fusion_dim": 16, "fusion_depth": 1, "fusion_decoder_depth": 1, "fusion_d_state": 4}
NOTICE = "not for diagnosis"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_brats_phantoms(tmp_path_factory.mktemp("grade") / "phantoms", 4, 4, "easy", (20, 24, 18))


def train(phantoms, folder, name):
    common = {"roi_size": [16, 16, 6], "dataset_dir": str(phantoms), "input": name, "val_fraction": 0.3, "epochs": 1}
    common["device"] = torch.device("cpu")
    if name == "clinicalfmamba":
        run_bundle("glioma_grading", "train_fusion", overrides={**common, **FUSION, "output_dir": f"{folder}/fusion"})
        common |= FUSION
    run_bundle("glioma_grading", "train", overrides={**common, **CLASSIFIER, "output_dir": str(folder)})
    return folder


@pytest.fixture(scope="module")
def model(phantoms, tmp_path_factory):
    """Folder of a tiny network trained on both contrasts."""
    return train(phantoms, tmp_path_factory.mktemp("models") / "t2_flair", "t2_flair")


@pytest.fixture
def patient(phantoms):
    """T2, FLAIR and mask of one phantom."""
    folder = sorted((phantoms / "HGG").iterdir())[0]
    return [folder / f"{folder.name}_{kind}.nii.gz" for kind in ("t2", "flair", "seg")]


def report(folder):
    (told,) = json.loads((folder / "grades.json").read_text())["patients"]
    return told


def test_one_patient_with_a_mask(run_cli, model, patient, tmp_path):
    t2, flair, mask = patient
    done = run_cli("grade", t2, flair, "--mask", mask, "--model_dir", model, "-o", tmp_path / "out", "--device", "cpu")
    assert done.code == 0 and done.err == ""
    told = report(tmp_path / "out")
    with open(tmp_path / "out" / "slices.csv", newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    assert told["probability"] == pytest.approx(np.mean(scores)) and told["greatest"] == max(scores)
    assert list(told["slices"].values()) == scores and told["region"] == "tumor mask"
    assert told["grade"] == ("high" if told["probability"] >= 0.5 else "low")
    assert f"grade    {told['grade']}, probability of high grade {told['probability']:.3f}" in done.out
    assert all(f" {score:.3f}" in done.out for score in scores) and NOTICE in done.out
    assert NOTICE in json.loads((tmp_path / "out" / "grades.json").read_text())["notice"]
    names = {f"{told['patient']}_preview.png", "grades.json", "patients.csv", "slices.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    with Image.open(tmp_path / "out" / f"{told['patient']}_preview.png") as preview:
        assert preview.mode == "RGB" and preview.width > 3 * 256  # T2, FLAIR and the saliency
    assert not (model.parent / "images" / told["patient"]).exists()


def test_the_bundle_gives_the_same(run_cli, model, patient, tmp_path):
    t2, flair, mask = map(str, patient)
    settings = {"t2": t2, "flair": flair, "mask": mask, "model_dir": str(model), "input": "t2_flair", **CLASSIFIER}
    settings |= {"roi_size": [16, 16, 6], "cache_dir": str(tmp_path / "kept"), "output_dir": str(tmp_path / "bundle")}
    run_bundle("glioma_grading", "inference", overrides={**settings, "device": torch.device("cpu")})
    assert run_cli("grade", t2, flair, "--mask", mask, "--model_dir", model, "-o", tmp_path / "cli").code == 0
    assert report(tmp_path / "cli") == report(tmp_path / "bundle")
    assert (tmp_path / "cli" / "slices.csv").read_bytes() == (tmp_path / "bundle" / "slices.csv").read_bytes()


def test_a_folder_of_brats_brings_its_mask(run_cli, model, patient, tmp_path):
    t2, flair, mask = patient
    assert run_cli("grade", t2.parent, "--model_dir", model, "-o", tmp_path / "a").code == 0
    assert run_cli("grade", t2, flair, "--mask", mask, "--model_dir", model, "-o", tmp_path / "b").code == 0
    whole, named = report(tmp_path / "a"), report(tmp_path / "b")
    assert list(whole["slices"].values()) == list(named["slices"].values()) and whole["patient"] == t2.parent.name


def test_without_a_mask_the_whole_brain_is_graded_and_told(run_cli, model, patient, tmp_path):
    done = run_cli("grade", *patient[:2], "--model_dir", model, "-o", tmp_path)
    assert done.code == 0 and "note: no tumor mask: the whole brain" in done.out
    assert report(tmp_path)["region"] == "whole brain" and "no tumor mask" in report(tmp_path)["notes"]


def test_it_tells_that_the_network_knows_phantoms_alone(run_cli, model, patient, tmp_path):
    done = run_cli("grade", *patient[:2], "--model_dir", model, "-o", tmp_path / "phantoms")
    assert "note: the network was trained on PHANTOMS" in done.out
    other = shutil.copytree(model, tmp_path / "model")
    (other / "run.json").write_text((other / "run.json").read_text().replace("PHANTOM", "CBICA"))
    done = run_cli("grade", *patient[:2], "--model_dir", other, "-o", tmp_path / "patients")
    assert done.code == 0 and "PHANTOM" not in report(tmp_path / "patients")["notes"]


def trained(model):
    """Names of the patients that a network was trained or validated on."""
    cases = json.loads((model / "run.json").read_text())["cases"]
    return {case.rpartition("_z")[0] for case in (*cases["training"], *cases["validation"])}


def test_what_speaks_against_the_images_is_told(run_cli, model, patient, tmp_path):
    t2, flair, mask = (tmp_path / name for name in ("sub-01_t2.nii.gz", "sub-02_flair.nii.gz", "sub-02_seg.nii.gz"))
    for source, path in zip(patient, (t2, flair, mask), strict=True):
        shutil.copy(source, path)
    done = run_cli("grade", t2, flair, "--mask", mask, "--model_dir", model, "-o", tmp_path / "two")
    warnings = [line for line in done.out.splitlines() if line.startswith("warning: ")]
    assert done.code == 0 and report(tmp_path / "two")["warnings"].splitlines() == [text[9:] for text in warnings]
    for path in (flair, mask):
        assert f"warning: {path}: named as another subject than {t2}: make sure that both are one patient" in warnings
    done = run_cli("grade", t2, t2, "--model_dir", model, "-o", tmp_path / "one")
    assert f"warning: {t2}: the same pixels as {t2}: one image" in done.out


def test_a_patient_of_the_training_is_told(run_cli, model, phantoms, tmp_path):
    for folder in sorted((phantoms / "HGG").iterdir()):
        done = run_cli("grade", folder, "--model_dir", model, "-o", tmp_path / folder.name)
        assert ("warning: the network was trained on this patient" in done.out) == (folder.name in trained(model))


def test_a_test_on_patients_of_the_training_is_refused(model, phantoms, tmp_path):
    settings = {"roi_size": [16, 16, 6], "dataset_dir": str(phantoms), "input": "t2_flair", "model_dir": str(model)}
    settings |= {**CLASSIFIER, "device": torch.device("cpu"), "output_dir": str(tmp_path / "out")}
    run_bundle("glioma_grading", "inference", ["evaluate"], settings)
    with pytest.raises(Exception) as caught:  # noqa: PT011  (MONAI wraps it)
        run_bundle("glioma_grading", "inference", ["evaluate"], {**settings, "split_run": "run2"})
    told = str(find_input_error(caught.value))
    assert "model.pt: expected a network that was not trained on the tested patients, found 2 of 2, such as" in told


def test_the_order_of_storage_does_not_matter(run_cli, model, patient, tmp_path):
    turned = []
    for path in patient:
        array, meta = read_image(path)
        affine = meta["affine"][:, [1, 2, 0, 3]].copy()
        affine[:, 3] += affine[:, 0] * (array.shape[1] - 1)
        affine[:, 0] *= -1
        turned.append(tmp_path / path.name)
        write_image(turned[-1], array.transpose(1, 2, 0)[::-1], affine=affine, dtype=array.dtype)
    found = []
    for number, (t2, flair, mask) in enumerate((patient, turned)):
        out = tmp_path / f"out{number}"
        assert run_cli("grade", t2, flair, "--mask", mask, "--model_dir", model, "-o", out).code == 0
        found.append(report(out)["slices"])
    assert found[0] == found[1]


def write_series(source, folder, description):
    """Write a volume as a DICOM series; the third axis runs through its slices."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    array, meta = read_image(source)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ meta["affine"]  # LPS
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    folder.mkdir(parents=True, exist_ok=True)
    number = {"T2_TSE": 2, "T2 dark-fluid": 3, "MPRAGE": 4}[description]
    for place in range(array.shape[2]):
        made = Dataset()
        made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.9.{number}.{place + 1}"
        made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "1.2.9", f"1.2.9.{number}", "1.2.9.1"
        made.PatientID, made.PatientName, made.Modality = "P1", "Test^Head", "MR"
        made.SeriesNumber, made.SeriesDescription, made.InstanceNumber = number, description, place + 1
        made.ImageOrientationPatient = [*(affine[:3, 0] / sides[0]), *(affine[:3, 1] / sides[1])]
        made.ImagePositionPatient = [*(affine @ [0, 0, place, 1])[:3]]
        made.PixelSpacing, made.SliceThickness = [sides[1], sides[0]], sides[2]
        made.Rows, made.Columns, made.SamplesPerPixel = array.shape[1], array.shape[0], 1
        made.PhotometricInterpretation, made.PixelRepresentation = "MONOCHROME2", 0
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
        made.PixelData = np.ascontiguousarray(array[..., place].T, "<u2").tobytes()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.save_as(folder / f"{number}_{place}.dcm", enforce_file_format=True)
    return folder


def test_dicom_gives_what_nifti_gives(run_cli, model, patient, tmp_path):
    t2, flair, mask = patient
    assert run_cli("grade", t2, flair, "--mask", mask, "--model_dir", model, "-o", tmp_path / "nifti").code == 0
    wanted = list(report(tmp_path / "nifti")["slices"].values())
    study = tmp_path / "study"
    for source, description in ((t2, "T2_TSE"), (flair, "T2 dark-fluid"), (t2, "MPRAGE")):
        write_series(source, study / description[:6], description)
    folders = (study / "T2_TSE", study / "T2 dar")
    named = (study, "--series", "SeriesDescription=T2_TSE", "--series", "3")
    for number, words in enumerate(((study,), named, folders)):
        out = tmp_path / f"out{number}"
        done = run_cli("grade", *words, "--mask", mask, "--model_dir", model, "-o", out)
        assert done.code == 0, done.err
        assert list(report(out)["slices"].values()) == pytest.approx(wanted, abs=1e-4)


def test_series_that_cannot_be_told_apart_are_refused(run_cli, model, patient, tmp_path):
    write_series(patient[0], tmp_path / "study" / "a", "T2_TSE")
    write_series(patient[1], tmp_path / "study" / "b", "MPRAGE")
    done = run_cli("grade", tmp_path / "study", "--model_dir", model, "-o", tmp_path / "out")
    assert done.code == 1 and "expected one series described as FLAIR, found none among" in done.cause
    assert "--series T2 --series FLAIR" in done.cause and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_a_fused_input_takes_everything_from_the_folder_of_its_training(run_cli, phantoms, patient, tmp_path, dims):
    common = {"roi_size": [16, 16, 6 if dims == 2 else 16], "dataset_dir": str(phantoms), "input": "clinicalfmamba"}
    common |= {"val_fraction": 0.3, "epochs": 1, "spatial_dims": dims, "device": torch.device("cpu"), **FUSION}
    folder = tmp_path / "clinicalfmamba"
    run_bundle("glioma_grading", "train_fusion", overrides={**common, "output_dir": str(folder / "fusion")})
    run_bundle("glioma_grading", "train", overrides={**common, **CLASSIFIER, "output_dir": str(folder)})
    t2, flair, mask = patient
    out = tmp_path / "out"
    done = run_cli("grade", t2, flair, "--mask", mask, "--model_dir", folder, "--input", "clinicalfmamba", "-o", out)
    assert done.code == 0, done.err
    assert (len(report(out)["slices"]) == 1) == (dims == 3)
    assert len(json.loads((out / "grades.json").read_text())["weights"]) == 2
    (folder / "fusion" / "model.pt").unlink()
    done = run_cli("grade", t2, flair, "--model_dir", folder, "-o", tmp_path / "none")
    assert done.code == 1 and "fusion" in done.cause and "found no such file; train first" in done.cause


def test_without_trained_weights_it_refuses_and_says_how_to_train(run_cli, patient, tmp_path):
    for words in ((), ("--model_dir", tmp_path), ("--input", "t2")):
        done = run_cli("grade", *patient[:2], *words, "-o", tmp_path / "out")
        assert done.code == 1 and done.err.count("\n") == 1 and done.out == ""
        assert "weights of a trained grading network, found no such file; train first" in done.cause
    assert not (tmp_path / "out").exists()


def test_weights_of_another_training_are_refused(run_cli, model, patient, tmp_path):
    done = run_cli("grade", *patient[:2], "--model_dir", model, "--input", "t2", "-o", tmp_path / "out")
    assert done.code == 1 and "input: expected 't2_flair', as in the training" in done.cause
    shutil.copy(model / "model.pt", tmp_path)
    done = run_cli("grade", *patient[:2], "--model_dir", tmp_path, "-o", tmp_path / "out")
    assert done.code == 1 and "run.json: expected the settings of the training, found none" in done.cause
    (tmp_path / "run.json").write_text('{"settings": {"epochs": 3, "patch_size": [96, 96]}}')
    done = run_cli("grade", *patient[:2], "--model_dir", tmp_path, "-o", tmp_path / "out")
    assert done.code == 1 and "run.json: expected the settings of a training that grades, found none" in done.cause


def test_a_folder_with_another_patient_is_refused(run_cli, model, patient, tmp_path):
    other = sorted((patient[0].parents[2] / "LGG").iterdir())[0]
    for _ in range(2):
        assert run_cli("grade", patient[0].parent, "--model_dir", model, "-o", tmp_path).code == 0
    done = run_cli("grade", other, "--model_dir", model, "-o", tmp_path)
    assert done.code == 1 and f"expected results of {other.name}, found those of {patient[0].parent.name}" in done.cause


@pytest.mark.parametrize("fault", ["missing", "swapped", "mask shape", "mask values", "empty mask", "slice", "text"])
def test_images_that_cannot_be_graded_are_refused_with_patient_and_reason(run_cli, model, patient, tmp_path, fault):
    t2, flair, mask = (Path(shutil.copy(path, tmp_path)) for path in patient)
    words = {
        "missing": "found no such file",
        "swapped": "expected T2 first, FLAIR second, found FLAIR first",
        "mask shape": "expected the size 20 x 24 x 18 of",
        "mask values": "expected a tumor mask of at most 16 whole labels",
        "empty mask": "tumor mask: expected voxels that are not 0, found none",
        "slice": "expected a volume, found size 20 x 24",
        "text": "expected a NIfTI image",
    }[fault]
    if fault == "missing":
        flair.unlink()
    elif fault == "swapped":
        t2, flair = flair, t2
    elif fault == "mask shape":
        write_image(mask, np.ones((20, 24, 17), np.uint8), affine=read_image(t2)[1]["affine"])
    elif fault == "mask values":
        mask = t2
    elif fault == "empty mask":
        write_image(mask, np.zeros((20, 24, 18), np.uint8), affine=read_image(t2)[1]["affine"])
    elif fault == "slice":
        for path in (t2, flair):
            array, meta = read_image(path)
            write_image(path, array[..., 9], affine=meta["affine"], dtype=array.dtype)
    else:
        flair = tmp_path / "p_flair.nii"
        flair.write_bytes(b"no image" * 100)
    done = run_cli("grade", t2, flair, "--mask", mask, "--model_dir", model, "-o", tmp_path / "out")
    assert done.code == 1 and done.err.count("\n") == 1
    assert words in done.cause and patient[0].parent.name in done.cause, done.cause
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.slow
def test_real_cases_go_through_from_end_to_end(run_cli, phantoms, shared_data, tmp_path):
    """One patient of low grade, also on native grids, and one of high grade whose FLAIR alone is there.

    The network has seen phantoms alone: nothing is said about its answers, for which there are far too few cases.
    """
    folder = shared_data / "vol"
    low, native, high = (folder / name for name in ("tcga_fg_6692", "tcga_fg_6692_native", "brats2013_pat0001"))
    models = {name: train(phantoms, tmp_path / name, name) for name in ("flair", "clinicalfmamba")}
    pair = [low / f"TCGA-FG-6692_{name}.nii.gz" for name in ("t2", "flair")]
    raw = [native / f"TCGA-FG-6692_native_{name}.nii.gz" for name in ("t2", "flair")]
    cases = {
        "low": ("clinicalfmamba", (*pair, "--mask", low / "TCGA-FG-6692_seg_machine.nii.gz")),
        "no_mask": ("clinicalfmamba", pair),
        "native": ("clinicalfmamba", raw),
        "high": (  # the input flair does not look at the first image
            "flair",
            (
                *(high / f"{name}_subtrMeanDivStd.nii.gz" for name in ("T1c", "Flair")),
                "--mask",
                high / "OTMultiClass.nii.gz",
            ),
        ),
    }
    for name, (network, words) in cases.items():
        done = run_cli("grade", *words, "--model_dir", models[network], "-o", tmp_path / f"out_{name}")
        assert done.code == 0, done.err
        told = report(tmp_path / f"out_{name}")
        assert 0 <= told["probability"] <= 1 and told["slices"]
        assert told["region"] == ("tumor mask" if "--mask" in words else "whole brain")
    assert "interpolated on the grid" in report(tmp_path / "out_native")["notes"]
    assert "not a brain alone" in report(tmp_path / "out_native")["notes"]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("", "expected T2 and FLAIR, or one folder, found 0"),
        ("a b c", "expected T2 and FLAIR, or one folder, found 3"),
        ("a b --input t2flair", "did you mean t2_flair?"),
        ("a b --series 1", "expected --series twice"),
        ("a b --maks c", "unknown option --maks; did you mean --mask?"),
    ],
)
def test_wrong_arguments(run_cli, words, cause):
    done = run_cli("grade", *words.split(), "-o", "out")
    assert done.code == 2 and cause in done.cause
    assert set(GRADING_INPUTS) == set(ALL_INPUTS)
