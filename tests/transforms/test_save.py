"""Saving by case: N cases give N files, geometry and type are the first input's, inputs stay as they are."""

from __future__ import annotations

import hashlib
import os
import pickle

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, Orientationd, SaveImaged
from PIL import Image

from clinicalfmamba_nets.errors import FusionInputError, FusionWarning
from clinicalfmamba_nets.io import read_image, write_image
from clinicalfmamba_nets.transforms import LoadImagePair, LoadImagePaird, SaveFused, SaveFusedd, SaveImageFusedd

AFFINE = np.array([[-0.85, 0.31, 0, 12.5], [-0.31, -0.85, 0, -40], [0, 0, 5.5, 7], [0, 0, 0, 1]])


@pytest.fixture
def pairs(tmp_path):
    """Four pairs whose first images have one name."""
    entries = []
    for index in range(4):
        folder = tmp_path / "in" / f"c{index}"
        pixels = np.random.default_rng(index).integers(0, 255, (2, 9, 8)).astype(np.float32)
        for name, image in zip(("m1.png", "ct.png"), pixels, strict=True):
            write_image(folder / name, image)
        entries.append({"image": folder / "m1.png", "image2": folder / "ct.png"})
    return entries


def save(entries, folder, **options):
    """Load pairs, take their first image as fused, save; return the files' names."""
    chain = Compose([LoadImagePaird(), EnsureChannelFirstd(keys="image")])
    saver = SaveFusedd(keys="pred", output_dir=folder, **options)
    names = []
    for entry in entries:
        loaded = chain(entry)
        loaded["pred"] = loaded["image"][:1]
        names.append(os.path.basename(saver(loaded)["pred"].meta["saved_to"]))
    return names


def test_equal_names_never_replace_each_other(pairs, tmp_path):
    entries = [*pairs, {"image": pairs[0]["image"], "image2": pairs[1]["image2"]}]
    names = save(entries, tmp_path / "out")
    assert len(set(names)) == len(os.listdir(tmp_path / "out")) == 5
    assert names[:2] == ["m1_fused.png", "c1_m1_fused.png"]
    for entry, name in zip(entries, names, strict=True):
        assert np.array_equal(Image.open(tmp_path / "out" / name), Image.open(entry["image"]))


def test_cases_name_the_files(pairs, tmp_path):
    names = ["x", "../x", "X", 7]
    found = save([{**entry, "case": name} for entry, name in zip(pairs, names, strict=True)], tmp_path / "out")
    assert found == ["x_fused.png", "c1_x_fused.png", "c2_X_fused.png", "7_fused.png"]
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_a_second_run_replaces_or_keeps(pairs, tmp_path):
    out = tmp_path / "out"
    save(pairs[:1], out)
    (out / "m1_fused.png").write_text("old")
    assert save(pairs[:1], out, overwrite=False) == ["m1_fused.png"]
    assert (out / "m1_fused.png").read_text() == "old"
    save(pairs[:1], out)
    assert (out / "m1_fused.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("first", "second"), [(".nii", ".nii.gz"), (".nii.gz", ".nii")])
def test_a_result_beside_that_of_the_other_ending_of_nifti_is_a_warning(tmp_path, first, second):
    """Asked for 7_fused.nii.gz, ITK 5.4.7 (SimpleITK 2.5.7) gives the voxels of 7_fused.nii beside it."""
    volume = torch.zeros(1, 4, 5, 6)
    told = rf"7_fused\{first} lies beside the new 7_fused\{second}: programs built on ITK show the voxels of the \.nii"
    for _ in range(2):  # a file that is replaced is no other one
        SaveFused(tmp_path, output_ext=first)(volume, case="7")
    with pytest.warns(FusionWarning, match=told):
        SaveFused(tmp_path, output_ext=second)(volume, case="7")


def test_inputs_stay_as_they_are(pairs, tmp_path):
    def digest():
        return [hashlib.sha256(entry[key].read_bytes()).digest() for entry in pairs for key in entry]

    before = digest()
    save(pairs, tmp_path / "out")
    assert digest() == before


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("shape", [(7, 6, 5), (7, 6, 1), (7, 6)])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_geometry_and_type_are_the_first_images(tmp_path, name, shape, dtype):
    voxels = np.random.default_rng(0).integers(0, 900, (2, *shape)).astype(dtype)
    for file, image in zip((name, f"b{name}"), voxels, strict=True):
        nibabel.save(nibabel.Nifti1Image(image, AFFINE), tmp_path / file)
    entry = {"image": tmp_path / name, "image2": tmp_path / f"b{name}"}
    (result,) = save([entry], tmp_path / "out")
    assert result == f"a_fused{name[1:]}"
    saved, first = nibabel.load(tmp_path / "out" / result), nibabel.load(tmp_path / name)
    assert saved.shape == first.shape and saved.get_data_dtype() == dtype
    assert np.abs(saved.affine - first.affine).max() < 1e-6 and np.array_equal(saved.get_fdata(), first.get_fdata())
    (result,) = save([entry], tmp_path / "float", dtype="float64")
    assert nibabel.load(tmp_path / "float" / result).get_data_dtype() == np.float64


def test_changed_orientation_is_written_where_it_lies(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 900, (7, 6, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), tmp_path / "a.nii")
    pre = Compose([LoadImagePaird(), EnsureChannelFirstd(keys="image"), Orientationd(keys="image", axcodes="ASR")])
    loaded = pre({"image": [tmp_path / "a.nii"] * 2})
    loaded["pred"] = loaded["image"][:1]
    turned = nibabel.load(SaveFusedd(output_dir=tmp_path / "turned")(loaded)["pred"].meta["saved_to"])
    assert nibabel.aff2axcodes(turned.affine) == ("A", "S", "R") and turned.shape == (6, 5, 7)
    again = nibabel.as_closest_canonical(turned).get_fdata()
    assert np.array_equal(again, nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii")).get_fdata())
    loaded["pred"] = loaded["image"][:1]
    back = Invertd(keys="pred", transform=pre, orig_keys="image", nearest_interp=False)(loaded)
    saved = nibabel.load(SaveFusedd(output_dir=tmp_path / "back")(back)["pred"].meta["saved_to"])
    assert np.array_equal(saved.get_fdata(), voxels) and np.allclose(saved.affine, AFFINE, atol=1e-5)


def test_arrays_without_a_file(tmp_path):
    saver = SaveFused(tmp_path)
    assert saver(np.ones((1, 9, 8)), {"value_range": 255.0}, "a").name == "a_fused.png"
    assert saver(np.ones((1, 9, 8)), case="a").name == "a_fused.nii.gz"
    assert saver(np.zeros((1, 9, 8)), case="a").name == "case_a_fused.nii.gz"
    volume = MetaTensor(torch.rand(1, 7, 6, 5), affine=torch.from_numpy(AFFINE))
    saved = nibabel.load(saver(volume, volume.meta, "b"))
    assert np.allclose(saved.affine, AFFINE) and saved.get_data_dtype() == np.float32


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.full((1, 9, 8), np.nan), {}, "expected a finite fused image"),
        (np.ones((2, 9, 8)), {}, r"expected \(1, \*spatial\)"),
        (np.ones((9, 8)), {}, r"found shape \(9, 8\)"),
        (np.ones((1, 9, 8, 7)), {"output_ext": "png"}, "expected an image for .png, found a volume"),
        (np.ones((3, 9, 8)), {"output_ext": ".mgz"}, "expected an image for .mgz, found a color image"),
    ],
)
def test_what_cannot_be_saved_leaves_no_file(tmp_path, array, options, message):
    with pytest.raises(FusionInputError, match=message):
        SaveFused(tmp_path, **options)(array, {}, "case")
    assert os.listdir(tmp_path) == []


def test_clients_recognize_it_and_it_is_picklable(tmp_path):
    saver = pickle.loads(pickle.dumps(SaveFusedd(output_dir=tmp_path)))
    assert isinstance(saver, SaveImaged) and "SaveImage" in type(saver).__name__ and SaveFusedd is SaveImageFusedd


def test_a_dicom_result_names_the_windows_that_made_it(shared_data, tmp_path):
    import pydicom

    source = shared_data / "dicom" / "pydicom_singles" / "MR_small.dcm"
    meta = {
        "filename_or_obj": str(source),
        "intensity_windows": "image A, MR: 0 to 9\nimage B, CT: window brain 40/80 HU",
    }
    folder = SaveFused(tmp_path)(np.ones((1, 64, 64)), meta)
    told = pydicom.dcmread(next(folder.iterdir())).DerivationDescription
    assert told.endswith("Not for diagnostic use. image A, MR: 0 to 9; image B, CT: window brain 40/80 HU")


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("kind", ["mha", "nii.gz", "nrrd"])
def test_a_result_has_no_place_where_the_source_has_none(tmp_path, color, kind):
    source = tmp_path / f"a.{kind}"
    voxels = np.arange(60, dtype="<i2").reshape(5, 4, 3)
    if kind == "mha":
        fields = "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementSpacing = 2 2 3\nElementType = MET_SHORT\n"
        source.write_bytes(fields.encode() + b"ElementDataFile = LOCAL\n" + voxels.tobytes(order="F"))
    else:
        write_image(source, voxels, affine=np.diag([2.0, 2, 3, 1]), dtype="int16", coordinates="none")
    image, _ = LoadImagePair()(source, source)
    assert image.meta["coordinates"] == "none"
    fused = image[:1]
    if color:
        fused = MetaTensor(fused.as_tensor().repeat(3, 1, 1, 1), affine=image.affine, meta={"palette": "hot"})
    path = SaveFused(tmp_path / "out", output_ext=".nii.gz")(fused, image.meta)
    header = nibabel.load(path).header
    assert not header["sform_code"] and not header["qform_code"]
    assert np.allclose(np.linalg.norm(read_image(path)[1]["affine"][:3, :3], axis=0), [2, 2, 3])


@pytest.mark.parametrize(
    ("ending", "kind"), [(".mha", np.int16), (".mha", np.uint8), (".mgz", np.int16), (".mgz", np.float32)]
)
def test_results_of_formats_that_become_nifti_keep_the_type(tmp_path, ending, kind):
    itk_affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    values = np.arange(5 * 6 * 4).reshape(5, 6, 4).astype(kind)
    if ending == ".mgz":
        nibabel.save(nibabel.MGHImage(values, itk_affine), tmp_path / "mr.mgz")
    else:
        named = {"int16": "MET_SHORT", "uint8": "MET_UCHAR"}[values.dtype.name]
        head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nTransformMatrix = "
        head += f"1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 2\nDimSize = 5 6 4\nElementType = {named}\n"
        (tmp_path / "mr.mha").write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + values.tobytes(order="F"))
    other = nibabel.Nifti1Image(values[::-1].astype(np.float32), itk_affine)
    nibabel.save(other, tmp_path / "ct.nii.gz")
    pair, _ = LoadImagePair()(tmp_path / f"mr{ending}", tmp_path / "ct.nii.gz")
    path = SaveFused(tmp_path / "out")(pair[:1] + 0.25, pair.meta, "7")
    written = nibabel.load(path)
    assert path.name == "7_fused.nii.gz" and written.get_data_dtype() == np.dtype(kind)
    assert np.allclose(written.affine, itk_affine) and np.abs(written.get_fdata() - values).max() <= 0.25
