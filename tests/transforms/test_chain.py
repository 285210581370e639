"""The whole chain of a bundle on real pairs: load, scale, fuse (here: one source), restore, color, save."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import Compose, EnsureChannelFirstd
from PIL import Image

from clinicalfmamba_nets.transforms import (
    LoadImagePaird,
    MergeChromad,
    RestoreIntensityd,
    SaveFusedd,
    ScaleIntensityPaird,
)

PRE = Compose([LoadImagePaird(keys="image"), EnsureChannelFirstd(keys="image"), ScaleIntensityPaird(keys="image")])


def run_chain(items, channel, folder, num_workers=0):
    """Fuse by taking one channel of each pair, through a data loader as the bundles do."""
    post = Compose([RestoreIntensityd(channel=channel), MergeChromad(keys="pred"), SaveFusedd(output_dir=folder)])
    results = []
    for batch in DataLoader(Dataset(items, PRE), batch_size=1, num_workers=num_workers):
        batch["pred"] = batch["image"][:, channel : channel + 1]
        results += [post(item) for item in decollate_batch(batch)]
    return [np.asarray(Image.open(result["pred"].meta["saved_to"])) for result in results]


@pytest.mark.parametrize("folder, other, name", [("SPECT-MRI", "SPECT", "3015.png"), ("PET-MRI", "PET", "25015.png")])
def test_color_survives_the_round_trip(shared_data, tmp_path, folder, other, name):
    pair = {key: shared_data / "aanlib" / folder / kind / name for key, kind in [("image", "MRI"), ("image2", other)]}
    original = np.asarray(Image.open(pair["image2"]), dtype=int)
    (fused,) = run_chain([pair], 1, tmp_path)
    assert fused.shape == original.shape == (256, 256, 3)
    assert np.abs(fused - original).max() <= 1


def test_grey_survives_the_round_trip_in_workers(shared_data, tmp_path):
    folder = shared_data / "aanlib" / "CT-MRI"
    names = ["2004.png", "28011.png", "33012.png"]
    items = [{"image": folder / "MRI" / name, "image2": folder / "CT" / name, "case": name[:-4]} for name in names]
    for channel, kind in enumerate(["MRI", "CT"]):
        results = run_chain(items, channel, tmp_path / kind, num_workers=2)
        for name, fused in zip(names, results, strict=True):
            assert np.array_equal(fused, np.asarray(Image.open(folder / kind / name)))
    assert sorted(path.name for path in (tmp_path / "CT").iterdir()) == [f"{name[:-4]}_fused.png" for name in names]
