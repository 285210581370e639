"""Bone in every window of a CT: decided where it is white, shown as the window shows it."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from clinicalfmamba_nets.data import write_phantom_study
from clinicalfmamba_nets.engine import Refinement, SliceInferer, VolumeInferer
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.engine.fusion.white_bone import WhiteBone
from clinicalfmamba_nets.nets import clinicalfmamba_2d, clinicalfmamba_3d
from clinicalfmamba_nets.transforms import WindowIntensityPair

HU = torch.tensor([-1000.0, -100.0, 0.0, 40.0, 70.0, 300.0, 1000.0, 2000.0])


def windowed(window: str) -> MetaTensor:
    """An MR and a CT of known values, a CT named so by the task, (1, 2, 2, 4) in [0, 1]."""
    pair = torch.stack([torch.linspace(0, 100, 8), HU]).reshape(2, 2, 4)
    return WindowIntensityPair(window_b=window, task="ct_mri")(pair)[None]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of MR and CT, with a skull of 450 HU that the MR does not show."""
    folder = tmp_path_factory.mktemp("study") / "study"
    write_phantom_study(folder, size=128, slices=5)
    return folder


@pytest.mark.parametrize(
    ("window", "soft", "bone"), [("bone", 0.3, 1100 / 2800), ("head", 5 / 12, 2 / 3 + 22 / 142 / 3)]
)
def test_bone_is_stretched_to_white_about_soft_tissue(window, soft, bone):
    image = windowed(window)
    assert image.meta["tissue_levels"].tolist() == [[0.0, 1.0], pytest.approx([soft, bone])]
    white = WhiteBone.of(image)
    seen = white(image.as_tensor()).flatten(2)[0]
    assert torch.equal(seen[0], image.as_tensor()[0, 0].flatten())
    assert seen[1].tolist()[3] == pytest.approx(soft) and (seen[1, HU >= 300] >= 0.99999).all()
    assert (seen[1].diff() >= 0).all() and seen[1].min() == 0


def test_a_ct_whose_air_was_cut_off_is_one_in_the_windows_that_count_in_hu():
    pair = torch.stack([torch.linspace(0, 100, 8), HU.clamp_min(-100)]).reshape(2, 2, 4)
    for window, soft in (("bone", 0.3), ("head", 5 / 12)):
        image = WindowIntensityPair(window_b=window, task="ct_mri")(pair)
        assert image.meta["tissue_levels"][1, 0] == pytest.approx(soft)
    image = WindowIntensityPair(window_b="0/1000", task="ct_mri")(pair)
    assert image.meta["tissue_levels"][1].tolist() == pytest.approx([0.54, 0.8])
    image = WindowIntensityPair(window_b="0/1000", task="ct_mri")(pair.clamp_min(0))
    assert image.meta["tissue_levels"].tolist() == [[0, 1], [0, 1]], "these may be other numbers"


@pytest.mark.parametrize("task", ["generic", None])
def test_a_second_image_named_a_ct_is_one_where_the_task_does_not_tell(task):
    values = torch.stack([torch.linspace(0, 100, 8), HU]).reshape(2, 2, 4)
    image = MetaTensor(values, meta={"filename_or_obj": "a.nii.gz", "image2_filename_or_obj": "1_ct.nii.gz"})
    shown = WindowIntensityPair(window_b="0/1000", task=task)(image)
    assert shown.meta["tissue_levels"][1].tolist() == pytest.approx([0.54, 0.8])
    assert "CT: window brain 40/80" in WindowIntensityPair(task=task)(image).meta["intensity_windows"]


@pytest.mark.parametrize("window", ["auto", "brain", "stroke", "subdural", "soft", "0/500"])
def test_nothing_is_stretched_where_bone_is_white(window):
    assert WhiteBone.of(windowed(window)) is None


def test_a_window_of_bone_alone_is_stretched_from_its_black():
    image = windowed("900/1000")
    assert image.meta["tissue_levels"][1].tolist() == pytest.approx([0, 0.26])
    seen = WhiteBone.of(image)(image.as_tensor())
    assert seen[0, 1].flatten().tolist() == [0] * 6 + [1, 1]


def test_pictures_of_8_bit_and_other_modalities_stay_as_they_are():
    picture = WindowIntensityPair(task="ct_mri")(torch.randint(0, 256, (2, 8, 8)).to(torch.uint8))[None]
    pet = WindowIntensityPair(window_b="0-15", task="pet_mri")(torch.rand(2, 8, 8) * 1000)[None]
    assert WhiteBone.of(picture) is None and WhiteBone.of(pet) is None
    assert WhiteBone.of(windowed("bone").as_tensor()) is None


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_shares_are_those_of_white_bone_and_the_images_those_of_the_window(dims, return_weights):
    torch.manual_seed(0)
    make = {2: clinicalfmamba_2d, 3: clinicalfmamba_3d}[dims]
    network = make(features=4, dim=16, depth=1, d_state=4, head="mix", return_weights=return_weights).eval()
    slope = torch.linspace(0, 1, 24).expand(1, *[24] * dims)
    pair = torch.stack([slope.transpose(1, -1), slope], 1).contiguous()
    image = MetaTensor(pair, meta={"tissue_levels": [[[0.0, 1.0], [0.3, 0.4]]]})
    inferer = {2: SliceInferer(smooth=False), 3: VolumeInferer("whole")}[dims]
    with torch.no_grad():
        given = inferer(image, network)
        plain = VolumeInferer("whole")(pair, network) if dims == 3 else network(pair)
    assert given.shape[1] == plain.shape[1] == 1 + return_weights and network.head.return_weights is return_weights
    assert not torch.allclose(given.as_tensor(), plain)
    fused, low, high = given.as_tensor()[:, :1], pair.amin(1, keepdim=True), pair.amax(1, keepdim=True)
    assert (fused >= low - 1e-6).all() and (fused <= high + 1e-6).all()
    if return_weights and dims == 2:
        seen = WhiteBone(torch.tensor([[[0.0, 1.0], [0.3, 0.4]]]))(pair)
        with torch.no_grad():
            torch.testing.assert_close(given.as_tensor()[:, 1], network(seen)[:, 1])
        torch.testing.assert_close(fused, torch.lerp(pair[:, 1:], pair[:, :1], given.as_tensor()[:, 1:]))


def test_a_pair_whose_bone_is_white_is_the_same_beside_one_whose_bone_is_grey(study):
    network = FusionPipeline("ct_mri").network
    inferer, pairs = FusionPipeline("ct_mri").inferer, []
    for window in ("brain", "bone"):
        steps = FusionPipeline("ct_mri", settings={"window_b": window}).preprocessing
        pairs.append({"image": steps({"image": f"{study}::MR", "image2": f"{study}::CT"})["image"][..., :2]})
    with torch.no_grad():
        alone = [inferer(pair["image"][None], network)[0] for pair in pairs]
        both = inferer(list_data_collate(pairs)["image"], network)
    assert torch.equal(both[0].as_tensor(), alone[0].as_tensor())
    assert torch.equal(both[1].as_tensor(), alone[1].as_tensor())


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, lambda network: torch.compile(network, backend="eager")])
def test_a_wrapped_network_mixes_as_the_network_itself(wrap):
    torch.manual_seed(0)
    network = clinicalfmamba_2d(features=4, dim=16, depth=1, d_state=4, head="mix", return_weights=True).eval()
    image = MetaTensor(torch.rand(1, 2, 24, 24), meta={"tissue_levels": [[[0.0, 1.0], [0.3, 0.4]]]})
    inferer = SliceInferer(refinement=Refinement(steps=2))
    with torch.no_grad():
        expected, given = inferer(image, network), inferer(image, wrap(network))
    assert torch.equal(given.as_tensor(), expected.as_tensor())


@pytest.mark.parametrize("window", ["brain", "head", "bone"])
def test_the_skull_keeps_the_brightness_of_its_window(study, window):
    pair = {"image": f"{study}::MR", "image2": f"{study}::CT"}
    hounsfield = FusionPipeline("ct_mri", settings={"window_b": "0/4000"}).preprocessing(dict(pair))["image"][1]
    bone = hounsfield.as_tensor()[..., 2] * 4000 - 2000 > 300
    pipeline = FusionPipeline("ct_mri", settings={"window_b": window})
    image = pipeline.preprocessing(dict(pair))["image"][None, ..., 2:3]
    with torch.no_grad():
        fused = pipeline.inferer(image, pipeline.network)[0, 0, ..., 0].as_tensor()
    kept = (fused / image.as_tensor()[0, 1, ..., 0])[bone]
    assert bone.sum() > 300 and kept.mean() > 0.97 and (kept < 0.7).float().mean() < 0.02
