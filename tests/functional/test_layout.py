"""Copies in the order of the axes."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.functional.layout import plain_tensor, row_major


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


def test_sparse_and_quantized_tensors_become_plain_and_others_stay():
    given = torch.eye(4) / 2
    assert plain_tensor(given) is given
    for other in (given.to_sparse(), given.to_sparse_csr(), given.to_mkldnn()):
        assert torch.equal(plain_tensor(other), given)
    assert torch.equal(plain_tensor(torch.quantize_per_tensor(given, 0.5, 0, torch.quint8)), given)


def test_tensors_without_one_shape_or_values_are_refused():
    with pytest.raises(FusionInputError, match="ct: expected a tensor with values, found one on the meta device"):
        plain_tensor(torch.empty(2, device="meta"), "ct")
    with pytest.raises(FusionInputError, match="image: expected a tensor of one shape, found a nested one"):
        plain_tensor(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]))
