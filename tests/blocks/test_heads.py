"""The head's convolution to one channel as a matrix product, against torch's convolution."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from clinicalfmamba_nets.blocks.heads import conv_to_one_channel


@pytest.mark.parametrize("shape", [(2, 5, 9, 7), (1, 3, 1, 4), (2, 4, 5, 6, 7), (1, 2, 2, 1, 3)], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_matrix_product_is_the_convolution(shape: tuple[int, ...], channels_last: bool) -> None:
    torch.manual_seed(0)
    x, dims = torch.randn(shape, dtype=torch.float64), len(shape) - 2
    x = x.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else x
    weight, bias = torch.randn(1, shape[1], *[3] * dims, dtype=torch.float64), torch.randn(1, dtype=torch.float64)
    expected = (F.conv2d if dims == 2 else F.conv3d)(x, weight, bias, padding=1)
    torch.testing.assert_close(conv_to_one_channel(x, weight, bias), expected)
