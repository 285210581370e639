"""The bundle for volumes: geometry, windows, flips, preparations, training that resumes, bad input."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from clinicalfmamba_nets.data import brain_volumes
from clinicalfmamba_nets.engine import VolumeInferer, open_bundle, run_bundle
from clinicalfmamba_nets.errors import FusionInputError

TINY = {"features": 4, "dim": 16, "depth": 1, "d_state": 4, "device": torch.device("cpu")}
SHAPE = (34, 30, 27)
# Two axes turned by 20 degrees, slices of 5.5 mm, the first axis running to the left.
OBLIQUE = np.array([[-0.85, 0.3, 0.0, 12.0], [0.31, 0.85, 0.0, -40.0], [0.0, 0.0, 5.5, -33.0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def network():
    """The tiny network with random weights whose layers all take part."""
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(str(Path(__file__).parents[2] / "bundles" / "fusion_3d" / "configs" / "inference.json"))
    parser.update(TINY)
    return parser.get_parsed_content("network_def").eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    """File with the weights of the tiny network."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def infer(weights, tmp_path):
    """Fuse the pair of two files with the tiny network and load the result."""

    def run(image, image2, **given):
        entry = {"image": str(image), "image2": str(image2), "case": "c"}
        (tmp_path / "list.json").write_text(json.dumps({"testing": [entry]}))
        settings = {**TINY, "ckpt_path": str(weights), "output_dir": str(tmp_path / "out"), **given}
        run_bundle("fusion_3d", "inference", overrides={"datalist": str(tmp_path / "list.json"), **settings})
        return nibabel.load(next((tmp_path / "out").iterdir()))

    return run


def save(path, array, affine=OBLIQUE, dtype=np.int16, slope=None, order="<"):
    """Write a volume of brightness 0 to 1000 with a type, a byte order and a slope."""
    kind = np.dtype(dtype).newbyteorder(order)
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(kind)
    image = nibabel.Nifti1Image((1000 * array).astype(kind), affine, header)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Files of T2 and FLAIR of the phantom on an oblique grid."""
    folder = tmp_path_factory.mktemp("pair")
    return [save(folder / f"{name}.nii.gz", volume) for name, volume in brain_volumes(SHAPE).items()]


def test_the_output_lies_where_the_first_volume_lies(infer, pair):
    fused, first = infer(*pair), nibabel.load(pair[0])
    assert fused.shape == first.shape and fused.get_data_dtype() == np.int16
    assert np.abs(fused.affine - first.affine).max() < 1e-4
    assert np.allclose(fused.header.get_zooms(), first.header.get_zooms())
    values = np.asarray(fused.dataobj)
    assert values.min() == 0 and 100 < values.max() <= np.asarray(first.dataobj).max()


@pytest.mark.parametrize(
    ("dtype", "order", "slope", "name"),
    [
        (np.uint8, "<", (4.0, -20.0), "a.nii"),
        (np.int16, ">", None, "a.nii"),
        (np.float32, "<", None, "a.nii.gz"),
        (np.uint16, ">", (0.5, 0.0), "a.nii.gz"),
    ],
)
def test_types_byte_orders_and_scales_are_undone(infer, pair, tmp_path, dtype, order, slope, name):
    volume = brain_volumes(SHAPE)["t2"] * (0.2 if dtype is np.uint8 else 1)
    first = nibabel.load(save(tmp_path / name, volume, dtype=dtype, order=order, slope=slope))
    wanted = infer(*pair, refine=False).get_fdata() / 1000  # of the same content; refined, its roundings would tell
    shutil.rmtree(tmp_path / "out")
    fused = infer(tmp_path / name, pair[1], refine=False)
    assert fused.get_data_dtype().newbyteorder("=") == np.dtype(dtype)
    assert (fused.dataobj.slope, fused.dataobj.inter) == (first.dataobj.slope, first.dataobj.inter)
    span = np.asarray(first.dataobj, float)
    found = (fused.get_fdata() - span.min()) / (span.max() - span.min())
    wanted = wanted / wanted.max() * found.max()
    assert np.abs(found - wanted).max() < 0.03


def test_nrrd_is_written_as_nrrd(weights, pair, tmp_path):
    from clinicalfmamba_nets.io import read_image, write_image

    for name, path in zip(("t2", "flair"), pair, strict=True):
        array, meta = read_image(path)
        write_image(tmp_path / f"{name}.nrrd", array, affine=meta["affine"], dtype="int16")
    entry = {"image": "t2.nrrd", "image2": "flair.nrrd", "case": "c"}
    (tmp_path / "list.json").write_text(json.dumps({"testing": [entry]}))
    settings = {**TINY, "ckpt_path": str(weights), "output_dir": str(tmp_path / "out")}
    run_bundle("fusion_3d", "inference", overrides={"datalist": str(tmp_path / "list.json"), **settings})
    fused, meta = read_image(tmp_path / "out" / "c_fused.nrrd")
    assert fused.shape == SHAPE and np.abs(meta["affine"] - OBLIQUE).max() < 1e-4 and meta["dtype"] == "int16"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("flips", [(0,), (1, 2)], ids=str)
def test_a_second_volume_in_another_order_is_the_same_pair(infer, pair, tmp_path, order, flips):
    image = nibabel.load(pair[1])
    array, affine = np.flip(np.asarray(image.dataobj), flips).transpose(order), image.affine.copy()
    for axis in flips:
        affine[:, 3] += affine[:, axis] * (SHAPE[axis] - 1)
        affine[:, axis] *= -1
    nibabel.save(nibabel.Nifti1Image(array, affine[:, [*order, 3]]), tmp_path / "turned.nii.gz")
    turned = np.asarray(infer(pair[0], tmp_path / "turned.nii.gz").dataobj)
    assert np.array_equal(turned, np.asarray(infer(*pair).dataobj))


def test_interpolation_leaves_no_grey_background(infer, pair, tmp_path, caplog):
    volume = brain_volumes(SHAPE)["t2"]
    edge = np.argwhere(volume > 0)[::200]
    volume[tuple(edge.T)] = -0.1
    fused = infer(save(tmp_path / "undershot.nii.gz", volume), pair[1])
    assert np.asarray(fused.dataobj)[0, 0, 0] == 0 and np.asarray(fused.dataobj).min() >= 0


def test_the_preparation_of_the_paper(infer, pair):
    fused = infer(*pair, preparation="brats", brats_size=[32, 32, 32])
    assert fused.shape == (32, 32, 32)
    corners = [image.affine @ [*(np.array(image.shape) - 0.5), 1] for image in (fused, nibabel.load(pair[0]))]
    assert np.abs(corners[0] - corners[1]).max() < 0.02
    with pytest.raises(FusionInputError, match="preparation: expected one of native, brats, found 'other'"):
        infer(*pair, preparation="other")


def test_windows_agree_with_the_whole(network):
    volumes = brain_volumes((56, 60, 52))
    image = torch.from_numpy(np.stack([volumes["t2"], volumes["flair"]]))[None]
    with torch.no_grad():
        whole = VolumeInferer("whole")(image, network)
        windows = VolumeInferer("window", (40, 40, 40), 0.25)(image, network)
    assert not torch.equal(whole, windows)
    assert (whole - windows).abs().mean() < 0.01
    assert whole[0, 0, 0, 0, 0] == 0 and windows[0, 0, 0, 0, 0] == 0


def test_only_the_head_is_computed():
    image = torch.zeros(1, 2, 40, 40, 40)
    image[0, 1, 18:22, 18:24, 19:21] = 1
    seen = []

    def network(part):
        seen.append(tuple(part.shape[2:]))
        return part[:, 1:]

    assert torch.equal(VolumeInferer(margin=4)(image, network), image[:, 1:])
    assert seen == [(16, 18, 16)]  # two voxels of blur on both sides, then four margins at least


def test_shares_are_refined_unless_told_otherwise(infer, pair, tmp_path):
    refined = np.asarray(infer(*pair).dataobj, float)
    shutil.rmtree(tmp_path / "out")
    alone = np.asarray(infer(*pair, refine=False).dataobj, float)
    assert np.abs(refined - alone).max() > 0.05 * alone.max()


@pytest.mark.parametrize("task", ["t2_flair", "ct_mri", "spect_mri", "pet_mri", "t2_flair_planar"])
def test_every_task_has_weights_of_the_refinement(task):
    inferer = open_bundle("fusion_3d", overrides={"task": task}).parser.get_parsed_content("inferer")
    assert isinstance(inferer, VolumeInferer) and inferer.refinement.steps == 48
    plain = open_bundle("fusion_3d", overrides={"task": task, "refine": False}).parser.get_parsed_content("inferer")
    assert plain.refinement is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"refine": "yes"}, "refine'?: expected true or false"),
        ({"mode": "windows"}, "mode: expected window or whole"),
        ({"overlap": 1.0}, "overlap: expected a share"),
    ],
)
def test_bad_settings_of_the_inferer(infer, pair, given, told):
    with pytest.raises(FusionInputError, match=told):
        infer(*pair, **given)


@pytest.mark.slow
def test_training_resumes_exactly(pair, tmp_path, bundle_dir):
    entries = [{"image": str(pair[0]), "image2": str(pair[1]), "case": str(number)} for number in range(2)]
    (tmp_path / "list.json").write_text(json.dumps({"training": entries}))
    sizes = {
        "patch_size": [18, 18, 16],
        "val_size": [24, 24, 24],
        "phantoms": 1,
        "val_interval": 1,
        "val_fraction": 0.5,
    }
    settings = {**TINY, **sizes, "datalist": str(tmp_path / "list.json"), "schedule_epochs": 4}
    whole = run_bundle("fusion_3d", "train", overrides={**settings, "epochs": 4, "output_dir": str(tmp_path / "a")})
    assert whole.check_properties() == []
    for epochs, resume in ((2, False), (4, True)):
        given = {"epochs": epochs, "resume": resume, "output_dir": str(tmp_path / "b")}
        run_bundle("fusion_3d", "train", overrides={**settings, **given})
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"] for name in "ab"]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_folder_of_cases_is_read_by_the_task(weights, pair, tmp_path, caplog):
    for case in ("one", "two"):
        for path in pair:
            (tmp_path / "vol" / case).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "vol" / case / f"{case}_{path.name}")
    shutil.copy(pair[0], tmp_path / "vol" / "one" / "one_t1c.nii.gz")
    given = {**TINY, "ckpt_path": str(weights), "dataset_dir": str(tmp_path / "vol"), "output_dir": str(tmp_path / "o")}
    with caplog.at_level(logging.INFO, "clinicalfmamba"):
        workflow = run_bundle("fusion_3d", "inference", overrides=given)
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["one_fused.nii.gz", "two_fused.nii.gz"]
    assert workflow.check_properties() == []


def test_the_held_out_patient_is_in_no_training_list(checkout):
    lists = json.loads((checkout / "bundles" / "fusion_3d" / "datalists" / "t2_flair.json").read_text())
    trained = {part for entry in lists["training"] for part in (entry["image"], entry["image2"])}
    assert not any("6692" in name for name in trained)
    assert [entry["case"] for entry in lists["testing"]] == ["tcga_fg_6692"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("truncated.nii.gz", "truncated"),
        ("huge_dims_header.nii", "huge_dims_header.nii: expected"),
        ("dim4d.nii.gz", "a 2D or 3D image, found 4D"),
        ("complex64.nii.gz", "complex"),
        ("nan_1pct.nii.gz", "finite values"),
        ("constant.nii.gz", "contrast"),
        ("single_slice.nii.gz", "expected a 3D image"),
    ],
)
def test_bad_volumes_are_refused_in_one_line(infer, shared_data, tmp_path, name, told):
    good = next((shared_data / "bad" / "nifti" / "good_pair").glob("*"))
    with pytest.raises(FusionInputError, match=told) as caught:
        infer(shared_data / "bad" / "nifti" / name, good)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_the_bad_pairs_that_can_be_fused(infer, shared_data):
    folder = shared_data / "bad" / "nifti"

    def fused(name):
        first, second = sorted((folder / name).glob("*.nii*"), key=lambda path: "t2w" not in path.name.lower())
        return infer(first, second), nibabel.load(first)

    for name in ("good_pair", "oblique_anisotropic", "same_space_flipped_storage", "mismatch_shape"):
        result, first = fused(name)
        assert result.shape == first.shape and np.abs(result.affine - first.affine).max() < 1e-4, name


def test_weights_follow_from_the_task(checkout):
    models = checkout / "bundles" / "fusion_3d" / "models"
    for task, name in (
        ("t2_flair", "model.pt"),
        ("pet_mri", "model.pt"),
        ("spect_mri", "model.pt"),
        ("t2_flair_planar", "model_t2_flair_planar.pt"),
    ):
        parser = open_bundle("fusion_3d", overrides={"task": task}).parser
        assert parser.get_parsed_content("ckpt_path") == str(models / name)


def test_evaluation_measures_the_box_around_the_head(pair, weights, tmp_path, caplog):
    entry = {"image": str(pair[0]), "image2": str(pair[1]), "case": "held_out"}
    (tmp_path / "list.json").write_text(json.dumps({"testing": [entry]}))
    settings = {**TINY, "ckpt_path": str(weights), "datalist": str(tmp_path / "list.json"), "metrics": ["psnr", "qabf"]}
    settings |= {"output_dir": str(tmp_path / "eval"), "roi_size": [24, 24, 24]}
    run_bundle("fusion_3d", "inference", ["evaluate"], settings)
    names = {path.name for path in (tmp_path / "eval").iterdir()}
    assert names >= {"contact_sheet.png", "pairs.csv", "summary.json", "table.md"}
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())["networks"]
    wanted = [
        "ClinicalFMamba",
        "average",
        "maximum",
        "Laplacian pyramid",
        "Laplacian pyramid, max base",
        "guided filter",
    ]
    assert list(summary) == wanted
    assert all(np.isfinite(row["over_runs"]["psnr_head"]["mean"]) for row in summary.values())
