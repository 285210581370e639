"""Every source of chance is put back: the numbers drawn after it are the same."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandAffined, RandFlipd, RandSpatialCropd

from clinicalfmamba_nets.engine.training.random_state import (
    capture_random_state,
    randomizables,
    restore_random_state,
    seed_ranks_apart,
)


def transforms():
    crop = RandSpatialCropd("image", roi_size=(4, 4), random_size=False)
    return Compose([crop, Compose([RandFlipd("image", prob=0.5), RandAffined("image", prob=1.0, rotate_range=1.0)])])


def draw(transform):
    image = torch.arange(64.0).reshape(1, 8, 8)
    loader = DataLoader([0, 1, 2, 3, 4, 5], shuffle=True, batch_size=6)
    pixels = transform({"image": image})["image"].as_tensor().flatten().tolist()
    return [random.random(), np.random.rand(), torch.rand(1).item(), next(iter(loader)).tolist(), pixels]


def test_the_same_numbers_follow():
    transform = transforms()
    state = capture_random_state(transform)
    first = draw(transform)
    assert draw(transform) != first
    other = transforms()
    restore_random_state(state, other)
    assert draw(other) == first


def test_a_state_survives_a_file_read_as_weights_only():
    transform, buffer = transforms(), io.BytesIO()
    torch.save(capture_random_state(transform), buffer)
    first = draw(transform)
    buffer.seek(0)
    restore_random_state(torch.load(buffer, weights_only=True), transform)
    assert draw(transform) == first


def test_random_transforms_inside_others_are_found():
    names = [type(part).__name__ for part in randomizables(transforms())]
    assert {"RandSpatialCropd", "RandSpatialCrop", "RandFlipd", "RandAffined", "RandAffine"} <= set(names)


def test_other_transforms_are_refused():
    with pytest.raises(ValueError, match=r"expected \d+ random transforms as captured, found 1"):
        restore_random_state(capture_random_state(transforms()), Compose([]))


def test_a_seed_of_its_own_is_the_same_in_every_run():
    drawn = []
    for seed in (1, 1, 2):
        transform = transforms()
        seed_ranks_apart(DataLoader(Dataset([0], transform)), seed)
        drawn.append(draw(transform))
    assert drawn[0] == drawn[1] != drawn[2]
