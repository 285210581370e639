"""Every malformed or odd input of the collection, through the loader: handled as its index asks, or refused."""

from __future__ import annotations

import json
import os
import tarfile

import pytest
import torch

from clinicalfmamba_nets.data import load_datalist
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.transforms import LoadImagePaird, ScaleIntensityPaird

# Path in the index -> None where the input is handled, else words of the refusal.
EXPECTED = {
    "nifti/good_pair/": None,
    "nifti/truncated.nii.gz": "truncated or damaged",
    "nifti/zero_bytes.nii.gz": "0 bytes",
    "nifti/text.nii.gz": "expected a gzip-compressed NIfTI image",
    "nifti/huge_dims_header.nii": "30000 x 30000 x 30000",
    "nifti/nan_1pct.nii.gz": "NaN",
    "nifti/dim4d.nii.gz": "found 4D",
    "nifti/complex64.nii.gz": "found complex64",
    "nifti/constant.nii.gz": "expected an image with contrast",
    "nifti/single_slice.nii.gz": "use the 2D bundle",
    "nifti/mismatch_shape/": "found 48 x 48 x 40",
    "nifti/oblique_anisotropic/": None,
    "nifti/same_space_flipped_storage/": None,
    "datalists/missing_file.json": "nowhere.nii.gz",
    "datalists/traversal.json": "leads out of it",
    "datalists/not_json.json": "not JSON",
    "png/good_ct.png": None,
    "png/good_mri.png": None,
    "png/truncated.png": "truncated or damaged",
    "png/bomb_30000.png": "30000 x 30000",
    "png/size_255x240.png": "expected the size 256 x 256",
    "png/rgba.png": None,
    "png/gray16.png": None,
    "png/odd_size_253x251.png": None,
    "odd_names.tar": None,
}


def pairs_of(folder, path, scratch):
    """Pairs that show what an entry of the index does, the entry in both places."""
    if path.endswith(".json"):
        return load_datalist(folder / path, base_dir=folder)
    if path.endswith(".tar"):
        with tarfile.open(folder / path, errors="surrogateescape") as tar:
            tar.extraction_filter = lambda member, path: member  # the argument `filter` is new in 3.11.4
            tar.extractall(scratch)
        names = [os.path.join(os.fsencode(scratch), name) for name in os.listdir(os.fsencode(scratch))]
        return [{"image": name, "image2": folder / "nifti/good_pair/flair.nii.gz"} for name in names]
    if path.endswith("/"):
        return [{"image": folder / path / "t2.nii.gz", "image2": folder / path / "flair.nii.gz"}]
    if path == "png/odd_size_253x251.png":
        return [{"image": folder / path, "image2": folder / path}]
    partner = folder / ("png/good_mri.png" if path.startswith("png") else "nifti/good_pair/t2.nii.gz")
    return [{"image": partner, "image2": folder / path}, {"image": folder / path, "image2": partner}]


def outcome(folder, path, scratch):
    """None where every pair is loaded and scaled well, else the refusal of each."""
    messages = []
    try:
        pairs = pairs_of(folder, path, scratch)
    except FusionInputError as error:
        return [str(error)]
    dims = 2 if path.startswith("png") else 3
    for pair in pairs:
        try:
            image = ScaleIntensityPaird()(LoadImagePaird(spatial_dims=dims)(pair))["image"]
            assert image.shape[0] == 2 and torch.isfinite(image).all() and image.min() == 0 and image.max() == 1
        except FusionInputError as error:
            messages.append(str(error))
    return messages


def test_every_entry_of_the_index(shared_data, tmp_path):
    folder = shared_data / "bad"
    index = {entry["path"]: entry for entry in json.loads((folder / "index.json").read_text())}
    paths = [path for path in index if not path.startswith("dicom/")]
    assert set(paths) == set(EXPECTED)
    for path in paths:
        messages, wanted = outcome(folder, path, tmp_path), EXPECTED[path]
        print(f"{path:36} {'handled' if not messages else messages[0]}")
        assert bool(messages) == (wanted is not None), f"{path}: {messages}"
        if wanted is not None:
            assert all("\n" not in message for message in messages)
            # The partner is refused in place of the entry where the two do not fit and the entry comes first.
            assert any(wanted in message for message in messages), f"{path}: {messages}"
            assert any(os.path.basename(path.rstrip("/")) in message for message in messages), f"{path}: {messages}"


@pytest.mark.parametrize("name", ["rgba.png", "gray16.png"])
def test_odd_pictures_give_what_plain_ones_give(shared_data, name):
    folder = shared_data / "bad" / "png"
    chain = [LoadImagePaird(), ScaleIntensityPaird()]
    images = []
    for second in ("good_ct.png", "good_mri.png", name):
        loaded = {"image": folder / "good_mri.png", "image2": folder / second}
        for transform in chain:
            loaded = transform(loaded)
        images.append(loaded["image"][1])
    assert min((images[2] - images[0]).abs().max(), (images[2] - images[1]).abs().max()) <= 1 / 255
