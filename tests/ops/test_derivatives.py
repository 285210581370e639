"""Derivatives of every kind through every operator: equal to those of the plain operations, or refused in words."""

from __future__ import annotations

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

from clinicalfmamba_nets.ops import (
    gated_norm,
    native,
    permuted_conv1d_silu,
    permuted_selective_scan,
    scan_backend,
    selective_scan,
)

ORDER = torch.stack([torch.arange(7), torch.arange(7).flip(0)])


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _scan(u, delta, A, B, C, D, z, bias):
    return selective_scan(u, delta, -A.abs(), B, C, D, z, bias, delta_softplus=True)


def _conv(x, weight, bias, x_proj):
    return torch.cat([out.flatten() for out in permuted_conv1d_silu(x, weight, bias, x_proj, ORDER)])


def _permuted(u, projected, dt_weight, A, D, bias):
    return permuted_selective_scan(u, projected, dt_weight, -A.abs(), D, bias, ORDER)


def _gate(y, z, weight, bias):
    return gated_norm(y, z, weight, bias, 2.0)


# The sizes hold no vector and no tile of the kernels whole.
OPERATORS = {
    "scan": (_scan, [(2, 5, 7), (2, 5, 7), (5, 8), (2, 8, 7), (2, 8, 7), (5,), (2, 5, 7), (5,)]),
    "conv": (_conv, [(2, 1, 7, 5), (2, 2, 5, 4), (2, 2, 5), (2, 2, 3, 5)]),
    "permuted": (_permuted, [(2, 2, 1, 7, 5), (2, 2, 1, 7, 11), (2, 2, 5, 3), (2, 2, 5, 4), (2, 2, 5), (2, 2, 5)]),
    "gate": (_gate, [(2, 1, 7, 16), (2, 1, 7, 16), (2, 16), (2, 16)]),
}
every_operator = pytest.mark.parametrize(("function", "shapes"), OPERATORS.values(), ids=OPERATORS)


def _inputs(shapes) -> list[torch.Tensor]:
    return [_normal(*shape, seed=i) for i, shape in enumerate(shapes)]


def _jvp(function, tensors):
    return torch.func.jvp(function, tuple(tensors), tuple(t.cos() for t in tensors))[1]


def _dual(function, tensors):
    """The last tensor alone has a tangent."""
    with forward_ad.dual_level():
        last = forward_ad.make_dual(tensors[-1], tensors[-1].cos())
        return forward_ad.unpack_dual(function(*tensors[:-1], last)).tangent


def _grad(function, tensors):
    grads = torch.func.grad(lambda *t: function(*t).sin().sum(), argnums=tuple(range(len(tensors))))(*tensors)
    return torch.cat([g.flatten() for g in grads])


def _vmap(function, tensors):
    return torch.func.vmap(lambda first: function(first, *tensors[1:]))(torch.stack([tensors[0], tensors[0].sin()]))


def _jacrev(function, tensors):
    return torch.func.jacrev(lambda last: function(*tensors[:-1], last).flatten()[-4:])(tensors[-1])


def _jacfwd(function, tensors):
    return torch.func.jacfwd(lambda last: function(*tensors[:-1], last).flatten()[-4:])(tensors[-1])


def _hessian(function, tensors):
    return torch.func.hessian(lambda last: function(*tensors[:-1], last[: len(tensors[-1])]).sin().sum())(tensors[-1])


def _double(function, tensors):
    """Gradient of a penalty on gradients; the second tensor is computed from the first where they are of one shape."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    used = list(leaves)
    if used[0].shape == used[1].shape:
        used[1] = used[1] + used[0].sin()
    grads = torch.autograd.grad(function(*used).sin().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in grads), leaves)
    return torch.cat([g.flatten() for g in second])


@pytest.mark.parametrize("kind", [_jvp, _dual, _grad, _vmap, _jacrev, _jacfwd, _hessian, _double])
@every_operator
def test_auto_equals_the_loop(function, shapes, kind) -> None:
    tensors = _inputs(shapes)
    with scan_backend("reference"):
        expected = kind(function, [t.double() for t in tensors])
    found = kind(function, tensors)
    assert found is not None and expected.norm() > 0
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")
@pytest.mark.parametrize("kind", [_jvp, _dual, _grad, _vmap])
@every_operator
def test_kernels_asked_for_by_name_refuse(function, shapes, kind) -> None:
    with scan_backend("native"), pytest.raises(RuntimeError, match=r"do not know .*scan_backend\('torch'\)"):
        kind(function, _inputs(shapes))


@pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")
def test_registered_operators_refuse_tangents() -> None:
    tensors = _inputs(OPERATORS["gate"][1])
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode"):
        torch.ops.clinicalfmamba.gated_norm(forward_ad.make_dual(tensors[0], tensors[0]), *tensors[1:], 1.0)


def _negative(x):
    return torch._neg_view(-x)


def _reversed_strides(x):
    """The same numbers, the first axis next to each other in memory."""
    axes = list(reversed(range(x.dim())))
    return x.permute(axes).contiguous().permute(axes)


def _every_second(x):
    return x.repeat_interleave(2, dim=-1)[..., ::2]


def _results(function, tensors, upstream=lambda g: g) -> list[torch.Tensor]:
    """The output without and with gradients, and the gradient of each tensor."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    y = function(*leaves)
    return [function(*tensors), y.detach(), *torch.autograd.grad(y, leaves, upstream(y.detach().cos()))]


@pytest.mark.parametrize("view", [_negative, _reversed_strides, _every_second])
@every_operator
def test_views_count_by_their_numbers_not_by_their_memory(function, shapes, view) -> None:
    tensors = _inputs(shapes)
    expected = _results(function, tensors)
    for i in range(len(tensors)):
        found = _results(function, [view(t) if i == j else t for j, t in enumerate(tensors)])
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(_results(function, tensors, view), expected)


@every_operator
def test_zeros_without_memory_count_as_zeros(function, shapes) -> None:
    tensors = _inputs(shapes)
    zeros = [torch.zeros_like(tensors[0]), *tensors[1:]]
    without = [torch._efficientzerotensor(tensors[0].shape), *tensors[1:]]
    torch.testing.assert_close(_results(function, without), _results(function, zeros))
    found = _results(function, tensors, lambda g: torch._efficientzerotensor(g.shape))
    assert all(not g.any() for g in found[2:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
def test_half_precision_is_computed_in_float32(backend, dtype) -> None:
    tensors = [t.to(dtype) for t in _inputs(OPERATORS["scan"][1])]
    results = []
    for name, given in ((backend, tensors), ("reference", [t.double() for t in tensors])):
        leaves = [t.clone().requires_grad_() for t in given]
        with scan_backend(name):
            y = _scan(*leaves)
        grads = torch.autograd.grad(y.double().cos().sum(), leaves)
        assert [g.dtype for g in grads] == [t.dtype for t in given]
        results.append([y.detach(), *grads])
    for found, expected in zip(*results, strict=True):
        assert (found.double() - expected).norm() < 5e-3 * expected.norm()


@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
@pytest.mark.parametrize("name", ["scan", "conv", "permuted"])
def test_autocast_rounds_nothing_within_a_scan(name, backend) -> None:
    function, shapes = OPERATORS[name]
    tensors = _inputs(shapes)
    with scan_backend(backend):
        expected = _results(function, tensors)
        found = _results(torch.autocast("cpu", torch.bfloat16)(function), tensors)
    torch.testing.assert_close(found, expected)
