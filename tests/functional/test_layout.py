"""Copies in the order of the axes."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from clinicalfmamba_nets.functional.layout import row_major


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_every_layout_gives_the_same_values_in_the_order_of_the_axes(order):
    given = torch.rand(2, 19, 17, 33).permute(order)
    made = row_major(given)
    assert made.is_contiguous() and torch.equal(made, given)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.float64])
def test_the_type_is_kept(dtype):
    given = torch.ones(3, 4, 5).permute(2, 0, 1).to(dtype)
    assert row_major(given).dtype == dtype


def test_what_lies_in_order_is_not_copied():
    given = torch.rand(3, 4, 5)
    assert row_major(given).data_ptr() == given.data_ptr()
