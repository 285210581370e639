"""Pairs of DICOM series through the transforms: chosen, checked for one space, interpolated, written as a series."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.transforms import (
    LoadImagePaird,
    MergeChromad,
    RestoreIntensityd,
    SaveFusedd,
    ScaleIntensityPaird,
)


def fused(entry, folder, **settings):
    """The way of a pair with the mean of both images as the fused one."""
    sample = ScaleIntensityPaird()(LoadImagePaird()({"case": "one", **entry}))
    sample["pred"] = sample["image"].mean(0, keepdim=True)
    return SaveFusedd(output_dir=folder, **settings)(MergeChromad()(RestoreIntensityd()(sample)))


def test_a_study_is_a_pair_by_itself(shared_data, tmp_path):
    study = shared_data / "dicom" / "mr_pd_t2_dual_echo"
    sample = fused({"image": study}, tmp_path)
    assert sample["image"].shape == (2, 64, 64, 35) and (tmp_path / "one_fused" / "IM0035.dcm").is_file()
    written, meta = read_image(tmp_path / "one_fused")
    source, place = read_image(f"{study}::EchoTime=11")
    expected = (sample["image"].mean(0) * (float(source.max()) - source.min()) + source.min()).numpy()
    assert np.abs(written - expected).max() <= 0.5 and np.allclose(meta["affine"], place["affine"], atol=1e-6)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_another_format_lies_at_the_same_place(shared_data, tmp_path, ending):
    study = shared_data / "dicom" / "mr_hitachi_oblique"
    fused({"image": study, "image2": study}, tmp_path, output_ext=ending)
    _, meta = read_image(tmp_path / f"one_fused{ending}")
    assert np.abs(meta["affine"] - read_image(study)[1]["affine"]).max() < 1e-3


def test_another_grid_of_one_space_is_interpolated_and_told(shared_data):
    bad = shared_data / "bad" / "dicom"
    image = LoadImagePaird()({"image": bad / "good_ct", "image2": f"{bad / 'mixed_series'}::99"})["image"]
    assert "interpolated on the grid of the first image (75 % of it covered)" in image.meta["notes"]
    assert image[1, ..., :6].equal(LoadImagePaird()({"image": [f"{bad / 'mixed_series'}::99"] * 2})["image"][0])


def test_another_patient_is_refused(shared_data):
    folder = shared_data / "dicom"
    with pytest.raises(FusionInputError, match=r"ct_phantom_5mm: expected the patient \(0010,0020\) of .*vsseg001"):
        LoadImagePaird()({"image": folder / "mr_t1gd_vsseg001", "image2": folder / "ct_phantom_5mm"})


def test_a_color_series_colors_the_result(shared_data, tmp_path):
    import pydicom

    source, grey = shared_data / "dicom" / "mr_rgb", tmp_path / "grey"
    grey.mkdir()
    for file in source.iterdir():
        made = pydicom.dcmread(file)
        plane = np.ascontiguousarray(made.pixel_array[..., 0])
        made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelData = 1, "MONOCHROME2", plane.tobytes()
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        made["PixelData"].is_undefined_length = False
        made.save_as(grey / file.name)
    sample = fused({"image": grey, "image2": source}, tmp_path)
    assert sample["pred"].shape[0] == 3
    written, meta = read_image(tmp_path / "one_fused")
    assert meta["color"] and written.shape == (52, 77, 4, 3)
    white = float(sample["image"].meta["intensity_scale"][0][1])
    expected = np.moveaxis(sample["pred"].numpy(), 0, -1) * 255 / white
    assert np.ptp(expected) > 100 and np.abs(written - expected).max() < 1
