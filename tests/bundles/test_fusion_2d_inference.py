"""Inference by the bundle: every pair becomes a file with the first image's geometry, or the run says why not."""

from __future__ import annotations

import json
import logging
import shutil

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from clinicalfmamba_nets.data import head_phantom
from clinicalfmamba_nets.engine import open_bundle, run_bundle
from clinicalfmamba_nets.errors import FusionInputError


@pytest.fixture
def infer(tiny, tiny_weights, tmp_path):
    """Run the inference of the bundle with the tiny network into a folder."""

    def run(**given):
        settings = {**tiny, "ckpt_path": str(tiny_weights), "device": torch.device("cpu"), **given}
        return run_bundle("fusion_2d", "inference", overrides={"output_dir": str(tmp_path / "out"), **settings})

    return run


def outputs(folder):
    return sorted(path.name for path in folder.iterdir())


def test_ten_pairs_give_ten_files(infer, datalist, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "clinicalfmamba"):
        workflow = infer(datalist=str(datalist))
    assert outputs(tmp_path / "out") == sorted(f"p{number}_fused.png" for number in range(10))
    with Image.open(tmp_path / "out" / "p3_fused.png") as fused, Image.open(datalist.parent / "case3/mri.png") as mri:
        assert (fused.size, fused.mode) == (mri.size, mri.mode)
    assert caplog.messages[-1].startswith("10 fused images in ")
    assert workflow.check_properties() == []


def test_notes_and_warnings_of_a_pair_are_told(infer, tmp_path, caplog):
    affine = np.diag([-1.0, -1, 3, 1])
    mri = np.random.default_rng(0).integers(0, 900, (32, 32, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(mri, affine), tmp_path / "mri.nii")
    nibabel.save(nibabel.Nifti1Image(mri[..., :5], affine), tmp_path / "half.nii")
    (tmp_path / "list.json").write_text(json.dumps([{"image": "mri.nii", "image2": "half.nii", "case": "7"}]))
    with caplog.at_level(logging.INFO, "clinicalfmamba"):
        infer(datalist=str(tmp_path / "list.json"))
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert any(level == "INFO" and text.startswith("7_fused.nii: note: image A, ") for level, text in told)
    assert any(level == "WARNING" and "7_fused.nii: warning: " in text and " covers 6" in text for level, text in told)


def test_the_output_is_what_the_network_says(infer, datalist, tiny_network, tmp_path):
    infer(datalist=str(datalist), refine=False)
    pixels = [np.asarray(Image.open(datalist.parent / "case3" / f"{name}.png"), float) for name in ("mri", "ct")]
    scaled = [(image - image.min()) / (image.max() - image.min()) for image in pixels]
    with torch.no_grad():
        fused = tiny_network(torch.tensor(np.stack(scaled), dtype=torch.float32)[None])[0, 0].numpy()
    expected = fused * (pixels[0].max() - pixels[0].min()) + pixels[0].min()
    saved = np.asarray(Image.open(tmp_path / "out" / "p3_fused.png"), float)
    assert np.abs(saved - expected).max() <= 0.51


def test_color_comes_back(infer, color_datalist, tmp_path):
    infer(datalist=str(color_datalist), task="spect_mri")
    with Image.open(tmp_path / "out" / "p0_fused.png") as fused:
        assert fused.mode == "RGB"
        red, _, blue = np.moveaxis(np.asarray(fused, float), -1, 0)
    assert np.abs(red - blue).max() > 20


def test_a_folder_of_pairs(infer, datalist, tmp_path):
    for name in ("MRI", "CT"):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        for case in ("a", "b"):
            shutil.copy(datalist.parent / "case0" / f"{name.lower()}.png", tmp_path / "pairs" / name / f"{case}.png")
    infer(dataset_dir=str(tmp_path / "pairs"))
    assert outputs(tmp_path / "out") == ["a_fused.png", "b_fused.png"]


@pytest.mark.parametrize("shape", [(50, 37), (48, 48, 1)], ids=["odd size", "one slice"])
def test_nifti_keeps_its_place_in_space(infer, tmp_path, shape):
    affine = np.array([[0.0, -0.9, 0.0, 11.0], [0.8, 0.0, 0.0, -4.0], [0.0, 0.0, 5.5, 7.0], [0.0, 0.0, 0.0, 1.0]])
    generator = np.random.default_rng(0)
    for name in ("t2", "ct"):
        image = nibabel.Nifti1Image(generator.integers(0, 900, shape).astype(np.int16), affine)
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    entry = {"image": "t2.nii.gz", "image2": "ct.nii.gz", "case": "n"}
    (tmp_path / "list.json").write_text(json.dumps({"testing": [entry]}))
    infer(datalist=str(tmp_path / "list.json"))
    fused = nibabel.load(tmp_path / "out" / "n_fused.nii.gz")
    assert fused.shape == shape
    assert np.abs(fused.affine - affine).max() < 1e-4


def test_one_bad_pair_ends_the_run_with_its_name(infer, datalist, tmp_path):
    shutil.copytree(datalist.parent, tmp_path / "pairs")
    bad = tmp_path / "pairs" / "case4" / "ct.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(FusionInputError, match=r"case4/ct.png: expected a whole PNG") as caught:
        infer(datalist=str(tmp_path / "pairs" / "datalist.json"))
    assert "\n" not in str(caught.value)
    assert outputs(tmp_path / "out") == [f"p{number}_fused.png" for number in range(4)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ckpt_path": "nowhere.pt"}, "ckpt_path nowhere.pt: expected a file of weights, found no such file"),
        ({"features": 8}, "ckpt_path .*model.pt: expected weights of this network, found .* where the network has"),
        ({"dataset_dir": "nowhere"}, "dataset_dir nowhere: expected a folder of image pairs"),
        ({"sectoin": "training"}, "override 'sectoin': .*did you mean 'section'"),
        ({"task": "mri"}, "task: expected one of ct_mri"),
        ({"epochs": 3}, "override 'epochs': expected the name of a setting of this configuration"),
    ],
    ids=str,
)
def test_errors_of_the_user_are_one_line(infer, tmp_path, given, told):
    with pytest.raises(FusionInputError, match=told) as caught:
        infer(**{"dataset_dir": str(tmp_path), **given})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("list_name", ["missing_file", "traversal", "not_json"])
def test_bad_data_lists_are_refused(infer, shared_data, tmp_path, list_name):
    with pytest.raises(FusionInputError):
        infer(datalist=str(shared_data / "bad" / "datalists" / f"{list_name}.json"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("good_mri", "truncated"),
        ("good_mri", "bomb_30000"),
        ("good_mri", "size_255x240"),
        ("truncated", "good_ct"),
    ],
)
def test_bad_images_are_refused(infer, shared_data, tmp_path, first, second):
    entry = {"image": f"{first}.png", "image2": f"{second}.png", "case": "bad"}
    for name in (first, second):
        shutil.copy(shared_data / "bad" / "png" / f"{name}.png", tmp_path)
    (tmp_path / "list.json").write_text(json.dumps({"testing": [entry]}))
    with pytest.raises(FusionInputError, match=second if first == "good_mri" else first):
        infer(datalist=str(tmp_path / "list.json"))
    assert not (tmp_path / "out").exists() or not outputs(tmp_path / "out")


@pytest.mark.slow
def test_real_pairs_of_a_test_list(infer, shared_data, tmp_path):
    infer(dataset_dir=str(shared_data / "aanlib"), split="case3", split_run="run1", section="testing")
    lists = json.loads((shared_data / "datalists" / "ct-mri_case3.json").read_text())
    assert len(outputs(tmp_path / "out")) == len(lists["runs"]["run1"]["test"]) == 36


def test_weights_follow_from_the_task(bundle_dir):
    for task, name in (("ct_mri", "model.pt"), ("pet_mri", "model_pet_mri.pt")):
        parser = open_bundle("fusion_2d", overrides={"task": task}).parser
        assert parser.get_parsed_content("ckpt_path") == str(bundle_dir / "models" / name)


@pytest.mark.parametrize("task", ["ct_mri", "pet_mri", "spect_mri", "t2_flair", "ct_mri_published"])
def test_the_weights_draw_the_same_in_either_layout(task):
    parser = open_bundle("fusion_2d", overrides={"task": task}).parser
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(parser.get_parsed_content("ckpt_path"), weights_only=True))
    images = [head_phantom(128, seed=1)[contrast] for contrast in ("t2", "ct")]
    image = torch.stack([torch.as_tensor(x, dtype=torch.float32) for x in images])[None]
    fused = []
    for network.channels_last in (True, False):
        with torch.inference_mode():
            fused.append(network(image))
    assert not torch.equal(fused[0], fused[1])
    assert (fused[0] - fused[1]).abs().max() < 2e-5
