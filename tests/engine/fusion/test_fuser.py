"""`Fuser` and `fuse`: arrays, tensors and batches, never one read for another; the caller's process left alone."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch

import clinicalfmamba_nets
from clinicalfmamba_nets import Fuser, fuse
from clinicalfmamba_nets.errors import FusionInputError, FusionWarning

IMAGES = np.random.default_rng(5).random((2, 3, 32, 40)).astype(np.float32)  # two pairs' worth of three images
A, B = IMAGES


@pytest.fixture(autouse=True)
def bundles(toy_bundles, monkeypatch):
    """Use random weights."""
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(toy_bundles))


def test_a_batch_is_a_batch():
    fuser = Fuser(task="ct_mri", device="cpu")
    single = [fuser(a, b) for a, b in zip(A, B, strict=True)]
    for batch in (fuser(A, B, spatial_dims=2), fuser(A[:, None], B[:, None])[:, 0]):
        assert np.array_equal(batch, np.stack(single))
    tensors = fuser(torch.from_numpy(A[:, None]), torch.from_numpy(B[:, None]))
    assert isinstance(tensors, torch.Tensor) and tensors.shape == (3, 1, 32, 40)
    assert torch.equal(tensors[:, 0], torch.from_numpy(np.stack(single)))


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(FusionInputError, match="image_a: expected a batch of at least one image, found none"):
        fuse(np.zeros((0, 1, 8, 8)), np.zeros((0, 1, 8, 8)), task="ct_mri")


@pytest.mark.parametrize(("pair", "name"), [(("", A[0]), "image_a"), ((A[0], b""), "image_b")])
def test_an_empty_path_is_not_the_current_folder(pair, name):
    with pytest.raises(FusionInputError, match=f"{name}: expected an array, a tensor or a path, found an empty path"):
        fuse(*pair, task="ct_mri")


def test_shapes_are_those_of_the_first_image():
    for shape in ((32, 40), (1, 32, 40), (32, 40, 1)):
        assert fuse(A[0].reshape(shape), B[0], task="ct_mri").shape == shape
    assert fuse(A[0], np.moveaxis(B, 0, -1), task="pet_mri").shape == (32, 40, 3)
    assert fuse(np.repeat(A[:1], 9, 0), np.repeat(B[:1], 9, 0), task="ct_mri", spatial_dims=3).shape == (9, 32, 40)


def test_equal_channels_are_grey():
    grey = [np.stack([image] * 3, -1) for image in (A[0], B[0])]
    assert np.array_equal(fuse(*grey, task="ct_mri"), fuse(A[0], B[0], task="ct_mri"))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.moveaxis(A, 0, -1), "picture in color .* or a volume of 3 slices"),
        (A, "picture in color .* or a batch of 3 images, or a volume"),
        (np.concatenate([A, B]), "batch of 6 images or a volume of 40 slices.*spatial_dims=2.*spatial_dims=3"),
        (np.zeros((2, 3, 4, 5)), "shape 2 x 3 x 4 x 5"),
        ([[1, 2]], "an array, a tensor or a path"),
    ],
    ids=["colors last", "colors first", "stack", "four dimensions", "list"],
)
def test_what_can_be_read_in_two_ways_is_refused(image, words):
    with pytest.raises(FusionInputError, match=words):
        fuse(image, image, task="ct_mri")


def test_the_process_of_the_caller_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)

    def drawn():
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    def seeded():
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(7)

    seeded()
    expected = drawn()
    seeded()
    Fuser(task="spect_mri", device="cpu")(A[0], B[0])
    clinicalfmamba_nets.nets.pretrained("ct_mri")
    assert drawn() == expected
    assert torch.backends.cudnn.benchmark and not torch.backends.cudnn.deterministic


def test_replaced_weights_are_noticed(toy_bundles, tmp_path, monkeypatch):
    shutil.copytree(toy_bundles, tmp_path / "bundles")
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(tmp_path / "bundles"))
    first = fuse(A[0], B[0], task="ct_mri", device="cpu")
    assert np.array_equal(fuse(A[0], B[0], task="ct_mri", device="cpu"), first)
    models = tmp_path / "bundles" / "fusion_2d" / "models"
    shutil.copy(models / "model_pet_mri.pt", models / "model.pt")
    assert not np.array_equal(fuse(A[0], B[0], task="ct_mri", device="cpu"), first)


def test_a_task_means_one_network():
    from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline

    shipped = clinicalfmamba_nets.nets.pretrained("pet_mri").state_dict()
    opened = FusionPipeline("pet_mri", "cpu").network.state_dict()
    assert shipped.keys() == opened.keys() and all(torch.equal(shipped[name], opened[name]) for name in shipped)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tsk": "ct_mri"}, "fuse() got an unexpected keyword argument 'tsk'; did you mean 'task'?"),
        ({"windowb": "40/80"}, "did you mean 'window_b'?"),
        ({"spatial_dim": 2}, "did you mean 'spatial_dims'?"),
        ({"zzz": 1}, "'zzz'; expected one of spatial_dims, task, "),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest_one(options, told):
    image = np.zeros((32, 32), np.float32)
    with pytest.raises(TypeError) as error:
        fuse(image, image, **options)
    assert told in str(error.value)
    if "spatial_dim" not in options:
        with pytest.raises(TypeError, match=r"^Fuser\(\) got an unexpected keyword argument"):
            Fuser(**options)


@pytest.mark.parametrize(
    "change", [torch.Tensor.bfloat16, torch.Tensor.half, torch.Tensor.double, torch.Tensor.to_sparse]
)
def test_tensors_of_any_kind_are_taken(change):
    image, other = (torch.arange(1024).reshape(32, 32) * factor % 64 / 64 for factor in (1, 5))
    fused = fuse(change(image), change(other), task="ct_mri", device="cpu")
    assert fused.dtype == torch.float32 and torch.allclose(
        fused, fuse(image, other, task="ct_mri", device="cpu"), atol=5e-3
    )


def test_tensors_of_every_layout_are_read_by_their_values():
    a, b = torch.from_numpy(A[0]), torch.from_numpy(B[0])
    wanted = fuse(a, b, task="ct_mri")
    mirrored = torch.complex(torch.zeros(32, 40), -a).conj().imag  # its memory holds the negative values
    for other in (a.to_sparse(), a.to_sparse_csr(), a.to_mkldnn(), mirrored):
        assert torch.equal(fuse(other, b, task="ct_mri"), wanted)
    levels = torch.quantize_per_tensor(a, 1 / 255, 0, torch.quint8)
    assert torch.equal(fuse(levels, b, task="ct_mri"), fuse(levels.dequantize(), b, task="ct_mri"))
    with pytest.raises(FusionInputError, match="image_a: expected a tensor with values, found one on the meta device"):
        fuse(a.to("meta"), b, task="ct_mri")
    with pytest.raises(FusionInputError, match="image2: expected a tensor with values, found one on the meta device"):
        fuse(a, b.to("meta"), task="ct_mri")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": ["ct_mri"]}, r"task: expected one of ct_mri, .*found \['ct_mri'\]"),
        ({"bundle": "fusion"}, "bundle: expected one of fusion_2d, fusion_3d, found 'fusion'"),
        ({"device": "meta"}, "device 'meta': expected a device of this machine, found a device without values"),
        ({"device": "gpu"}, "device 'gpu': expected a device of this machine"),
        ({"bundle": "fusion_3d"}, "image_a: expected a volume, .*found shape 32 x 40; leave out spatial_dims=3 and"),
    ],
)
def test_options_that_do_not_fit_are_told(options, words):
    with pytest.raises(FusionInputError, match=words):
        fuse(A[0], B[0], **({"task": "ct_mri"} | options))


def test_options_of_files_are_told_to_have_no_effect():
    for option in ({"weights_map": True}, {"output_ext": ".dcm"}, {"scores": True}, {"slices": "12"}):
        with pytest.warns(FusionWarning, match=f"{next(iter(option))}: has no effect in Python"):
            Fuser("ct_mri", **option)
    with pytest.warns(FusionWarning, match="palette pet: the image in color .*; color='instead' returns it"):
        Fuser("pet_mri", palette="pet")
    with pytest.raises(FusionInputError, match="palette: expected a name such as hot_iron, found 3"):
        fuse(A[0], B[0], task="pet_mri", palette=3, color="instead")


def test_a_window_of_zero_is_no_default():
    first, second = np.random.default_rng(0).random((2, 32, 32), np.float32)
    with pytest.raises(FusionInputError, match="window: expected auto, brain, .* found 0; choose one of these"):
        fuse(first, second, window_a=0)
