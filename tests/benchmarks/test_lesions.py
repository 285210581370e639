"""The contrast that lesions keep: all of it in their source, none in the other one, half in the average."""

from __future__ import annotations

import pytest
import torch

from benchmarks.lesions import kept, place_for


def head() -> torch.Tensor:
    """A pair of even heads with a little texture, (1, 2, 80, 80)."""
    image = torch.tensor([0.6, 0.4]).view(1, 2, 1, 1) + 0.02 * torch.rand(1, 2, 80, 80)
    image[..., :8], image[0, 1, :, 70:] = 0, 1
    return image


@pytest.mark.parametrize(("source", "height"), [(0, 0.2), (0, -0.2), (1, -0.2), (1, -0.1)])
def test_what_is_kept(source, height):
    image = head()
    for fuse, share in ((lambda x: x[0, source], 1), (lambda x: x[0, 1 - source], 0), (lambda x: x[0].mean(0), 0.5)):
        assert kept(fuse, image, 8, source, height) == pytest.approx(share, abs=1e-4)


def test_places_lie_in_the_head_and_out_of_the_bone():
    row, column = place_for(head(), 8)
    assert 8 <= column < 70 and 0 <= row < 80
    assert (
        place_for(torch.zeros(1, 2, 80, 80), 8) is None
        and kept(lambda x: x[0, 0], torch.zeros(1, 2, 80, 80), 8, 0, 0.2) is None
    )
