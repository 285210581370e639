"""Attention within windows against sums written out, and the ways in and out of windows."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.blocks.mirroring import reflect_to_multiple
from clinicalfmamba_nets.blocks.window_attention import (
    SwinLayer,
    WindowAttention,
    from_windows,
    shift_mask,
    to_windows,
)


def test_attention_is_the_sum_written_out():
    torch.manual_seed(0)
    layer = WindowAttention(6, heads=2, window=2).double()
    x, other = torch.rand(1, 4, 6).double(), torch.rand(1, 4, 6).double()
    place = [(0, 0), (0, 1), (1, 0), (1, 1)]
    query, both = layer.query(x)[0], layer.key_value(other)[0]
    expected = torch.zeros(4, 6).double()
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        for i, (row, column) in enumerate(place):
            offsets = [layer.bias[(row - r + 1) * 3 + column - c + 1, head] for r, c in place]
            logits = torch.stack([query[i, part] @ both[j, part] / 3**0.5 + offsets[j] for j in range(4)])
            expected[i, part] = logits.softmax(0) @ both[:, 6:][:, part]
    torch.testing.assert_close(layer(x, other, torch.zeros(0))[0], layer.out(expected))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 24)])
def test_windows_come_back(height, width):
    image = torch.rand(2, height, width, 3)
    windows = to_windows(image, 8)
    torch.testing.assert_close(windows[1 if width > 8 else 0][0], image[0, 0, 8 if width > 8 else 0])
    assert torch.equal(from_windows(windows, height, width, 8), image)


def test_shifted_windows_do_not_see_the_other_end():
    torch.manual_seed(0)
    layer, image = SwinLayer(6, heads=2, shift=4), torch.rand(1, 16, 16, 6)
    changed = image.clone()
    changed[:, -1, -1, 0] += 1.0  # after the shift it lies in a window with the first pixel
    with torch.no_grad():
        difference = (layer(changed, changed) - layer(image, image)).abs().sum(-1)[0]
    assert difference[0, 0] < 1e-5 and difference[-1, -1] > 1e-3
    assert difference[12:, 12:].min() > 0 and difference[:12].max() < 1e-5


def test_the_mask_parts_four_regions():
    mask = shift_mask(8, 8, 8, 4, torch.device("cpu"))
    assert mask.shape == (1, 64, 64) and sorted(mask.unique().tolist()) == [-100, 0]
    assert (mask[0, 0] == 0).sum() == 16


@pytest.mark.parametrize("size", [1, 3, 7, 8, 9, 20])
def test_mirroring_repeats_the_border_and_then_goes_back(size):
    line = torch.arange(float(size))
    padded = reflect_to_multiple(line.view(1, 1, 1, size).expand(1, 1, 8, size), 8)[0, 0, 0]
    period = torch.cat([line, line.flip(0)]).repeat(16)
    assert len(padded) % 8 == 0 and torch.equal(padded, period[: len(padded)])
