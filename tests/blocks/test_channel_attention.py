"""The exchange of channels without maps of responses in memory, against the formula."""

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


@pytest.mark.parametrize("shape", [(2, 8, 9, 7), (2, 4, 90, 70)], ids=["one chunk", "two chunks"])
def test_the_lean_form_has_the_same_gradients(shape):
    torch.manual_seed(0)
    module = CrossModalChannelAttention(2, shape[1]).double()
    maps = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    leaves = [maps, *module.parameters()]
    decoded, f_x, f_y = maps.unbind()
    lean = module(decoded, f_x, f_y)
    plain = decoded + module._exchange(f_x, f_y) + module._exchange(f_y, f_x)
    torch.testing.assert_close(lean, plain)
    weights = torch.randn_like(plain)
    for found, expected in zip(*(torch.autograd.grad((y * weights).sum(), leaves) for y in (lean, plain)), strict=True):
        torch.testing.assert_close(found, expected)
        assert expected.abs().max() > 0
