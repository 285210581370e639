"""Openings, and places that stand alone."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.functional.structures import alone, dilated, opened


@pytest.mark.parametrize(("width", "left"), [(6, 0.0), (7, 1.0), (9, 1.0)])
def test_an_opening_takes_what_is_narrower_than_its_window(width, left):
    image = torch.zeros(1, 1, 40, 40)
    image[..., 10 : 10 + width, 12 : 12 + width] = 1
    assert opened(image, 7).sum() == left * width**2


@pytest.mark.parametrize("shape", [(64, 64), (40, 40, 40)])
def test_one_place_is_alone_and_a_crowd_is_not(shape):
    places = torch.zeros(1, 1, *shape)
    places[(..., *(side // 2 for side in shape))] = 1
    assert alone(places).min() > 0.98
    assert alone(torch.ones(1, 1, *shape)).max() == 0


def test_a_share_of_six_percent_is_half_alone():
    places = torch.zeros(1, 1, 64, 64)
    places.view(-1)[:: 1000 // 60] = 1
    assert alone(places)[..., 16:48, 16:48].mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_mirror_image_is_equal_to_the_bit():
    places = (torch.rand(1, 1, 50, 61, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    assert torch.equal(alone(places.flip(3)).flip(3), alone(places))


@pytest.mark.parametrize("size", [1, 3, 5, 15])
@pytest.mark.parametrize("shape", [(1, 2, 37, 50), (2, 1, 9, 20, 11), (1, 1, 2, 3)], ids=str)
def test_a_dilation_without_gradients_is_that_of_pooling(shape: tuple[int, ...], size: int) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    image[0, 0, 1, 1] = torch.nan
    pooled = dilated(image.clone().requires_grad_(), size).detach()
    torch.testing.assert_close(dilated(image, size), pooled, rtol=0, atol=0, equal_nan=True)
