"""The exchange of channels in inference, which keeps no map in memory, against the formula."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.blocks.channel_attention import CrossModalChannelAttention


@pytest.mark.parametrize("shape", [(2, 8, 9, 7), (1, 4, 41, 40, 39)], ids=["2D", "3D, more than one chunk"])
def test_the_lean_form_is_the_same_number(shape):
    torch.manual_seed(0)
    module = CrossModalChannelAttention(len(shape) - 2, shape[1]).eval()
    decoded, f_x, f_y = torch.randn(3, *shape).unbind()
    kept = decoded.clone()
    with torch.no_grad():
        lean = module(decoded, f_x, f_y)
    assert torch.equal(decoded, kept)
    assert torch.allclose(lean, module(decoded, f_x, f_y), atol=1e-5)
    assert not torch.allclose(lean, decoded, atol=1e-2)
