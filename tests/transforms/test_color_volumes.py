"""Results in color of any format of volumes, and of first images that fill a part of their type's range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd
from PIL import Image

from clinicalfmamba_nets.functional.colour import displayed_rgb, rgb_to_ycbcr
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.nifti_color import write_rgb_nifti
from clinicalfmamba_nets.io.nrrd import write_nrrd, write_rgb_nrrd
from clinicalfmamba_nets.transforms import (
    LoadImagePaird,
    MergeChromad,
    RestoreIntensityd,
    SaveFused,
    SaveFusedd,
    WindowIntensityPaird,
)

AFFINE = np.array([[-1.0, 0, 0, 7], [0, -2, 0, 8], [0, 0, 3, -9], [0, 0, 0, 1]])
SIZE = (16, 12, 6)


def mr_and_colors(size=SIZE):
    """An MR of 300 to 1300, and colors from red to white."""
    steps = np.linspace(0, 1, int(np.prod(size))).reshape(size)
    mr = np.rint(300 + 1000 * np.sqrt(steps)).astype(np.int16)
    rgb = np.stack([np.clip(3 * steps - part, 0, 1) for part in range(3)], axis=-1)
    return mr, np.rint(255 * rgb).astype(np.uint8)


def first_image_in_color(folder, image, image2):
    """Run the chain of a bundle whose network gives the first image back; return the pixels written, and their info."""
    chain = [LoadImagePaird(), EnsureChannelFirstd(keys="image"), WindowIntensityPaird(window_a="minmax")]
    entry = Compose(chain)({"image": image, "image2": image2, "case": "7"})
    entry["pred"] = MetaTensor(entry["image"].as_tensor()[:1], affine=entry["image"].affine)
    saved = SaveFusedd(output_dir=folder)(MergeChromad()(RestoreIntensityd()(entry)))
    return read_image(saved["pred"].meta["saved_to"])


def expected(mr, rgb):
    """The colors of `rgb` at the brightness of the MR between its least and greatest value."""
    planes = rgb_to_ycbcr(torch.from_numpy(np.moveaxis(rgb, -1, 0).astype(np.float32) / 255)[None])
    planes[:, 0] = torch.from_numpy((mr - mr.min()) / (mr.max() - mr.min()))
    return 255 * np.moveaxis(displayed_rgb(planes)[0].numpy(), 0, -1)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd"])
def test_colors_of_a_volume_are_written_in_the_format_of_the_first_image(tmp_path, ending):
    import nibabel

    mr, rgb = mr_and_colors()
    image, image2 = tmp_path / f"mr{ending}", tmp_path / f"spect{ending}"
    if ending == ".nrrd":
        write_nrrd(image, mr, affine=AFFINE, dtype="int16")
        write_rgb_nrrd(image2, rgb, AFFINE)
    else:
        nibabel.save(nibabel.Nifti1Image(mr, AFFINE), image)
        write_rgb_nifti(image2, rgb, AFFINE)
    assert np.array_equal(read_image(image2)[0], rgb)
    fused, info = first_image_in_color(tmp_path / "out", image, image2)
    assert (tmp_path / "out" / f"7_fused{ending}").exists() and info["color"]
    assert np.allclose(info["affine"], AFFINE) and np.abs(fused - expected(mr, rgb)).max() <= 0.51


def test_a_picture_of_twelve_bits_in_sixteen_stays_bright_in_color(tmp_path):
    mr, rgb = mr_and_colors((24, 20))
    Image.fromarray((mr * 3).astype(np.uint16)).save(tmp_path / "mri.png")
    Image.fromarray(rgb).save(tmp_path / "spect.png")
    fused, info = first_image_in_color(tmp_path / "out", tmp_path / "mri.png", tmp_path / "spect.png")
    assert info["color"] and fused.dtype == np.uint8
    assert np.abs(fused - expected(mr, rgb)).max() <= 0.51


@pytest.mark.parametrize(("known", "spacing"), [("none", [1, 2, 3]), ("patient", [1, 2, 3])])
def test_nrrd_in_color_keeps_what_is_known_of_its_place(tmp_path, known, spacing):
    rgb = mr_and_colors()[1]
    write_rgb_nrrd(tmp_path / "a.nrrd", rgb, AFFINE, known)
    read, info = read_image(tmp_path / "a.nrrd")
    assert np.array_equal(read, rgb) and info["coordinates"] == known
    assert np.allclose(np.linalg.norm(info["affine"][:3, :3], axis=0), spacing)


def test_nrrd_in_color_is_read_by_itk(tmp_path):
    itk = pytest.importorskip("itk")
    rgb = mr_and_colors()[1]
    write_rgb_nrrd(tmp_path / "a.nrrd", rgb, AFFINE)
    image = itk.imread(str(tmp_path / "a.nrrd"))
    assert np.array_equal(itk.array_from_image(image), rgb.transpose(2, 1, 0, 3))
    assert tuple(image.GetOrigin()) == (-7, -8, -9) and tuple(image.GetSpacing()) == (1, 2, 3)


def test_a_volume_is_no_png_and_the_message_says_what_it_can_be(tmp_path):
    volume = MetaTensor(torch.zeros(1, *SIZE))
    with pytest.raises(ValueError, match=r"an image for \.png, found a volume; write NIfTI"):
        SaveFused(tmp_path, output_ext=".png")(volume)
