"""Random bright spots: where they lie, how large and how bright they are."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.transforms import RandSpotsd


def tissue(shape: tuple[int, ...]) -> torch.Tensor:
    image = torch.full((2, *shape), 0.4)
    image[:, :8] = 0.0
    return image


@pytest.mark.parametrize("shape", [(48, 40), (24, 20, 16)])
def test_spots_lie_in_one_image_and_never_darken(shape):
    image = tissue(shape)
    spots = RandSpotsd("image", prob=1.0).set_random_state(seed=1)
    touched = [0, 0]
    for _ in range(40):
        out = spots({"image": image})["image"]
        changed = (out != image).flatten(1).any(1)
        assert changed.sum() == 1 and (out >= image).all() and 0.75 <= out.max() <= 1.0
        touched[int(changed[1])] += 1
    assert 20 < touched[1] < 40 and torch.equal(image, tissue(shape))


def test_draws_repeat_with_a_seed_and_prob_0_leaves_the_pair():
    image = tissue((32, 32))
    first, again = (RandSpotsd("image", prob=1.0).set_random_state(seed=4)({"image": image})["image"] for _ in range(2))
    assert torch.equal(first, again)
    assert RandSpotsd("image", prob=0.0)({"image": image})["image"] is image


def test_an_image_without_tissue_gets_no_spot():
    black = torch.zeros(2, 16, 16)
    assert torch.equal(RandSpotsd("image", prob=1.0).set_random_state(seed=0)({"image": black})["image"], black)
