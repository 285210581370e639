"""Loading of pairs: every form of input, every check, what batches and configurations make of it."""

from __future__ import annotations

import pickle

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandFlipd, RandRotate90d, RandSpatialCropd
from PIL import Image

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.transforms import LoadImagePair, LoadImagePaird
from clinicalfmamba_nets.transforms.notes import split_notes

AFFINE = np.array([[-0.85, 0.31, 0, 12.5], [-0.31, -0.85, 0, -40], [0, 0, 5.5, 7], [0, 0, 0, 1]])
RNG = np.random.default_rng(0)
GREY_A, GREY_B = RNG.integers(0, 255, (2, 9, 8)).astype(np.uint8)
COLOR = RNG.integers(0, 255, (9, 8, 3)).astype(np.uint8)
VOLUME_A, VOLUME_B = RNG.integers(0, 900, (2, 7, 6, 5)).astype(np.int16)


@pytest.fixture
def files(tmp_path):
    """Images of every kind, by name."""
    for name, pixels in [("a", GREY_A), ("b", GREY_B), ("color", COLOR), ("small", GREY_B[:-1]), ("flat", GREY_B * 0)]:
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    Image.fromarray(np.repeat(GREY_B[..., None], 3, -1)).save(tmp_path / "grey_rgb.png")
    for name, voxels in [("a", VOLUME_A), ("b", VOLUME_B), ("both", np.stack([VOLUME_A, VOLUME_B], -1))]:
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), tmp_path / f"{name}.nii.gz")
    for name, voxels in [
        ("flat_a", GREY_A[:, :, None]),
        ("flat_b", GREY_B[:, :, None]),
        ("a2d", GREY_A),
        ("b2d", GREY_B),
    ]:
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), tmp_path / f"{name}.nii.gz")
    return tmp_path


def load(first, second=None, **options):
    """Load a pair from arguments and return the entry."""
    entry = {"image": first} if second is None else {"image": first, "image2": second}
    return LoadImagePaird(keys="image", **options)(entry)


@pytest.mark.parametrize(
    "entry",
    [
        lambda f: {"image": str(f / "a.png"), "image2": f / "b.png"},
        lambda f: {"image": [f / "a.png", str(f / "b.png")]},
        lambda f: {"image": f / "a.png", "image2": bytes(f / "grey_rgb.png")},
        lambda f: {"image": GREY_A, "image2": torch.from_numpy(GREY_B)},
        lambda f: {"image": GREY_A[None], "image2": GREY_B[None].astype(np.float32)},
        lambda f: {"image": np.stack([GREY_A, GREY_B])},
        lambda f: {"image": np.stack([GREY_A, GREY_B], -1)},
        lambda f: {"image": MetaTensor(np.stack([GREY_A, GREY_B], 1), meta={"original_channel_dim": 1})},
        lambda f: {"image": f / "a2d.nii.gz", "image2": f / "b2d.nii.gz"},
    ],
)
def test_every_form_of_a_flat_pair(files, entry):
    loaded = EnsureChannelFirstd(keys="image")(LoadImagePaird(keys="image")(entry(files)))
    image = loaded["image"]
    assert isinstance(image, MetaTensor) and image.dtype == torch.float32
    assert np.array_equal(image.numpy(), np.stack([GREY_A, GREY_B]).astype(np.float32))
    assert image.meta["color"] == 0 and "image_chroma" not in loaded
    assert isinstance(loaded.get("image2", ""), str)


@pytest.mark.parametrize("entry", [("a.nii.gz", "b.nii.gz"), ("both.nii.gz",)])
def test_volumes_keep_their_place(files, entry):
    image = load(*[files / name for name in entry], spatial_dims=3)["image"]
    assert np.array_equal(image.numpy(), np.stack([VOLUME_A, VOLUME_B]).astype(np.float32))
    assert np.allclose(image.affine, AFFINE, atol=1e-6) and image.affine.dtype == torch.float64
    assert image.meta["filename_or_obj"] == str(files / entry[0]) and image.meta["dtype"] == "int16"


def test_a_volume_of_one_slice(files):
    paths = files / "flat_a.nii.gz", files / "flat_b.nii.gz"
    assert load(*paths, spatial_dims=2)["image"].shape == (2, 9, 8)
    with pytest.raises(FusionInputError, match="flat_a.nii.gz: expected a 3D image, found size 9 x 8 x 1; use the 2D"):
        load(*paths, spatial_dims=3)
    with pytest.raises(FusionInputError, match="expected a 2D image, found size 7 x 6 x 5; use the 3D bundle"):
        load(files / "a.nii.gz", files / "b.nii.gz", spatial_dims=2)


def test_a_picture_that_was_laid_over_the_mr_is_told():
    """A fused screenshot was taken for a SPECT in silence: the MR went in twice, under colors of no SPECT's scale."""
    x, y = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
    mr = np.where(x**2 + y**2 < 0.8, 0.3 + 0.3 * np.cos(9 * x), 0)
    uptake = np.clip(1 - 2 * (x**2 + y**2), 0, 1)
    hot = np.stack([uptake, uptake**2, uptake**4], -1)
    over = np.where(uptake[..., None] > 0.6, hot, mr[..., None])
    warnings = [
        LoadImagePair()(mr, color)[0].meta["warnings"] for color in (hot, over, 0.6 * hot + 0.4 * mr[..., None])
    ]
    assert warnings[0] == warnings[2] == ""
    assert "is grey, the rest in color: colors laid over a grey image, as on a screen" in warnings[1]


def test_color_is_split(files):
    loaded = load(files / "a.png", files / "color.png")
    luma = COLOR.astype(float) @ [0.299, 0.587, 0.114]
    assert np.allclose(loaded["image"][1], luma, atol=1e-3)
    assert loaded["image_chroma"].shape == (2, 9, 8) and loaded["image"].meta["color"] == 1
    assert loaded["image_chroma"].min() >= 0 and loaded["image_chroma"].max() <= 1
    assert "image_chroma" not in load(files / "a.png", files / "color.png", chroma="never")
    neutral = load(files / "a.png", files / "b.png", chroma="always")
    assert (neutral["image_chroma"] == 0.5).all() and neutral["image"].meta["color"] == 0


@pytest.mark.parametrize("layout", [lambda c: c, lambda c: np.moveaxis(c, -1, 0), lambda c: c.astype(np.float32) / 255])
def test_color_arrays(files, layout):
    chroma = load(GREY_A, layout(COLOR))["image_chroma"]
    assert torch.allclose(chroma, load(files / "a.png", files / "color.png")["image_chroma"], atol=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a.png", None, "a.png: expected two images, found one PNG image; name the second image too"),
        ("a.nii.gz", None, "expected two images, found one of 7 x 6 x 5 voxels"),
        ("a.png", "small.png", r"small.png: expected the size 9 x 8 of .*a.png, found 8 x 8; resample it"),
        ("a.png", "flat.png", "flat.png: expected an image with contrast, found 0 everywhere"),
        ("color.png", "a.png", "color.png: expected a grey image first, found a color image"),
        ("a.png", "b2d.nii.gz", "geometry"),
        ("a.png", "gone.png", "gone.png: .* no such file"),
        ("both.nii.gz", "b.nii.gz", r"both.nii.gz: expected a 2D or 3D image, found 4D \(7 x 6 x 5 x 2\)"),
        ("a.nii.gz", "b2d.nii.gz", "expected the size 7 x 6 x 5"),
    ],
)
def test_bad_pairs_are_refused_in_one_line(files, first, second, message):
    with pytest.raises(FusionInputError, match=message) as error:
        load(files / first, None if second is None else files / second)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": None}, "expected two images, found none"),
        ({"image": []}, "expected two images, found none"),
        ({"image": ["a", "b", "c"]}, "expected two images, found 3 images"),
        ({"image": ["a", "b"], "image2": "c"}, "found 3 images"),
        ({"image": 7, "image2": "c"}, "expected two images, found a int"),
        ({"image": GREY_A}, r"expected two images, found one of shape \(9, 8\)"),
        ({"image": np.zeros((3, 9, 8))}, r"found one of shape \(3, 9, 8\)"),
        ({"image": np.full((2, 9, 8), np.nan)}, "image: expected finite values, found 144 NaN"),
        ({"image": GREY_A, "image2": np.full((9, 8), np.inf)}, "image2: expected finite values"),
        ({"image": GREY_A, "image2": GREY_B + 1j}, "image2: expected real numbers, found complex128"),
        ({"image": GREY_A, "image2": np.zeros((9, 8, 4))}, "expected the size 9 x 8 of image"),
        ({"image": GREY_A * 0, "image2": GREY_B}, "image: expected an image with contrast"),
    ],
)
def test_bad_entries_are_refused(entry, message):
    with pytest.raises(FusionInputError, match=message):
        LoadImagePaird()(entry)


def test_constant_images_can_be_allowed():
    assert load(GREY_A * 0, GREY_B, allow_constant=True)["image"][0].max() == 0


def test_nothing_is_paired_by_array_index(shared_data):
    folder = shared_data / "bad" / "nifti"
    good, flipped, oblique = (
        load(folder / name / "t2.nii.gz", folder / name / "flair.nii.gz")["image"]
        for name in ("good_pair", "same_space_flipped_storage", "oblique_anisotropic")
    )
    assert torch.equal(good.as_tensor(), flipped.as_tensor()) and "reordered by its affine" in flipped.meta["notes"]
    stored = nibabel.load(folder / "oblique_anisotropic" / "t2.nii.gz").affine
    assert np.abs(oblique.affine.numpy() - stored).max() < 1e-4


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("nifti/mismatch_shape/t2.nii.gz", "nifti/mismatch_shape/flair.nii.gz", "expected the size 48 x 48 x 48"),
        ("nifti/good_pair/t2.nii.gz", "nifti/constant.nii.gz", "constant.nii.gz: expected an image with contrast"),
        ("nifti/good_pair/t2.nii.gz", "nifti/dim4d.nii.gz", "dim4d.nii.gz: .* 4D"),
        ("nifti/nan_1pct.nii.gz", "nifti/good_pair/t2.nii.gz", "nan_1pct.nii.gz: .* NaN"),
        (
            "png/good_mri.png",
            "png/size_255x240.png",
            "expected the size 256 x 256 .* found 240 x 255",
        ),
        ("png/good_mri.png", "png/truncated.png", "truncated.png"),
        ("png/bomb_30000.png", "png/good_ct.png", "bomb_30000.png"),
    ],
)
def test_bad_pairs_of_the_collection(shared_data, first, second, message):
    with pytest.raises(FusionInputError, match=message):
        load(shared_data / "bad" / first, shared_data / "bad" / second)


def test_good_pairs_of_the_collection(shared_data):
    folder = shared_data / "bad" / "png"
    plain = load(folder / "good_mri.png", folder / "good_ct.png")["image"]
    for name in ("rgba.png", "gray16.png"):
        other = load(folder / "good_mri.png", folder / name)["image"][1]
        scaled = other / other.max() * 255
        assert min((scaled - channel).abs().max() for channel in plain) <= 0.5
    odd = folder / "odd_size_253x251.png"
    assert load(odd, odd)["image"].shape == (2, 251, 253)


def test_the_name_is_what_clients_look_for():
    assert "LoadImage" in LoadImagePaird.__name__ and not issubclass(LoadImagePaird, LoadImaged)
    parser = ConfigParser({"load": {"_target_": "clinicalfmamba_nets.transforms.LoadImagePaird", "keys": ["image"]}})
    loader = parser.get_parsed_content("load")
    assert isinstance(pickle.loads(pickle.dumps(loader)), LoadImagePaird)
    for options in ({"spatial_dims": 4}, {"chroma": "some"}):
        with pytest.raises(ValueError, match="expected"):
            LoadImagePair(**options)
    with pytest.raises(ValueError, match="expected one key"):
        LoadImagePaird(keys=["image", "image2"])


def test_batches_of_workers_with_crops_that_stay_aligned(files):
    keys = ["image", "image_chroma"]
    transform = Compose(
        [
            LoadImagePaird(chroma="always"),
            EnsureChannelFirstd(keys="image"),
            RandFlipd(keys, prob=0.5, spatial_axis=0),
            RandRotate90d(keys, prob=1.0),
            RandSpatialCropd(keys, roi_size=(6, 6), random_size=False),
        ]
    )
    items = [{"image": files / "a.png", "image2": files / name} for name in ("color.png", "a.png", "grey_rgb.png")]
    (batch,) = DataLoader(Dataset(items, transform), batch_size=3, num_workers=2)
    assert batch["image"].shape == (3, 2, 6, 6) and batch["image_chroma"].shape == (3, 2, 6, 6)
    assert batch["image"].meta["color"].tolist() == [1, 0, 0]
    assert torch.equal(batch["image"][1, 0], batch["image"][1, 1])


def test_what_is_known_of_both_images_survives_batches(files):
    entries = [{"image": str(files / f"{name}.nii.gz"), "image2": str(files / "b.nii.gz")} for name in "ab"]
    loader = DataLoader(Dataset(entries, LoadImagePaird("image")), batch_size=2, num_workers=0)
    for name, pair in zip("ab", decollate_batch(next(iter(loader))), strict=True):
        first, second = pair["image"].meta["sources"]
        assert (first["path"], first["kind"], first["suv_factor"]) == (str(files / f"{name}.nii.gz"), "nifti", None)
        assert second["dtype"] == "int16" and second["windows"] == []


def test_warnings_of_a_reader_are_kept_apart_from_its_notes(files, monkeypatch):
    from clinicalfmamba_nets.transforms import sources

    read = sources.read_image

    def told(path, two_channels=False):
        array, info = read(path, two_channels)
        return array, {**info, "modality": "CT", "warnings": ["2 files left out"], "notes": ["a note"]}

    monkeypatch.setattr(sources, "read_image", told)
    meta = LoadImagePair()(files / "a.nii.gz", files / "b.nii.gz")[0].meta
    assert split_notes(meta["warnings"]) == [f"{files / name}: 2 files left out" for name in ("a.nii.gz", "b.nii.gz")]
    assert "left out" not in meta["notes"] and meta["sources"][1]["modality"] == "CT"


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_a_slice_of_any_plane_is_an_image(tmp_path, flat):
    from clinicalfmamba_nets.io import write_image
    from clinicalfmamba_nets.transforms import SaveFused

    shape = [9, 8, 7]
    shape[flat] = 1
    affine = np.array([[-0.85, 0.31, 0, 12.5], [-0.31, -0.85, 0, -40], [0, 0, 5.5, 7], [0, 0, 0, 1]])
    volume = np.arange(np.prod(shape), dtype=float).reshape(shape)
    write_image(tmp_path / "a.nii.gz", volume, affine=affine)
    write_image(tmp_path / "b.nii.gz", volume[::-1], affine=affine)
    image, _ = LoadImagePair(spatial_dims=2)(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert image.shape == (2, *(side for side in shape if side > 1))
    fused = SaveFused(tmp_path, output_ext="")(image[:1], image.meta)
    one, two = nibabel.load(tmp_path / "a.nii.gz"), nibabel.load(fused)
    assert one.shape == two.shape and np.allclose(one.affine, two.affine)
    assert np.allclose(one.get_fdata(), two.get_fdata())
