"""The shipped weights on pairs that no training saw: bounded, better than an average, with bone and spots in place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clinicalfmamba_nets.data import aanlib_datalist, head_phantom, plain_head
from clinicalfmamba_nets.engine import SliceInferer
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.metrics import compute_all
from clinicalfmamba_nets.nets import pretrained

NAMES = ["ssim", "vif", "qabf", "n_abf", "outside", "plateau_error", "bone_mean"]


def luma(path: str) -> np.ndarray:
    """An atlas image in [0, 1]."""
    array = np.asarray(read_image(path)[0], dtype=np.float32)
    array = array @ np.float32([0.299, 0.587, 0.114]) if array.ndim == 3 else array
    return (array - array.min()) / (array.max() - array.min())


@pytest.fixture(scope="module", params=["ct_mri", "spect_mri", "pet_mri"])
def scores(request, shared_data):
    """Task, and the mean scores of its weights and of the average image over three test pairs."""
    task = request.param
    pairs = aanlib_datalist(shared_data, task, "case3", "run1", "testing")
    network = pretrained(task)
    rows: dict[str, list[dict[str, float]]] = {"ours": [], "average": []}
    for entry in pairs[len(pairs) // 6 :: len(pairs) // 3][:3]:
        image = torch.from_numpy(np.stack([luma(entry["image"]), luma(entry["image2"])]))
        with torch.no_grad():
            fused = {"ours": network(image[None])[0], "average": image.mean(0, keepdim=True)}
        for name, picture in fused.items():
            scored = compute_all(picture, image, names=NAMES, with_ct=task == "ct_mri")
            rows[name].append({key: scored[key] for key in NAMES if key in scored})
    means = {
        name: {key: float(np.nanmean([row[key] for row in part])) for key in part[0]} for name, part in rows.items()
    }
    return task, means["ours"], means["average"]


def test_nothing_is_invented(scores):
    task, ours, _ = scores
    assert ours["outside"] == 0
    assert ours["n_abf"] <= 0.04
    if task == "ct_mri":
        assert ours["plateau_error"] <= 0.05 and ours["bone_mean"] >= 0.9


def test_edges_and_information_beat_the_average(scores):
    _, ours, average = scores
    assert ours["qabf"] >= average["qabf"] + 0.1
    assert ours["vif"] >= average["vif"] + 0.1
    assert ours["ssim"] >= average["ssim"] - 0.01


@pytest.mark.parametrize(("contrast", "gain"), [("t1", 1.0), ("t2", 1.6)])
def test_what_is_even_in_both_images_gets_no_shading(contrast, gain):
    images = head_phantom(128, seed=0, plain=True)
    image = np.stack([np.clip(gain * images[contrast], 0, 1), images["ct"]])
    with torch.no_grad():
        fused = pretrained("ct_mri")(torch.from_numpy(image)[None])[0, 0].numpy()
    white = image[:, 38:46, 79:87].mean(axis=(1, 2), keepdims=True)
    brain = fused[(np.abs(image - white) < 0.004).all(axis=0)]
    low, high = np.percentile(brain, [1, 99])
    assert brain.size > 3000 and high - low < 0.1 * brain.mean()


@pytest.mark.parametrize("seed", [105, 111, 120])  # 23, 23 and 37 % without one share in each even region
def test_even_brains_of_a_volume_stay_even(seed):
    pair = plain_head((48, 48, 16), seed, mirrored=bool(seed % 2))
    image, brain = (torch.from_numpy(x) for x in (np.stack([pair["first"], pair["second"]]), pair["brain"]))
    with torch.inference_mode():
        fused = SliceInferer(mirror=True)(image[None], pretrained("ct_mri"))[0, 0]
    means, inside = (torch.nn.functional.avg_pool3d(x[None].float(), (7, 7, 3), 1) for x in (fused, brain))
    means = means[inside > 0.999]
    assert means.numel() > 50 and means.max() - means.min() <= 0.02 * means.mean()


def test_what_one_image_shows_stands_out():
    images = head_phantom(128, seed=0, plain=True)
    image = np.stack([images["t2"], images["ct"]])
    with torch.no_grad():
        fused = pretrained("ct_mri")(torch.from_numpy(image)[None])[0, 0].numpy()
    for source, x, y in ((image[0], 0.39, 0.20), (image[1], -0.33, -0.30)):  # the lesion of the MRI, the CT's bleeding
        row, column = int((y + 1) * 64), int((x + 1) * 64)
        shown, kept = (
            picture[row - 1 : row + 2, column - 1 : column + 2].mean() - picture[38:46, 79:87].mean()
            for picture in (source, fused)
        )
        assert kept >= 0.7 * shown > 0.2
