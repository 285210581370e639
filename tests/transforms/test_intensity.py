"""Scaling that is recorded and undone, and color that comes back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.transforms import (
    MergeChroma,
    MergeChromad,
    RandWindowIntensityPair,
    RestoreIntensity,
    RestoreIntensityd,
    ScaleIntensityPair,
    ScaleIntensityPaird,
    WindowIntensityPair,
)

PAIR = torch.stack([torch.linspace(-1000, 3000, 30), torch.linspace(5, 250, 30) ** 1.5]).reshape(2, 6, 5)


@pytest.mark.parametrize("make", [lambda p: p, lambda p: p.numpy(), lambda p: MetaTensor(p), lambda p: p.double()])
def test_each_channel_from_its_own_limits(make):
    scaled = ScaleIntensityPair()(make(PAIR))
    assert scaled.dtype == torch.float32 and scaled.flatten(1).amin(1).tolist() == [0, 0]
    assert scaled.flatten(1).amax(1).tolist() == [1, 1]
    limits = scaled.meta["intensity_scale"]
    assert limits.dtype == torch.float64 and limits.shape == (2, 2)
    for channel in (0, 1):
        restored = RestoreIntensity(channel)(scaled[channel], limits)
        assert torch.allclose(torch.as_tensor(restored), PAIR[channel], rtol=1e-5, atol=1e-3)


def test_the_scale_goes_through_batches():
    items = [ScaleIntensityPaird()({"image": PAIR * factor}) for factor in (1, 2)]
    batch = list_data_collate(items)
    batch["pred"] = batch["image"][:, :1]
    for item, factor in zip(decollate_batch(batch), (1, 2), strict=True):
        restored = RestoreIntensityd(keys="pred")(item)["pred"]
        assert torch.allclose(restored.as_tensor(), PAIR[:1] * factor, rtol=1e-5, atol=1e-3)


def test_constant_channels_become_zero_and_are_noted():
    scaled = ScaleIntensityPair()(torch.stack([PAIR[0], torch.full((6, 5), 7.0)]))
    assert (scaled[1] == 0).all() and "image B is constant" in scaled.meta["notes"]
    assert (RestoreIntensity(1)(scaled[1], scaled.meta["intensity_scale"]) == 7).all()


@pytest.mark.parametrize("value", [-float("inf"), float("inf")])
def test_bad_values_are_refused(value):
    bad = MetaTensor(PAIR.clone(), meta={"filename_or_obj": "mri.nii"})
    bad[1, 2, 3] = value
    with pytest.raises(FusionInputError, match="mri.nii: expected finite values"):
        ScaleIntensityPair()(bad)


def test_inputs_are_not_changed():
    before = PAIR.clone()
    ScaleIntensityPaird()({"image": PAIR})
    assert torch.equal(PAIR, before)


def test_without_a_scale_nothing_happens():
    assert torch.equal(RestoreIntensityd()({"pred": PAIR[:1], "image": PAIR})["pred"], PAIR[:1])


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_color_is_merged(white):
    luma, chroma = torch.rand(1, 6, 5) * white, torch.full((2, 6, 5), 0.5)
    assert torch.allclose(MergeChroma()(luma, chroma, white), luma.expand(3, -1, -1), rtol=1e-5, atol=1e-6 * white)
    as_array = MergeChroma()(luma.numpy(), chroma.numpy(), white)
    assert isinstance(as_array, np.ndarray) and as_array.shape == (3, 6, 5)
    strong = MergeChroma()(luma, torch.rand(2, 6, 5), white)
    assert strong.min() >= 0 and strong.max() <= white


@pytest.mark.parametrize(
    ("meta", "channels"),
    [({"color": 1, "value_range": 255.0}, 3), ({"color": 0, "value_range": 255.0}, 1), ({"value_range": 0.0}, 3)],
)
def test_grey_sources_stay_grey(meta, channels):
    entry = {"pred": PAIR[1:], "image": MetaTensor(PAIR, meta=meta), "image_chroma": torch.full((2, 6, 5), 0.5)}
    assert MergeChromad()(entry)["pred"].shape[0] == channels
    del entry["image_chroma"]
    assert MergeChromad()(entry)["pred"].shape[0] == 1


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"found \(1, 6, 5\) and \(2, 5, 5\)"):
        MergeChroma()(torch.rand(1, 6, 5), torch.rand(2, 5, 5))


@pytest.mark.parametrize("transform", [ScaleIntensityPaird(), RestoreIntensityd(), MergeChromad()])
def test_transforms_are_picklable(transform):
    assert type(pickle.loads(pickle.dumps(transform))) is type(transform)


@pytest.mark.parametrize("transform", [ScaleIntensityPair(), WindowIntensityPair(), RandWindowIntensityPair()])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "expected a pair as tensor or array, .*found a NoneType; load it by LoadImagePaird"),
        ([[0.0, 1.0], [1.0, 0.0]], "found a list"),
        (torch.rand(3, 8, 8), "found shape \\(3, 8, 8\\)"),
        (torch.rand(1, 2, 8, 8), "found shape \\(1, 2, 8, 8\\); .*one pair at a time"),
        (torch.rand(2, 0, 8), "found shape \\(2, 0, 8\\)"),
        (torch.rand(2, 8, 8) + 0j, "expected real numbers, found complex ones"),
        (torch.empty(2, 8, 8, device="meta"), "expected a tensor with values, found one on the meta device"),
    ],
)
def test_what_is_no_pair_is_refused(transform, given, words):
    with pytest.raises(FusionInputError, match=f"^image: .*{words}"):
        transform(given)
