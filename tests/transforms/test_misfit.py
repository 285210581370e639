"""Heads that do not lie on each other are told, those that do are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import rotate

from clinicalfmamba_nets.data.volume_phantom import brain_volumes
from clinicalfmamba_nets.transforms import WindowIntensityPair
from clinicalfmamba_nets.transforms.misfit import measure_fit

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


@pytest.fixture(scope="module")
def volumes() -> tuple[np.ndarray, np.ndarray]:
    found = brain_volumes((44, 52, 40))
    return found["t2"], found["flair"]


def told(first, second, affine=AFFINE) -> str:
    image = MetaTensor(torch.from_numpy(np.stack([first, second]).astype(np.float32)), affine=torch.tensor(affine))
    return WindowIntensityPair(check_fit=True)(image).meta.get("warnings", "")


@pytest.mark.parametrize("affine", [AFFINE, np.diag([-4.0, -4.0, 4.0, 1.0])])
def test_heads_on_each_other_are_no_misfit(volumes, affine):
    assert told(*volumes, affine) == ""


@pytest.mark.parametrize(("degrees", "axes"), [(18, (0, 1)), (-12, (1, 2)), (10, (0, 2))])
def test_a_turned_head_is_told(volumes, degrees, axes):
    turned = rotate(volumes[1], degrees, axes=axes, reshape=False, order=1)
    assert "--register rigid" in told(volumes[0], turned)


def test_a_moved_head_is_told(volumes):
    assert "--register rigid" in told(volumes[0], np.roll(volumes[1], 3, axis=1))


def test_flat_images_and_few_voxels_tell_nothing():
    assert measure_fit(np.random.default_rng(0).random((2, 30, 30)), np.eye(4)) is None
    assert measure_fit(np.random.default_rng(0).random((2, 8, 8, 8)), np.eye(4)) is None
