"""Gradients with tensors computed again equal those with tensors kept."""

from __future__ import annotations

import contextlib

import pytest
import torch

from clinicalfmamba_nets.blocks import mamba
from clinicalfmamba_nets.blocks.recomputing import Recomputed, recompute
from clinicalfmamba_nets.ops import scan_backend, scan_orders


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("cross", [False, True])
def test_lean_gradients_are_equal(monkeypatch, backend, cross) -> None:
    torch.manual_seed(0)
    block = mamba.DirectionalMamba(16, directions=2, streams=2, cross=cross)
    order = scan_orders([5, 4], ["01", "-01"], torch.device("cpu"))
    tokens, guide = torch.rand(2, 2, 2, 20, 16)

    def gradients() -> torch.Tensor:
        block.zero_grad()
        with scan_backend(backend):
            block(tokens, guide, order).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in block.parameters() if p.grad is not None])

    lean = gradients()
    monkeypatch.setattr(mamba, "recompute", lambda *tensors: contextlib.nullcontext())
    assert torch.equal(lean, gradients())
    assert lean.abs().max() > 0


def test_a_tensor_is_computed_once_for_all_uses_and_anew_for_the_next_pass() -> None:
    calls, weight, x = [], torch.ones(3, requires_grad=True), torch.ones(3)
    again = Recomputed(lambda: calls.append(1) or 2 * x, uses=2)
    y = 2 * x
    with recompute((y, again)):
        total = (y * weight).sum() + (y * weight * weight).sum()
    first = torch.autograd.grad(total, weight, retain_graph=True)[0]
    assert torch.equal(first, torch.full((3,), 6.0))
    assert len(calls) == 1
    assert torch.equal(torch.autograd.grad(total, weight)[0], first)
    assert len(calls) == 2
