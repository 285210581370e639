"""Tensors without a number: operators give empty results, and zeros for gradients that are summed over nothing."""

from __future__ import annotations

import itertools

import pytest
import torch

from clinicalfmamba_nets.ops import (
    gated_norm,
    permuted_conv1d_silu,
    permuted_selective_scan,
    scan_backend,
    selective_scan,
)

BACKENDS = ("auto", "torch")
NOTHING = [size for size in itertools.product((0, 2), (0, 3), (0, 16)) if 0 in size]  # batch, tokens, channels


def _check(function, shapes, expected) -> None:
    """The results' shapes, and gradients of every input's shape that are zero where they have numbers."""
    for backend in BACKENDS:
        leaves = [torch.ones(shape).requires_grad_() for shape in shapes]
        with scan_backend(backend):
            outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert [tuple(y.shape) for y in outputs] == expected
        assert not any(y.any() for y in outputs)
        grads = torch.autograd.grad(sum(y.sum() for y in outputs), leaves, allow_unused=True)
        for leaf, grad in zip(leaves, grads, strict=True):
            assert grad is None or (grad.shape == leaf.shape and not grad.any())


@pytest.mark.parametrize(("batch", "length", "channels"), NOTHING)
def test_layers_of_nothing(batch, length, channels) -> None:
    order = torch.stack([torch.arange(length), torch.arange(length).flip(0)])
    tokens, weights = (2, batch, length, channels), (2, 2, channels)
    along = (2, 2, batch, length, channels)
    _check(
        lambda *t: permuted_conv1d_silu(*t, order),
        [tokens, (*weights, 4), weights, (2, 2, 5, channels)],
        [along, (2, 2, batch, length, 5)],
    )
    _check(
        lambda *t: permuted_selective_scan(*t, order),
        [along, (2, 2, batch, length, 19), (*weights, 3), (*weights, 8), weights, weights],
        [tokens],
    )
    if channels:  # a layer normalization over no channels is none
        _check(lambda *t: gated_norm(*t, 2.0), [tokens, tokens, (2, channels), (2, channels)], [tokens])


@pytest.mark.parametrize(("batch", "channels", "groups"), [(0, 16, 0), (2, 0, 0), (0, 0, 0), (0, 16, 2), (2, 0, 2)])
def test_scans_of_nothing(batch, channels, groups) -> None:
    sequence, projection = (batch, channels, 5), (batch, groups, 8, 5) if groups else (batch, 8, 5)
    shapes = [sequence, sequence, (channels, 8), projection, projection, (channels,), sequence, (channels,)]
    _check(
        lambda *t: selective_scan(*t, delta_softplus=True, return_last_state=True),
        shapes,
        [sequence, (batch, channels, 8)],
    )


@pytest.mark.parametrize(("B", "C", "name"), [((1, 0, 8, 5), (1, 0, 8, 5), "B"), ((1, 8, 5), (1, 2, 8, 5), "C")])
def test_projections_that_do_not_fit_are_named(B, C, name) -> None:
    u = torch.ones(1, 4, 5)
    with pytest.raises(ValueError, match=f"{name}: expected"):
        selective_scan(u, u, -torch.ones(4, 8), torch.ones(B), torch.ones(C))
